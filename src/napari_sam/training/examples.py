"""Which windows of labelled volumes a run trains on, and which it holds back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_mask
from napari_sam.core.sampling import lerp
from napari_sam.embeddings.source import grid_for
from napari_sam.engine.windows import FILL
from napari_sam.errors import VolumeError
from napari_sam.results.label_objects import iter_blocks, iter_planes
from napari_sam.training.prompts import CELL
from napari_sam.training.trainable import resize_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.preprocess import ResizeTransform
    from napari_sam.core.tiles import Tile, TileGrid
    from napari_sam.training.labelled import LabelledVolume
    from napari_sam.training.trainable import Trainable

MIN_OBJECT_AREA = 20
"""Smaller objects, in pixels, are neither trained on nor scored."""
MIN_PLANES = 3
"""Planes with objects that a run needs: to train, to stop, and to be judged by."""
_WHOLE_SOURCES = 5
"""From this many images on, an image is held back whole or not at all."""
_BLOCKS = 10
"""Stretches that the planes of fewer images are cut into: neighbours are alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One window, and masks of the objects that are prompted in it."""

    source: int
    """Position of its volume in the list."""
    plane: Plane
    tile: Tile
    cells: tuple[int, int]
    """(H / 2, W / 2) of the frame."""
    crops: tuple[tuple[Bbox, np.ndarray], ...]
    """Box in cells and the bits of each mask in it."""

    def objects_in(self, part: Bbox) -> np.ndarray:
        """Which objects lie whole in a part of the frame, a box in cells."""
        y0, x0, y1, x1 = part
        boxes = np.array([bbox for bbox, _ in self.crops])
        after = (boxes[:, 0] >= y0) & (boxes[:, 1] >= x0)
        return np.flatnonzero(after & (boxes[:, 2] <= y1) & (boxes[:, 3] <= x1))

    def masks(self, which: np.ndarray) -> np.ndarray:
        """Masks (P, H / 2, W / 2), bool, of some of the objects."""
        out = np.zeros((len(which), *self.cells), bool)
        for mask, i in zip(out, which, strict=True):
            (y0, x0, y1, x1), bits = self.crops[i]
            h, w = y1 - y0, x1 - x0
            mask[y0:y1, x0:x1] = np.unpackbits(bits, count=h * w).reshape(h, w)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPlane:
    """The objects of one plane."""

    source: int
    plane: Plane
    objects: np.ndarray
    """(N, 5) int: id, y0, x0, y1, x1 in level-0 pixels of the plane, half-open."""


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Planes by their use; no plane has two."""

    train: tuple[LabelledPlane, ...]
    stop: tuple[LabelledPlane, ...]
    """Say after each epoch whether training still helps."""
    held_back: tuple[LabelledPlane, ...]
    """Judge the model before and after."""


def labelled_planes(
    volumes: Sequence[LabelledVolume],
) -> tuple[list[LabelledPlane], str]:
    """List the planes that have objects large enough, and hash all labels.

    Raises
    ------
    VolumeError
        If there is no object, or too few planes have any.
    """
    found: list[LabelledPlane] = []
    digest = hashlib.sha256()
    for source, labelled in enumerate(volumes):
        opened = labelled.opened()  # what it decodes is not kept
        for plane in iter_planes(opened.volume.shape, 0):
            objects = opened.objects(plane)
            objects = objects[objects[:, 1] >= MIN_OBJECT_AREA]
            if not len(objects):
                continue
            digest.update(f"{source} {plane}".encode())
            for _, block in iter_blocks(opened.labels, plane):
                digest.update(np.ascontiguousarray(block, np.int64).tobytes())
            found.append(LabelledPlane(source, plane, objects[:, [0, 2, 3, 4, 5]]))
    if not found:
        raise VolumeError(
            f"no labelled object of {MIN_OBJECT_AREA} pixels or more in {len(volumes)} "
            "image(s): labels hold 0 for background and a number from 1 for each object"
        )
    if len(found) < MIN_PLANES:
        raise VolumeError(
            f"training needs at least {MIN_PLANES} images or planes with labelled "
            "objects, because some are held back to judge the model; got "
            f"{len(found)}. Label a few more"
        )
    return found, digest.hexdigest()


def split_planes(
    planes: Sequence[LabelledPlane], validation: float, seed: int
) -> Shares:
    """Hold back a share of the planes to stop by, and another as large to judge by.

    Of five images or more, whole images are held back, else stretches of planes that
    follow each other. The same seed gives the same shares.

    Raises
    ------
    VolumeError
        If `validation` leaves nothing to train on.
    """
    groups = _groups(planes)
    n = max(1, round(validation * len(groups)))
    if not 0 < validation < 0.5 or len(groups) - 2 * n < 1:
        raise VolumeError(
            "validation is the share of images held back to stop by, and again to "
            f"judge by: a number above 0 and below 0.5; got {validation} of "
            f"{len(groups)}"
        )
    order = np.random.default_rng([seed, 77]).permutation(len(groups))

    def those(which: np.ndarray) -> tuple[LabelledPlane, ...]:
        return tuple(p for i in np.sort(which) for p in groups[i])

    return Shares(those(order[2 * n :]), those(order[:n]), those(order[n : 2 * n]))


def examples_of(
    planes: Sequence[LabelledPlane],
    volumes: Sequence[LabelledVolume],
    trainable: Trainable,
) -> list[Example]:
    """Put each object into the window that a click on it would be answered in.

    Labels are read here, one image at a time, and not again.
    """
    model = trainable.model
    out: list[Example] = []
    source, labelled = -1, volumes[0]
    for each in planes:
        if each.source != source:
            source, labelled = each.source, volumes[each.source].opened()
        grid = grid_for(labelled.volume, model, each.plane.axis)
        by_tile: dict[int, list[np.ndarray]] = {}
        for row in each.objects:
            by_tile.setdefault(tile_for(row[1:], grid).number, []).append(row)
        for number, rows in sorted(by_tile.items()):
            tile = grid.tile_by_number(number)
            size = (tile.window.h, tile.window.w)
            h, w = trainable.frame_shape(size)
            edges = _cell_edges(tile, resize_of(model, size), (h, w))
            crops = tuple(_crop(labelled, each.plane, row, edges) for row in rows)
            out.append(Example(source, each.plane, tile, (h // CELL, w // CELL), crops))
    return out


def tile_for(bbox: np.ndarray, grid: TileGrid) -> Tile:
    """Return the finest tile that holds a box (y0, x0, y1, x1) of level 0."""
    y0, x0, y1, x1 = (float(v) for v in bbox)
    for level in range(grid.n_levels):
        center = grid.on_level(((y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5), level)
        tile = grid.owner(level, *center)
        ty, tx, by, bx = tile.window.box_to_window((y0, x0, y1, x1))
        inside = ty >= 0 and tx >= 0 and by <= tile.window.h and bx <= tile.window.w
        alone = grid.n_tiles(level) == 1
        if inside and (alone or max(by - ty, bx - tx) <= FILL * grid.side):
            return tile
    return tile


def _cell_edges(
    tile: Tile, resize: ResizeTransform, frame: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Level-0 rows and columns where a frame's cells of 2 pixels begin and end.

    Cells behind the window's end have no extent.
    """
    window = tile.window
    rows, cols = (
        (np.minimum(np.arange(0, n + 1, CELL) * (real / fill), real) + start) * step
        for n, real, fill, start, step in zip(
            frame, (window.h, window.w), resize.input_size, (window.y0, window.x0),
            window.step, strict=True,
        )
    )  # fmt: skip
    return rows, cols


def _crop(
    labelled: LabelledVolume,
    plane: Plane,
    row: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray],
) -> tuple[Bbox, np.ndarray]:
    """One object on the cells: never empty. Only its own box of labels is read."""
    object_id, y0, x0, y1, x1 = (int(v) for v in row)
    found = np.asarray(labelled.labels[plane.window((y0, x0, y1, x1))]) == object_id
    share = _area_mean(found, edges[0] - y0, edges[1] - x0)
    mask = share >= min(0.5, float(share.max()))
    bbox, crop = crop_mask(mask)
    return bbox, np.packbits(crop)


def _area_mean(mask: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Share of each cell between edges that a mask covers; outside it is nothing."""
    area = mask.astype(np.float32)
    for axis, edges in enumerate((ys, xs)):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 0)
        total = np.cumsum(np.pad(area, pad), axis=axis)
        width = np.maximum(np.max(np.diff(edges)), 1e-9)
        area = np.diff(lerp(total, edges, axis), axis=axis) / width
    return area


def _groups(planes: Sequence[LabelledPlane]) -> list[list[LabelledPlane]]:
    sources = sorted({p.source for p in planes})
    if len(sources) >= _WHOLE_SOURCES:
        return [[p for p in planes if p.source == s] for s in sources]
    n = min(_BLOCKS, len(planes))
    cuts = np.linspace(0, len(planes), n + 1).round().astype(int)
    return [list(planes[a:b]) for a, b in pairwise(cuts)]
