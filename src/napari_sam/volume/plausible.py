"""What a file may say of its pixels before it is believed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.memory import available_bytes, readable_size
from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.layout import Layout
    from napari_sam.volume.lazy_arrays import Array

LONGEST_SIDE = 2**31 - 1
"""Pixels along an axis; more are taken for a damaged header."""
MOST_AXES = 16
_WINDOW = 1024
_CHUNKS_PER_WINDOW = 65_536
"""Most chunks under a window of `_WINDOW` squared."""


def check_levels(levels: Sequence[Array], notes: list[str]) -> list[Array]:
    """Check the levels of a pyramid, and leave out those that shrink no further.

    Parameters
    ----------
    levels : sequence of array-likes
        Finest first.
    notes : list of str
        What was left out is told here.

    Raises
    ------
    VolumeError
        If they are no image, no pyramid, or of a size that nothing could read.
    """
    first = levels[0]
    kind = np.dtype(first.dtype).kind
    if kind not in "buif":
        raise VolumeError(
            f"pixels must be bool, integers or floats; got {first.dtype}. Convert the "
            "array first (np.abs for complex values)."
        )
    if first.ndim < 2 or min(first.shape) < 1:
        raise VolumeError(
            f"an image needs at least two axes and one pixel; got shape {first.shape}"
        )
    for level in levels:
        _check_size(level)
    kept = [first]
    for finer, coarser in pairwise(levels):
        sizes = math.prod(finer.shape), math.prod(coarser.shape)
        if finer.ndim != coarser.ndim or sizes[0] < sizes[1] or sizes[1] == 0:
            raise _no_pyramid(levels)
        if sizes[0] == sizes[1]:
            # Writers repeat the smallest level where it cannot be halved; equal
            # arrays from the start are images, not levels.
            if finer is first:
                raise _no_pyramid(levels)
            continue
        if np.dtype(coarser.dtype) != np.dtype(first.dtype):
            raise VolumeError(
                f"the levels of a pyramid must be of one type; got {first.dtype} and "
                f"{coarser.dtype}"
            )
        kept.append(coarser)
    if len(kept) < len(levels):
        notes.append(
            f"{len(levels) - len(kept)} of its {len(levels)} levels are no smaller "
            "than those before them and were left out"
        )
    return kept


def _no_pyramid(levels: Sequence[Array]) -> VolumeError:
    return VolumeError(
        "a list of arrays is a pyramid, finest first, so shapes must shrink; "
        f"got {[tuple(a.shape) for a in levels]}. Stack separate images of one "
        "size with np.stack."
    )


def _check_size(array: Array) -> None:
    shape = tuple(array.shape)
    if len(shape) > MOST_AXES or max(shape) > LONGEST_SIDE:
        raise VolumeError(
            f"an image of shape {shape} is beyond what can be read (up to "
            f"{MOST_AXES} axes and {LONGEST_SIDE} pixels along each): the header is "
            "damaged"
        )
    chunks = getattr(array, "chunks", None)
    if isinstance(array, np.ndarray) or not chunks:
        return
    if not all(isinstance(c, (int, np.integer)) and c > 0 for c in chunks):
        return  # dask's chunks: one tuple for each axis
    check_chunks(shape, chunks, np.dtype(array.dtype))


def check_chunks(
    shape: Sequence[int], chunks: Sequence[int], dtype: np.dtype[Any]
) -> None:
    """Refuse chunks that no memory holds, or that are too small to be counted.

    Raises
    ------
    VolumeError
    """
    if min(chunks) < 1 or min(shape) < 1:
        raise VolumeError(
            f"an image of shape {tuple(shape)} in chunks of {tuple(chunks)} has no "
            "pixel: the header is damaged"
        )
    n_bytes, free = math.prod(chunks) * dtype.itemsize, available_bytes()
    if n_bytes > free // 2:
        raise VolumeError(
            f"one chunk of shape {tuple(chunks)} takes {readable_size(n_bytes)} of "
            f"memory, and {readable_size(free)} are free: write the image in smaller "
            "chunks or tiles"
        )
    under = 1
    for n, c in zip(shape[-2:], chunks[-2:], strict=True):
        under *= -(-min(n, _WINDOW) // c)
    if under > _CHUNKS_PER_WINDOW:
        raise VolumeError(
            f"chunks of shape {tuple(chunks)} cut the image into pieces too small to "
            "be read: write it in chunks of about 256 x 256 pixels"
        )


def with_known_spacing(layout: Layout, notes: list[str]) -> Layout:
    """Leave out what a file says of sizes that no pixel can have.

    Spacing that is zero, negative, NaN or infinite counts as unknown, and so do an
    origin or affine that is not finite, or an affine that folds the image flat.
    """
    spacing = {n: float(s) for n, s in layout.spacing.items() if _is_length(s)}
    origin = {n: float(s) for n, s in layout.origin.items() if np.isfinite(float(s))}
    affine = layout.affine
    if affine is not None and not _is_invertible(affine):
        notes.append(
            "the place that its header gives is not one (not finite, or flat), so "
            "positions are in pixels times the spacing"
        )
        affine = None
    wrong = sorted(set(layout.spacing) - set(spacing))
    if wrong:
        given = ", ".join(f"{n} = {layout.spacing[n]}" for n in wrong)
        notes.append(f"the pixel size in its header cannot be true ({given}): unknown")
    if wrong or len(origin) < len(layout.origin) or affine is not layout.affine:
        units = {n: u for n, u in layout.units.items() if n not in wrong}
        return replace(
            layout, spacing=spacing, origin=origin, affine=affine, units=units
        )
    return layout


def _is_length(value: Any) -> bool:
    value = float(value)
    return math.isfinite(value) and value > 0 and math.isfinite(1 / value)


def _is_invertible(affine: np.ndarray) -> bool:
    affine = np.asarray(affine, float)
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:-1, :-1], axis=0)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        return False
    return bool(abs(np.linalg.det(affine[:-1, :-1] / lengths)) > 1e-9)
