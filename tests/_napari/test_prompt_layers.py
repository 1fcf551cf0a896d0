import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam._napari.prompt_layers import PromptLayers
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts


@pytest.fixture
def made():
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((5, 40, 50)),
        name="scan",
        scale=(3, 0.5, 0.5),
        translate=(10, -4, 2),
        units=("mm", "mm", "mm"),
    )
    layers = PromptLayers(viewer, image, (5, 40, 50), lambda call: call())
    layers.arm("point")
    return viewer, image, layers


def test_arming_makes_a_named_layer_in_the_images_place_and_selects_it(made):
    viewer, image, layers = made
    points = layers.points
    assert points.name == "scan · points"
    assert viewer.layers.selection.active is points and points.mode == "add"
    at = np.array([2.0, 7.0, 9.0])
    np.testing.assert_allclose(points.data_to_world(at), image.data_to_world(at))
    assert points.units == image.units
    layers.arm("box")
    assert layers.shapes.name == "scan · shapes"
    assert layers.shapes.mode == "add_rectangle"
    assert list(viewer.layers) == [image, points, layers.shapes]


def test_layers_are_reused_by_the_next_widget(made):
    viewer, image, layers = made
    layers.close()
    again = PromptLayers(viewer, image, (5, 40, 50), lambda call: call())
    again.arm("point")
    assert again.points is layers.points and len(viewer.layers) == 2


def test_points_carry_sign_plane_and_order(made):
    _, _, layers = made
    told = []
    layers.edited.connect(lambda: told.append(1))
    layers.points.add([2, 10, 12])
    layers.set_polarity(0)
    layers.points.add([2, 11, 30])
    layers.points.add([4, 1, 2])
    said = layers.prompts()
    assert len(told) == 3
    assert said[Plane((2,))].points == ((10, 12), (11, 30))
    assert said[Plane((2,))].point_labels == (1, 0)
    assert said[Plane((4,))].point_labels == (0,)


def test_selecting_a_point_does_not_change_the_sign_of_the_next_one(made):
    _, _, layers = made
    layers.set_polarity(0)
    layers.points.add([0, 1, 1])
    layers.set_polarity(1)
    layers.points.selected_data = {0}
    layers._before_click(layers.points, None)
    layers.points.add([0, 5, 5])
    assert layers.prompts()[Plane((0,))].point_labels == (0, 1)


def test_moved_and_removed_points_are_followed(made):
    _, _, layers = made
    layers.points.add([[1, 3, 3], [1, 8, 8]])
    layers.points.data = [[1, 4, 5], [1, 8, 8]]
    assert layers.prompts()[Plane((1,))].points[0] == (4, 5)
    layers.points.selected_data = {1}
    layers.points.remove_selected()
    assert layers.prompts()[Plane((1,))].n_clicks == 1


def test_a_box_has_half_open_edges_and_the_newest_one_counts(made):
    _, _, layers = made
    layers.arm("box")
    for low, high in ((3, 9), (5, 12)):
        corners = [(1, low, low), (1, low, high), (1, high, high), (1, high, low)]
        layers.shapes.add_rectangles(np.array(corners, float))
    layers.drop_older()
    assert len(layers.shapes.data) == 1
    assert layers.prompts()[Plane((1,))].box == (5.5, 5.5, 12.5, 12.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_shown_reads_back_the_same(made, axis):
    _, _, layers = made
    told = []
    layers.edited.connect(lambda: told.append(1))
    said = {
        Plane((3,), axis): Prompts.of(
            points=[(4.25, 6), (1, 2.5)], point_labels=[0, 1], box=(1, 2, 30, 31)
        ),
        Plane((1,), axis): Prompts.of(points=[(2, 2)]),
    }
    layers.show(said, axis)
    back = layers.prompts()
    assert {p: v.to_json() for p, v in back.items()} == {
        p: v.to_json() for p, v in said.items()
    }
    assert not told


def test_prompts_of_a_deleted_layer_stay_and_come_back_with_it(made):
    viewer, _, layers = made
    layers.points.add([2, 10, 12])
    viewer.layers.remove(layers.points)
    assert layers.prompts()[Plane((2,))].points == ((10, 12),)
    layers.arm("point")
    np.testing.assert_array_equal(layers.points.data, [[2, 10, 12]])
    assert layers.prompts()[Plane((2,))].points == ((10, 12),)
