"""Objects as the rows of a table: who they are, how large and where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.results.label_arrays import iter_blocks_of
from napari_sam.results.label_objects import moments_in_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam.results.results import Results

_SHORT = {
    "micrometer": "um", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm",
    "meter": "m", "pixel": "px",
}  # fmt: skip


def object_table(results: Results) -> list[dict[str, Any]]:
    """Return one row an object, and one a time point where there is time.

    Read block by block, in one pass; only blocks that were written are read.

    Returns
    -------
    list of dict
        By rising id. ``object_id``, ``class``, ``name``, ``review``, ``note``,
        ``parent``, ``origin`` (those of its planes), ``predicted_iou`` (the least),
        ``doubt`` (the greatest), ``pixels``, ``size`` in ``size_unit`` (area or
        volume), ``bbox_<axis>_start`` and ``_stop`` (pixels, half-open), and
        ``centroid_<axis>`` in the world, in the units of the image.
    """
    axes = results.volume.axes
    time = axes.index("t") if "t" in axes else None
    rows = []
    for (t, object_id), (count, low, high, total) in sorted(_measured(results, time)):
        mean = total / count
        row = _known(results, object_id)
        if time is not None:
            row["t"] = t
        row |= {"pixels": int(count), **_size(results, int(count))}
        for i, axis in enumerate(axes):
            if i != time:
                row[f"bbox_{axis}_start"] = int(low[i])
                row[f"bbox_{axis}_stop"] = int(high[i])
        world = np.asarray(results.volume.affine, float) @ (*mean, 1.0)
        for i, axis in enumerate(axes):
            if i != time:
                row[f"centroid_{axis}"] = float(world[i])
        rows.append(row)
    return rows


def _known(results: Results, object_id: int) -> dict[str, Any]:
    record = results.record(object_id)
    scores = [p.score for p in record.planes.values() if p.score is not None]
    doubts = [p.doubt for p in record.planes.values() if p.doubt is not None]
    return {
        "object_id": object_id,
        "class": record.class_name,
        "name": record.name or None,
        "review": record.review,
        "note": record.note or None,
        "parent": record.parent,
        "origin": ", ".join(sorted({p.origin for p in record.planes.values()})) or None,
        "predicted_iou": min(scores, default=None),
        "doubt": max(doubts, default=None),
    }


def _size(results: Results, count: int) -> dict[str, Any]:
    volume = results.volume
    space = [i for i, a in enumerate(volume.axes) if a in ("x", "y", "z")]
    units = {volume.units[i] for i in space}
    if len(units) != 1:
        return {"size": float(count), "size_unit": "px"}
    linear = np.asarray(volume.affine, float)[np.ix_(space, space)]
    short = _SHORT.get(unit := units.pop(), unit)
    return {
        "size": count * abs(float(np.linalg.det(linear))),
        "size_unit": short if short == "px" else f"{short}^{len(space)}",
    }


def _measured(
    results: Results, time: int | None
) -> Iterator[tuple[tuple[int, int], tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
    """Pixels, lowest and highest index and sum of indices of each object."""
    found: dict[tuple[int, int], list[Any]] = {}
    for spans in iter_blocks_of(results.labels):
        block = np.asarray(results.labels[spans])
        start = np.array([s.start for s in spans])
        steps = [None] if time is None else range(block.shape[time])
        for step in steps:
            part, corner = block, start
            if time is not None and step is not None:
                part = np.take(block, [step], time)
                corner = start + step * (np.arange(block.ndim) == time)
            for object_id, count, low, high, total in moments_in_block(part):
                key = (0 if time is None else int(corner[time]), object_id)
                low, high, total = low + corner, high + corner, total + count * corner
                old = found.get(key)
                if old is not None:
                    count, low = count + old[0], np.minimum(low, old[1])
                    high, total = np.maximum(high, old[2]), total + old[3]
                found[key] = [count, low, high, total]
    for key, (count, low, high, total) in found.items():
        yield key, (count, low, high, total)


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of the columns, in the order of the first row."""
    return list(rows[0]) if rows else ["object_id"]


def finite(value: Any) -> Any:
    """Return a value as a cell: nothing where it is unknown or no finite number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
