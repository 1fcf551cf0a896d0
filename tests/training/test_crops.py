import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.errors import VolumeError
from napari_sam.testing import phantom_image, phantom_volume
from napari_sam.training.crops import PIECES, pieces_of
from napari_sam.volume.opening import open_volume


def _ids(piece):
    return set(np.unique(piece.labels).tolist()) - {0}


def test_one_image_becomes_pieces_that_share_no_object():
    cells = phantom_image((200, 300), n_objects=12, noise=0)
    pieces = pieces_of(open_volume(cells.image), cells.labels, side=64)
    assert len(pieces) == PIECES
    seen = [k for piece in pieces for k in _ids(piece)]
    assert sorted(seen) == list(range(1, 13))
    for piece in pieces:
        assert min(piece.volume.shape) >= 64
        assert piece.volume.shape == piece.labels.shape
        for k in _ids(piece):
            assert (piece.labels == k).sum() == (cells.labels == k).sum()


def test_a_piece_shows_the_pixels_around_its_objects_with_the_same_intensity():
    cells = phantom_image((100, 160), n_objects=3, noise=0, dtype="uint16")
    volume = open_volume(cells.image)
    mapping = volume.intensity.with_window(10, 90)
    pieces = pieces_of(volume, cells.labels, side=32, intensity=mapping)
    assert len(pieces) == 3
    for piece in pieces:
        (k,) = _ids(piece)
        assert piece.volume.intensity.windows == mapping.windows
        shown = np.asarray(piece.volume.plane(0))[piece.labels == k]
        assert set(shown) == set(cells.image[cells.labels == k])


def test_pieces_of_colour_images_keep_their_channels():
    cells = phantom_image((80, 120), n_objects=3, noise=0)
    rgb = np.stack([cells.image, cells.image // 2, cells.image // 3], axis=-1)
    volume = open_volume(rgb)
    for piece in pieces_of(volume, cells.labels, side=32):
        assert piece.volume.n_channels == 3
        assert piece.volume.intensity.to_json() == volume.intensity.to_json()


def test_a_stack_with_enough_planes_stays_whole_and_is_not_changed_later():
    stack = phantom_volume((8, 48, 64), n_objects=2, noise=0)
    labels = stack.labels.copy()
    (whole,) = pieces_of(open_volume(stack.image), labels, side=32)
    labels[:] = 0
    np.testing.assert_array_equal(whole.labels, stack.labels)


def test_planes_along_another_axis_are_pieces_of_their_own():
    stack = phantom_volume((24, 40, 48), n_objects=2, noise=0)
    planes = [Plane((y,), 1) for y in (14, 20, 26)]
    volume = open_volume(stack.image)
    pieces = pieces_of(volume, stack.labels, planes, side=16)
    assert len(pieces) >= 3
    total = sum((p.labels > 0).sum() for p in pieces)
    assert total == (stack.labels[:, [14, 20, 26]] > 0).sum()


@pytest.mark.parametrize("n", [0, 2])
def test_too_few_objects_are_refused_with_what_to_do(n):
    cells = phantom_image((64, 96), n_objects=4, noise=0)
    labels = np.where(cells.labels <= n, cells.labels, 0)
    with pytest.raises(VolumeError, match=f"{n} annotated so far"):
        pieces_of(open_volume(cells.image), labels, side=32)
