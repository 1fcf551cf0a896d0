"""Objects cut out for models that look at one thing at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.engine.crops import masked_crops
from napari_sam.engine.engine import Engine
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume
from napari_sam.volume.volume import Volume

FILL = (1, 2, 3)


def engine(image: np.ndarray) -> Engine:
    return Engine.of(open_volume(image), ToyModel(64), embeddings=False)


def scene(shape: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    """A bright disk that touches bright surroundings on its left half."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    disk = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    image = np.full((*shape, 3), 90, np.uint8)
    image[disk] = (200, 100, 50)
    return image, disk


def test_an_object_is_shown_whole_and_alone() -> None:
    image, disk = scene()
    (crop,) = masked_crops(engine(image), Plane(()), [MaskPrompt.of(disk)], 64, FILL)
    inside = np.abs(crop.astype(int) - (200, 100, 50)).max(2) < 20
    # The disk is 29 of 34.8 pixels wide; nothing of its surroundings is seen.
    assert 0.9 < inside.mean() / (np.pi / 4 / 1.2**2) < 1.05
    assert (crop[[0, -1]] == FILL).all() and (crop[:, [0, -1]] == FILL).all()
    ys, xs = np.nonzero(inside)
    assert abs(ys.mean() - 31.5) < 1 and abs(xs.mean() - 31.5) < 1


@pytest.mark.parametrize("corner", [(0, 0), (0, 70), (50, 0), (50, 70)])
def test_objects_at_the_edge_and_of_one_pixel_are_shown(
    corner: tuple[int, int],
) -> None:
    image, _ = scene()
    y, x = corner
    boxes = [(y, x, y + 10, x + 10), (y + 9, x + 9, y + 10, x + 10)]
    masks = [MaskPrompt(b, np.ones((b[2] - b[0],) * 2, bool)) for b in boxes]
    found = masked_crops(engine(image), Plane(()), masks, 32, FILL)
    assert found.shape == (2, 32, 32, 3)
    assert (np.abs(found[:, 12:20, 12:20].astype(int) - 90) < 3).all()
    assert masked_crops(engine(image), Plane(()), [], 32, FILL).shape == (0, 32, 32, 3)


def test_a_large_object_is_read_at_a_coarse_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    y, x = np.mgrid[:1000, :1200]
    disk = (y - 500) ** 2 + (x - 600) ** 2 < 450**2
    made = engine(np.where(disk, 220, 40).astype(np.uint8))
    read: list[int] = []
    original = Volume.read

    def noting(volume: Volume, plane: Plane, window: Window) -> np.ndarray:
        read.append(window.h * window.w)
        return original(volume, plane, window)

    monkeypatch.setattr(Volume, "read", noting)
    (crop,) = masked_crops(made, Plane(()), [MaskPrompt.of(disk)], 32, (0, 0, 0))
    assert max(read) < 100 * 100
    assert crop[16, 16, 0] > 200 and (crop[0] == 0).all()


def test_planes_of_long_pixels_are_shown_with_square_ones() -> None:
    stack = np.zeros((20, 40, 40), np.uint8)
    stack[5:15, :, 10:20] = 200  # 10 x 10 pixels of 5 x 1: 50 units high, 10 wide
    volume = replace(
        open_volume(stack), spacing=(5.0, 1.0, 1.0), units=("millimeter",) * 3
    )
    made = Engine.of(volume, ToyModel(64), embeddings=False)
    plane = Plane.of((20, 40, 40), 20, axis=1)
    mask = MaskPrompt((5, 10, 15, 20), np.ones((10, 10), bool))
    (crop,) = masked_crops(made, plane, [mask], 60, (0, 0, 0))
    ys, xs = np.nonzero(crop[..., 0] > 100)
    assert abs(np.ptp(ys) - 49) <= 1 and abs(np.ptp(xs) - 9) <= 1
