"""Coordinate transformations of OME-Zarr as matrices: 0.4, 0.5 and 0.6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEEPEST = 16


def chained(steps: Any, names: Sequence[str], notes: list[str]) -> np.ndarray:
    """Multiply transformations, applied in their order.

    Parameters
    ----------
    steps : list of dict
        As the metadata hold them.
    names : sequence of str
        Of the axes.
    notes : list of str
        Sizes that cannot be true are told here and taken for 1.

    Returns
    -------
    ndarray, (n + 1, n + 1)

    Raises
    ------
    VolumeError
        If one is not affine, or does not fit the axes.
    """
    return _chained(steps, names, notes, 0)


def _chained(
    steps: Any, names: Sequence[str], notes: list[str], depth: int
) -> np.ndarray:
    if not isinstance(steps, list) or depth > _DEEPEST:
        raise VolumeError("the OME-Zarr metadata hold transformations that are no list")
    out = np.eye(len(names) + 1)
    for step in steps:
        out = _matrix(step, names, notes, depth) @ out
    return out


def _matrix(
    step: Any, names: Sequence[str], notes: list[str], depth: int
) -> np.ndarray:
    kind = step.get("type") if isinstance(step, dict) else None
    n = len(names)
    out = np.eye(n + 1)
    if kind == "scale" and "scale" in step:
        out[range(n), range(n)] = _sizes(step["scale"], names, notes)
    elif kind == "translation" and "translation" in step:
        shift = _numbers(step["translation"], (n,), kind)
        out[:n, n] = np.where(np.isfinite(shift), shift, 0.0)
    elif kind == "affine" and "affine" in step:
        out[:n] = _numbers(step["affine"], (n, n + 1), kind)
    elif kind == "rotation" and "rotation" in step:
        out[:n, :n] = _numbers(step["rotation"], (n, n), kind)
    elif kind == "mapAxis" and sorted(_list(step.get("mapAxis"))) == list(range(n)):
        out[:n, :n] = np.eye(n)[_list(step["mapAxis"])]
    elif kind == "sequence":
        out = _chained(step.get("transformations"), names, notes, depth + 1)
    elif kind == "bijection":
        out = _chained([step.get("forward")], names, notes, depth + 1)
    elif kind == "byDimension":
        out = _by_dimension(step, names, notes, depth + 1)
    elif kind != "identity":
        raise VolumeError(
            f"the OME-Zarr metadata place the image by a transformation of type "
            f"{kind!r}, which is not read (scale, translation, rotation, affine, "
            "mapAxis and sequences of them are): write the image with one of these"
        )
    return out


def _by_dimension(
    step: Mapping[str, Any], names: Sequence[str], notes: list[str], depth: int
) -> np.ndarray:
    out = np.eye(len(names) + 1)
    for entry in _list(step.get("transformations")):
        inner = entry.get("transformation", entry)
        taken = entry.get("input_axes", entry.get("input"))
        given = entry.get("output_axes", entry.get("output"))
        ins, outs = (_indices(axes, names) for axes in (taken, given))
        if len(ins) != len(outs):
            raise VolumeError(
                "the OME-Zarr metadata place the image by a transformation that "
                "changes the number of axes, which is not read"
            )
        part = _chained([inner], [names[i] for i in ins], notes, depth)
        out[outs] = 0.0
        out[np.ix_(outs, [*ins, -1])] = part[:-1]
    return out


def _indices(axes: Any, names: Sequence[str]) -> list[int]:
    found = [names.index(a) if a in names else a for a in _list(axes)]
    if not all(isinstance(a, int) and 0 <= a < len(names) for a in found):
        raise VolumeError(
            f"the OME-Zarr metadata name axes {axes!r} that are not there"
        )
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sizes(values: Any, names: Sequence[str], notes: list[str]) -> np.ndarray:
    found = _numbers(values, (len(names),), "scale")
    wrong = ~np.isfinite(found) | (found == 0)
    if wrong.any():
        given = ", ".join(
            f"{name} = {value}" for name, value, bad in
            zip(names, found, wrong, strict=True) if bad
        )  # fmt: skip
        notes.append(f"its pixel size cannot be true ({given}): taken for unknown")
    return np.where(wrong, 1.0, found)


def _numbers(values: Any, shape: tuple[int, ...], kind: str) -> np.ndarray:
    try:
        out = np.asarray(values, float)
    except (TypeError, ValueError, OverflowError):
        out = np.empty(0)
    if out.shape != shape:
        raise VolumeError(
            f"the {kind} in the OME-Zarr metadata does not fit the axes: expected "
            f"numbers of shape {shape}, got {str(values)[:80]}"
        )
    return out
