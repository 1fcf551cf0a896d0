"""Objects of a kind have like features, whatever tile, plane or image they are in."""

import numpy as np
import pytest

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crop_mask
from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.pooled import pooled
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume


def _scene(shape, objects, ground=(40, 40, 40)):
    """An image of coloured squares: (y, x, side, colour) each."""
    image = np.full((*shape, 3), ground, np.uint8)
    image += np.random.default_rng(0).integers(0, 6, image.shape, np.uint8)
    masks = []
    for y, x, side, color in objects:
        image[y : y + side, x : x + side] = color
        whole = np.zeros(shape, bool)
        whole[y : y + side, x : x + side] = True
        masks.append(MaskPrompt(*crop_mask(whole)))
    return Engine.of(open_volume(image), ToyModel(48)), masks


RED, BLUE = (200, 60, 50), (50, 70, 210)
PLANE = Plane(())


def test_objects_of_one_colour_are_alike_across_tiles_sizes_and_images():
    engine, masks = _scene(
        (100, 150), [(5, 5, 12, RED), (70, 120, 16, RED), (10, 100, 12, BLUE)]
    )
    here, there, other = (pooled(engine, PLANE, m) for m in masks)
    assert np.linalg.norm(here) == pytest.approx(1, abs=1e-3)
    assert here @ there > 0.85
    assert here @ there > here @ other + 0.02
    second, [again, _] = _scene((64, 64), [(20, 20, 14, RED), (45, 45, 9, BLUE)])
    far = pooled(second, PLANE, again)
    assert far @ here > max(0.8, far @ other)


@pytest.mark.parametrize("side", [1, 30, 90])
def test_objects_of_any_size_at_any_edge_have_features(side):
    engine, masks = _scene((100, 150), [(0, 0, side, RED), (100 - side, 0, side, RED)])
    for mask in masks:
        found = pooled(engine, PLANE, mask)
        assert np.isfinite(found).all() and found.any()


def test_cells_smaller_than_pixels_are_counted_right():
    """A model that enlarges small images has several cells a pixel."""
    from napari_sam.core.tiles import Window
    from napari_sam.engine.pooled import _weights

    mask = MaskPrompt((2, 3, 4, 5), np.ones((2, 2), bool))
    inside, around, (rows, cols) = _weights(mask, Window(0, 0, 0, 8, 8), (24.0, 16.0))
    assert inside.sum() == pytest.approx(1) and around.sum() == pytest.approx(1)
    np.testing.assert_array_equal(rows, [1, 4, 7, 10, 13, 16])
    np.testing.assert_array_equal(cols, [3, 5, 7, 9, 11, 13])
    np.testing.assert_allclose(inside[2:4, 2:4], 0.25)
