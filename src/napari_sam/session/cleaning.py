"""An object's mask tidied: on one plane, or through the whole volume at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.clean import clean
from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask, union_bbox
from napari_sam.core.planes import Plane
from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from napari_sam.core.clean import CleanOptions
    from napari_sam.core.masks import Bbox
    from napari_sam.volume.volume import Volume

_MOST_VOXELS = 2**30
"""An object whose box is larger is tidied plane by plane."""


def cleaned(
    labels: Any,
    volume: Volume,
    object_id: int,
    options: CleanOptions,
    plane: Plane | None,
) -> dict[Plane, MaskPrompt]:
    """Return an object's mask on each plane where tidying changes it.

    Each comes in a box that holds what the object was there and what it is to be.

    Parameters
    ----------
    labels : array-like
        Of the volume's shape; read where the object is.
    volume : Volume
        Whose spacing smoothing respects.
    object_id : int
    options : CleanOptions
    plane : Plane, optional
        Only there, as a 2-D mask; else the object as a whole, at each time point.

    Raises
    ------
    PromptError
        If there is nothing of it, or its box is too large to be held in memory.
    """
    from napari_sam.results.label_objects import boxes_of

    if plane is not None:
        window = (0, 0, *plane.shape(volume.shape))
        box, inside = crop_mask(np.asarray(labels[plane.window(window)]) == object_id)
        boxes = {plane: box} if inside.size else {}
    else:
        boxes = boxes_of(labels, object_id)
    if not boxes:
        raise PromptError(f"there is no pixel of object {object_id} to tidy")
    out: dict[Plane, MaskPrompt] = {}
    for stack in _stacks(boxes).values():
        out |= _changes(labels, volume, object_id, options, stack)
    return out


def _stacks(boxes: Mapping[Plane, Bbox]) -> dict[tuple[int, ...], dict[Plane, Bbox]]:
    """Planes by time point: what lies on one another is one thing."""
    out: dict[tuple[int, ...], dict[Plane, Bbox]] = {}
    for plane, box in boxes.items():
        out.setdefault(plane.index[:-1], {})[plane] = box
    return out


def _changes(
    labels: Any,
    volume: Volume,
    object_id: int,
    options: CleanOptions,
    boxes: Mapping[Plane, Bbox],
) -> dict[Plane, MaskPrompt]:
    whole: Bbox = (0, 0, 0, 0)
    for box in boxes.values():
        whole = union_bbox(whole, box)
    whole = _with_margin(whole, options, next(iter(boxes)).shape(volume.shape))
    numbers = sorted(p.index[-1] for p in boxes if p.index)
    some = next(iter(boxes))
    if len(boxes) == 1 or not numbers:
        planes = [some]
    else:
        span = range(numbers[0], numbers[-1] + 1)
        planes = [Plane((*some.index[:-1], n), some.axis) for n in span]
    h, w = whole[2] - whole[0], whole[3] - whole[1]
    if len(planes) * h * w > _MOST_VOXELS:
        raise PromptError(
            f"object {object_id} spans {len(planes)} x {h} x {w} voxels, too many to "
            "tidy at once: tidy it plane by plane"
        )
    held = np.stack([np.asarray(labels[p.window(whole)]) for p in planes])
    before, free = held == object_id, held == 0
    y, x = some.shown_axes()
    spacing = (float(volume.spacing[y]), float(volume.spacing[x]))
    if len(planes) == 1:
        after = clean(before[0], options, spacing=spacing)[None]
    else:
        depth = float(volume.spacing[len(volume.shape) - 3 + some.axis])
        after = clean(before, options, spacing=(depth, *spacing))
    after &= before | free  # what other objects hold is theirs
    return {
        p: MaskPrompt(whole, new)
        for p, old, new in zip(planes, before, after, strict=True)
        if not np.array_equal(old, new)
    }


def _with_margin(box: Bbox, options: CleanOptions, shape: tuple[int, int]) -> Bbox:
    """Room for a smoothed outline to bulge; no more than the plane has."""
    m = int(np.ceil(options.smooth)) + 1 if options.smooth else 0
    y0, x0, y1, x1 = box
    return max(y0 - m, 0), max(x0 - m, 0), min(y1 + m, shape[0]), min(x1 + m, shape[1])
