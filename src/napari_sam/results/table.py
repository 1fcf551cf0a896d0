"""Objects as a table: who they are, how they came about, and what was measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from napari_sam.results.measure import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_sam.core.objects import ObjectRecord
    from napari_sam.results.measure import MeasureOptions
    from napari_sam.results.results import Results

_BY_A_MODEL = {"clicked", "drawn", "propagated", "suggested"}
"""Origins of pixels that a model made."""


def object_table(
    results: Results,
    options: MeasureOptions | None = None,
    cancel: Callable[[], bool] | None = None,
) -> dict[str, list[Any]]:
    """Return the columns of a table with a row an object, and a time point.

    Returns
    -------
    dict of str to list
        By rising time point and id. ``object_id``, ``class``, ``name``, ``review``,
        ``note``, ``parent``, ``origin`` (those of its planes), ``model`` (where one
        made them), ``predicted_iou`` (the least), ``doubt`` (the greatest), ``planes``
        and ``reviewed_planes``; ``t`` where there is time; ``size_unit``; and what
        `measure` tells.

    Raises
    ------
    VolumeError, Cancelled
    """
    found = measure(results, options, cancel)
    model = results.provenance.get("model")
    ids = found.ids.tolist()
    known = {i: _known(results.record(i), model) for i in dict.fromkeys(ids)}
    names = list(next(iter(known.values()))) if known else ["object_id"]
    out: dict[str, list[Any]] = {n: [known[i][n] for i in ids] for n in names}
    if found.times is not None:
        out["t"] = found.times.tolist()
    for name, values in found.columns.items():
        out[name] = _cells(values)
        if name == "size":
            out["size_unit"] = [found.size_unit] * len(ids)
    return out


def _cells(values: np.ndarray) -> list[Any]:
    """Values as cells: nothing where one is unknown or no finite number."""
    cells = values.tolist()
    if values.dtype.kind == "f":
        return [v if math.isfinite(v) else None for v in cells]
    return list(cells)


def _known(record: ObjectRecord, model: Any) -> dict[str, Any]:
    planes = record.planes.values()
    origins = sorted({p.origin for p in planes})
    return {
        "object_id": record.id,
        "class": record.class_name,
        "name": record.name or None,
        "review": record.review,
        "note": record.note or None,
        "parent": record.parent,
        "origin": ", ".join(origins) or None,
        "model": model if _BY_A_MODEL.intersection(origins) else None,
        "predicted_iou": min(
            (p.score for p in planes if p.score is not None), default=None
        ),
        "doubt": max((p.doubt for p in planes if p.doubt is not None), default=None),
        "planes": len(planes),
        "reviewed_planes": sum(p.reviewed for p in planes),
    }
