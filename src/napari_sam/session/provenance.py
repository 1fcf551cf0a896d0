"""What leaves a session: its results, and how they came about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.results.label_arrays import OnlyLabels
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from napari_sam.session.annotation import Annotation


def results_of(session: Annotation, *, reviewed_only: bool = False) -> Results:
    """Return a session's labels, objects and provenance as one value.

    Parameters
    ----------
    session : Annotation
    reviewed_only : bool
        Leave out objects whose review is not "accepted"; their pixels become 0.
    """
    objects = {i: session.document.record(i) for i in sorted(session.objects)}
    labels: Any = session.labels
    if isinstance(labels, np.ndarray):  # what is written does not change meanwhile
        labels = labels.copy()
    links = dict(session.document.links)
    if reviewed_only:
        links = {
            edge: link
            for edge, link in links.items()
            if all(
                node.object_id in objects
                and objects[node.object_id].review == "accepted"
                for node in edge
            )
        }
        objects = {i: o for i, o in objects.items() if o.review == "accepted"}
        labels = OnlyLabels(labels, objects)
    return Results(
        labels, session.volume, objects, session.classes, provenance(session),
        links=links,
    )  # fmt: skip


def provenance(session: Annotation) -> dict[str, Any]:
    """Model, checkpoint, intensity mapping and version, as plain values."""
    from napari_sam.core.distribution import version

    spec = session.model.spec
    return {
        "software": f"napari-sam {version()}",
        "model": spec.source or spec.name,
        "checkpoint_sha256": spec.sha256,
        "intensity": session.engine.intensity.to_json(),
        "source": session.volume.source,
    }
