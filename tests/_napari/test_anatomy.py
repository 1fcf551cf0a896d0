import nibabel
import numpy as np
import pytest
from dicom_phantoms import write_ct_series

pytest.importorskip("napari", reason="the camera is napari's")

from napari.components import ViewerModel

from napari_sam._napari.anatomy import Anatomy, show_anatomy
from napari_sam._napari.layer_data import layer_data
from napari_sam._napari.plane_view import order_for_axis
from napari_sam.volume.opening import open_volume


def add(viewer, volume):
    [(data, options, _)] = layer_data(volume)
    return viewer.add_image(data, **options)


def orientation(viewer):
    camera = getattr(viewer, "scene", viewer).camera
    return tuple(o.value for o in camera.orientation2d)


@pytest.fixture
def ct(tmp_path):
    write_ct_series(tmp_path / "ct")
    return open_volume(tmp_path / "ct")


@pytest.fixture
def ras(tmp_path):
    path = tmp_path / "head.nii.gz"
    data = np.random.default_rng(0).integers(0, 99, (7, 6, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return open_volume(path)


@pytest.mark.parametrize(
    ("axis", "letters"),
    [(0, ("A", "R", "P", "L")), (1, ("H", "R", "F", "L")), (2, ("H", "A", "F", "P"))],
)
@pytest.mark.parametrize("kind", ["ct", "ras"])
def test_every_plane_is_head_up_and_says_so(request, kind, axis, letters):
    viewer = ViewerModel()
    anatomy = Anatomy(viewer, lambda letters: None)
    add(viewer, request.getfixturevalue(kind))
    viewer.dims.order = order_for_axis(viewer.dims, 3, axis)
    assert anatomy.letters == letters
    stored_up = {
        "ct": {0: ("down", "right"), 1: ("up", "right"), 2: ("up", "right")},
        "ras": {0: ("up", "left"), 1: ("up", "left"), 2: ("up", "left")},
    }
    assert orientation(viewer) == stored_up[kind][axis]


def test_letters_go_in_3d_and_for_images_without_a_patient(ras):
    shown = []
    viewer = ViewerModel()
    anatomy = Anatomy(viewer, shown.append)
    layer = add(viewer, ras)
    assert shown[-1] == ("A", "R", "P", "L")
    viewer.dims.ndisplay = 3
    assert shown[-1] is None
    viewer.dims.ndisplay = 2
    cells = viewer.add_image(np.zeros((4, 5, 6)))
    viewer.layers.selection.active = cells
    assert anatomy.letters is None and orientation(viewer) == ("down", "right")
    viewer.layers.selection.active = layer
    assert anatomy.letters is not None and orientation(viewer) == ("up", "left")


def test_swapped_axes_are_the_users_and_get_their_own_letters(ct):
    viewer = ViewerModel()
    anatomy = Anatomy(viewer, lambda letters: None)
    add(viewer, ct)
    viewer.dims.order = (0, 2, 1)
    assert orientation(viewer) == ("down", "right")
    assert anatomy.letters == ("R", "A", "L", "P")


def test_time_in_front_changes_nothing(tmp_path):
    from dicom_phantoms import write_phases

    write_phases(tmp_path, [{"TriggerTime": t} for t in (0, 40)])
    viewer = ViewerModel()
    anatomy = Anatomy(viewer, lambda letters: None)
    add(viewer, open_volume(tmp_path))
    assert anatomy.letters == ("A", "R", "P", "L")


@pytest.mark.canvas
def test_letters_stand_at_the_edges_of_the_canvas(make_napari_viewer, ras, qtbot):
    viewer = make_napari_viewer()
    show_anatomy(viewer)
    add(viewer, ras)
    canvas = viewer.window._qt_viewer.canvas.native
    from qtpy.QtWidgets import QLabel

    labels = {
        side: canvas.findChild(QLabel, f"napari_sam_{side}")
        for side in ("top", "left", "bottom", "right")
    }
    assert [label.text() for label in labels.values()] == ["A", "R", "P", "L"]
    assert show_anatomy(viewer) is show_anatomy(viewer)
    canvas.resize(500, 400)
    qtbot.waitUntil(lambda: labels["bottom"].y() > 300)
    assert labels["top"].y() < 20 and labels["left"].x() < 20
    assert labels["right"].x() > 400
    viewer.layers.clear()
    assert all(label.isHidden() for label in labels.values())
