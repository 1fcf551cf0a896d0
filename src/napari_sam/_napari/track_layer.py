"""The Tracks layer: where each object goes, and its daughters, coloured by lineage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari.own_layers import TAG, find_layer, keep_active, place_of

if TYPE_CHECKING:
    from napari_sam.core.tracks import Tracks
    from napari_sam.session.track_tables import Places

ROLE = "tracks"
_GOLDEN = 0.618034
_TAIL = 12
"""Frames of a track that are drawn behind the one shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What a Tracks layer takes."""

    data: np.ndarray
    """(n, 2 + d): id, frame, centre in pixels; by id, then frame."""
    graph: dict[int, list[int]]
    """Parents of each track that has any."""
    lineage: np.ndarray
    """(n,): the first ancestor of each."""

    @classmethod
    def of(cls, tracks: Tracks, places: Places) -> Drawing:
        """Draw a lineage; any thread may.

        Parameters
        ----------
        tracks : Tracks
        places : dict
            Centre and diameter of the objects of each frame.
        """
        nodes = sorted(tracks.nodes, key=lambda n: (n.object_id, n.frame))
        rows = [(n.object_id, n.frame, *places[n.frame][n.object_id][0]) for n in nodes]
        ids = {n.object_id for n in nodes}
        graph: dict[int, list[int]] = {}
        for a, b in sorted(tracks.edges):
            if a.object_id != b.object_id:
                graph.setdefault(b.object_id, []).append(a.object_id)
        root: dict[int, int] = {}
        for i in sorted(ids):
            way = [i]
            while way[-1] in graph and graph[way[-1]][0] not in way:
                way.append(graph[way[-1]][0])
            root[i] = way[-1]
        return cls(
            np.array(rows, float), graph, np.array([root[n.object_id] for n in nodes])
        )


class TrackLayer:
    """Shows tracks in a layer of ours, right above the image.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    image : napari.layers.Image
    """

    def __init__(self, viewer: Any, image: Any) -> None:
        self.viewer, self.image = viewer, image

    @property
    def layer(self) -> Any:
        """The layer; None while there is none."""
        return find_layer(self.viewer, self.image, ROLE)

    def show(self, drawing: Drawing) -> None:
        """Draw tracks; the selected layer stays so."""
        if not len(drawing.data):
            self.hide()
            return
        layer = self.layer
        if layer is None:
            layer = self._make(drawing)
        else:  # new data have no features yet to colour by
            layer.color_by = "track_id"
            layer.graph = {}
            layer.data = drawing.data
        # Neighbouring numbers get colours far apart, which stay when others come.
        layer.features = {"lineage": drawing.lineage * _GOLDEN % 1}
        layer.graph = drawing.graph
        layer.color_by = "lineage"
        layer.visible = True

    def hide(self) -> None:
        """Take the layer away."""
        if self.layer is not None:
            self.viewer.layers.remove(self.layer)

    def _make(self, drawing: Drawing) -> Any:
        from napari.layers import Tracks

        ndim = drawing.data.shape[1] - 1
        layer = Tracks(
            drawing.data, name=f"{self.image.name} · {ROLE}", tail_width=2,
            tail_length=_TAIL, colormap="hsv", blending="translucent",
            metadata={TAG: {"role": ROLE, "image": self.image.unique_id}},
            **place_of(self.image, ndim),
        )  # fmt: skip
        with keep_active(self.viewer):
            self.viewer.layers.append(layer)
        return layer
