import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from napari_sam.core.orientation import OPPOSITE, axis_letters, plane_view

NIBABEL = {"S": "H", "I": "F", "A": "A", "P": "P", "L": "L", "R": "R"}
REVERSE = np.eye(4)[[2, 1, 0, 3]]
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affines(count=40):
    rng = np.random.default_rng(4)
    for turn in Rotation.random(count, random_state=3):
        out = np.eye(4)
        out[:3, :3] = turn.as_matrix() @ np.diag(rng.uniform(0.3, 5, 3))
        out[:3, 3] = rng.uniform(-100, 100, 3)
        yield out


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_letters_are_those_that_nibabel_gives(system):
    for affine in affines():
        xyz = REVERSE @ affine @ REVERSE
        ras = TO_RAS @ xyz if system == "LPS" else xyz
        expected = [NIBABEL[c] for c in nibabel.aff2axcodes(ras)][::-1]
        assert list(axis_letters(affine, system)) == expected


def test_time_in_front_changes_nothing():
    affine = np.eye(5)
    affine[1:, 1:] = np.diag([2.0, -1.0, 1.0, 1.0])
    assert axis_letters(affine) == ("H", "A", "L")


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_every_plane_is_shown_as_on_films(system):
    for affine in affines():
        for axis in range(3):
            view = plane_view(affine, axis, system)
            top, left, bottom, right = view.shown
            assert (bottom, right) == (OPPOSITE[top], OPPOSITE[left])
            expected = {
                "axial": ("A", "R"), "coronal": ("H", "R"), "sagittal": ("H", "A"),
            }  # fmt: skip
            assert (top, left) == expected[view.name]


def test_the_pixel_nearest_the_head_comes_to_the_top():
    # A NIfTI stored RAS: its z grows to the head, so its coronal planes lie head down.
    volume = np.zeros((4, 5, 6))
    volume[-1, 2, -1] = 1  # head, right
    view = plane_view(np.eye(4), axis=1, system="RAS")
    shown = view.apply(volume[:, 2])
    assert np.argwhere(shown).tolist() == [[0, 0]]
    assert not view.transpose and view.flip_rows and view.flip_columns


def test_sagittal_slices_acquired_face_down_are_turned():
    # Index (z, y, x) runs to L, to P and to H.
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = affine[3, 3] = 1
    view = plane_view(affine, axis=0)
    assert (view.name, view.transpose) == ("sagittal", True)
    assert view.shown == ("H", "A", "F", "P")


@pytest.mark.parametrize(
    "affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)]
)
def test_an_affine_that_says_nothing_is_refused(affine):
    with pytest.raises(ValueError, match="affine"):
        axis_letters(affine)
