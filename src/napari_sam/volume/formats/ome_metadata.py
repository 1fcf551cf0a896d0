"""The multiscale metadata of OME-Zarr, 0.1 to 0.6: axes, levels, units, place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError
from napari_sam.volume.formats.ome_transforms import chained
from napari_sam.volume.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Multiscale:
    """What the metadata say of one image."""

    paths: tuple[str, ...]
    """Of the levels, finest first."""
    name: str
    entry: Mapping[str, Any]
    channels: tuple[Any, ...] = ()
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, ome: Mapping[str, Any]) -> Multiscale:
        """Take the first multiscale of a group's metadata.

        Raises
        ------
        VolumeError
            If it does not say which levels there are.
        """
        entry = first_entry(ome.get("multiscales"))
        datasets = entry.get("datasets")
        found = datasets if isinstance(datasets, list) else []
        paths = [d.get("path") if isinstance(d, dict) else None for d in found]
        if not paths or not all(isinstance(p, str) and p for p in paths):
            raise VolumeError(
                "the OME-Zarr metadata do not say where the levels of the image are: "
                "expected multiscales[0].datasets with a path each"
            )
        omero = ome.get("omero")
        channels = omero.get("channels") if isinstance(omero, dict) else None
        return cls(
            tuple(str(p) for p in paths),
            str(entry.get("name") or "image"),
            entry,
            tuple(channels) if isinstance(channels, list) else (),
        )

    def layout(self, shape: Sequence[int]) -> Layout:
        """Axes and place of the finest level.

        Parameters
        ----------
        shape : sequence of int
            Of its array.

        Raises
        ------
        VolumeError
            If the metadata do not fit the array, or place it by what no affine holds.
        """
        system = self._system()
        names, units = _axes(self.entry if system is None else system, len(shape))
        matrix = self._matrix(names, system)
        affine = _without_channels(matrix, names)
        spatial = [n for n in names if n != "c"]
        lengths = np.linalg.norm(affine[:-1, :-1], axis=0)
        return Layout(
            axes=names,
            spacing=dict(zip(spatial, map(float, lengths), strict=True)),
            units=units,
            origin=dict(zip(spatial, map(float, affine[:-1, -1]), strict=True)),
            affine=affine,
            rgb=None,
            channel_names=_channel_names(self.channels, names, shape),
        )

    def _system(self) -> Mapping[str, Any] | None:
        """Coordinate system of the levels, where the metadata are of 0.6."""
        systems = self.entry.get("coordinateSystems")
        if systems is None:
            return None
        found = [s for s in _as_list(systems) if isinstance(s, dict)]
        output = _named(_steps(self.entry["datasets"][0]), "output")
        chosen = next((s for s in found if output and s.get("name") == output), None)
        if chosen is None and not found:
            raise VolumeError("the OME-Zarr metadata name no coordinate system")
        others = [str(s.get("name")) for s in found if s is not (chosen or found[0])]
        if others:
            self.notes.append(
                "it can be placed in further coordinate systems "
                f"({', '.join(others)}), which were left out"
            )
        return chosen or found[0]

    def _matrix(
        self, names: tuple[str, ...], system: Mapping[str, Any] | None
    ) -> np.ndarray:
        own = _steps(self.entry["datasets"][0])
        if system is not None:
            return chained(own[:1], names, self.notes)
        whole = self.entry.get("coordinateTransformations") or []
        return chained([*own, *whole], names, self.notes)


def first_entry(value: Any) -> Mapping[str, Any]:
    """Return the first of a list of tables, or an empty one."""
    first = value[0] if isinstance(value, list) and value else None
    return first if isinstance(first, Mapping) else {}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _steps(dataset: Mapping[str, Any]) -> list[Any]:
    found = dataset.get("coordinateTransformations") or []
    return found if isinstance(found, list) else [found]


def _named(steps: list[Any], end: str) -> str | None:
    """Return the coordinate system at an end of a transformation, by its name."""
    given = steps[0].get(end) if steps and isinstance(steps[0], dict) else None
    given = given.get("name") if isinstance(given, dict) else given
    return given if isinstance(given, str) else None


def _axes(
    entry: Mapping[str, Any], ndim: int
) -> tuple[tuple[str, ...], dict[str, str]]:
    given = entry.get("axes") or list("tczyx"[-min(ndim, 5) :])
    axes = [{"name": a} if isinstance(a, str) else a for a in _as_list(given)]
    if len(axes) != ndim or not all(
        isinstance(a, dict) and isinstance(a.get("name"), str) for a in axes
    ):
        raise VolumeError(
            f"the OME-Zarr metadata must name each of the {ndim} axes of the image; "
            f"got {str(given)[:200]}"
        )
    names = tuple(
        "c" if a.get("type") == "channel" else str(a["name"]).lower() for a in axes
    )
    if len(set(names)) < len(names):
        raise VolumeError(f"the OME-Zarr metadata give two axes one name: {names}")
    units = {
        n: str(a["unit"]) for n, a in zip(names, axes, strict=True) if a.get("unit")
    }
    return names, units


def _without_channels(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    kept = [i for i, n in enumerate(names) if n != "c"]
    for c in set(range(len(names))) - set(kept):
        if matrix[c, kept].any() or matrix[kept, c].any():
            raise VolumeError(
                "the OME-Zarr metadata mix the channels with places, which is not read"
            )
    return matrix[np.ix_([*kept, -1], [*kept, -1])]


def _channel_names(
    channels: tuple[Any, ...], names: tuple[str, ...], shape: Sequence[int]
) -> tuple[str, ...]:
    if "c" not in names or len(channels) != shape[names.index("c")]:
        return ()
    labels = [c.get("label") if isinstance(c, dict) else None for c in channels]
    return tuple(str(i if a is None else a) for i, a in enumerate(labels))
