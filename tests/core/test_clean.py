import numpy as np
import pytest
from skimage import morphology

from napari_sam.core.clean import CleanOptions, clean

RNG = np.random.default_rng(3)


def noisy(shape=(40, 50)):
    from scipy import ndimage

    return ndimage.gaussian_filter(RNG.normal(size=shape), 1.5) > 0.1


def test_holes_up_to_a_size_are_filled_as_scikit_image_fills_them():
    mask = noisy()
    found = clean(mask, CleanOptions(largest_hole=12))
    holes = morphology.remove_small_holes(mask, max_size=12, connectivity=1)
    # Only what is closed on all sides is a hole: bays at the image's edge are not.
    closed = clean(mask)
    assert np.array_equal(found, holes & closed | mask)


def test_fragments_go_as_scikit_image_removes_them():
    mask = noisy((12, 30, 30))
    found = clean(mask, CleanOptions(fill_holes=False, smallest_part=30))
    expected = morphology.remove_small_objects(mask, max_size=29, connectivity=3)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("shape", [(40, 50), (10, 30, 30)])
def test_the_largest_part_is_left_alone(shape):
    from scipy import ndimage

    found = clean(noisy(shape), CleanOptions(largest_only=True))
    assert ndimage.label(found, np.ones((3,) * len(shape)))[1] == 1


def test_smoothing_keeps_size_and_takes_raggedness():
    ys, xs = np.mgrid[:100, :100]
    disc = (ys - 50) ** 2 + (xs - 50) ** 2 < 30**2
    ragged = disc ^ ((RNG.random(disc.shape) < 0.3) & noisy((100, 100)) & disc)
    found = clean(ragged, CleanOptions(smooth=2.0))
    assert abs(found.sum() / disc.sum() - 1) < 0.05

    def outline(mask):
        return np.count_nonzero(np.diff(mask, axis=0)) + np.count_nonzero(
            np.diff(mask, axis=1)
        )

    assert outline(found) < 0.7 * outline(ragged)


def test_smoothing_is_even_in_physical_units():
    block = np.zeros((9, 60, 60), bool)
    block[4, 10:50, 10:50] = True  # one slice of 5 mm among pixels of 0.5 mm
    kept = clean(block, CleanOptions(smooth=2.0), spacing=(5.0, 0.5, 0.5))
    lost = clean(block, CleanOptions(smooth=2.0))
    assert kept[4].sum() > 0.9 * block[4].sum()
    assert np.array_equal(lost, block)  # nothing would be left, so nothing is done


def test_an_object_at_the_image_s_edge_stays_there():
    mask = np.zeros((30, 30), bool)
    mask[:, :15] = True
    assert np.array_equal(clean(mask, CleanOptions(smooth=3.0)), mask)


def test_nothing_stays_nothing_and_the_input_as_it_is():
    empty = np.zeros((4, 4), bool)
    assert not clean(empty, CleanOptions(smooth=1, largest_only=True)).any()
    mask = noisy()
    before = mask.copy()
    clean(mask, CleanOptions(smooth=1, smallest_part=5))[:] = False
    assert np.array_equal(mask, before)
