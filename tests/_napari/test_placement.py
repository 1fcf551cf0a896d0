"""Where layers lie in napari's world: computed by napari's own transforms."""

from itertools import product

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_sam import open_volume
from napari_sam._napari.layer_data import label_layer, layer_data, placement
from napari_sam.volume.volume import Volume


def volume_of(linear, origin, **fields):
    n = len(origin)
    affine = np.eye(n + 1)
    affine[:-1, :-1], affine[:-1, -1] = linear, origin
    return Volume(
        levels=(np.zeros((6, 12, 14)[-n:], np.uint8),), axes=tuple("zyx"[-n:]),
        spacing=tuple(np.linalg.norm(affine[:-1, :-1], axis=0)),
        units=("micrometer",) * n, affine=affine, **fields,
    )  # fmt: skip


TURNED = [[0.8, 0.6], [0.6, -0.8]]


@pytest.mark.parametrize(
    "volume",
    [
        pytest.param(volume_of(np.diag([2, 0.5, 0.5]), (3, 1, -9)), id="upright"),
        pytest.param(volume_of(np.diag([2, -0.5, 0.5]), (3, 1, -9)), id="flipped"),
        pytest.param(volume_of(np.array(TURNED) * 10, (5e6, 5e5)), id="turned picture"),
        pytest.param(
            volume_of([[3, 0, 0], [0, 0.8, 0.6], [0, 0.6, -0.8]], (1, 2, 3)),
            id="turned within its planes",
        ),
        pytest.param(volume_of([[1, 0.5], [0, 1]], (1, 2)), id="sheared picture"),
    ],
)
def test_layers_lie_where_the_affine_says(volume):
    [(data, options, _)] = layer_data(volume)
    labels, its, kind = label_layer(np.zeros(volume.shape, "u1"), volume, "labels")

    assert kind == "labels"
    for layer in (Image(data, **options), Labels(labels, **its)):
        for index in product((0, 4), repeat=volume.ndim):
            expected = volume.affine @ [*index, 1]
            np.testing.assert_allclose(layer.data_to_world(index), expected[:-1])
        assert np.allclose(np.abs(layer.scale), volume.spacing)


@pytest.mark.parametrize("seed", range(3))
def test_volumes_turned_alike_lie_in_place_to_each_other(seed):
    rng = np.random.default_rng(seed)
    ways, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    linear = ways * (2.0, 0.5, 0.7)
    whole = volume_of(linear, rng.normal(size=3) * 50)
    part = volume_of(linear, (whole.affine @ [2, 3, 4, 1])[:3])

    first, second = (
        Labels(np.zeros((6, 12, 14), "u1"), **placement(v)) for v in (whole, part)
    )

    for index in product((0, 5), repeat=3):
        shifted = np.add(index, (2, 3, 4))
        np.testing.assert_allclose(
            second.data_to_world(index), first.data_to_world(shifted), atol=1e-9
        )
    # Its slices can be shown: no axis of the layer is turned against the world's.
    steps = np.subtract(first.data_to_world((1, 1, 1)), first.data_to_world((0, 0, 0)))
    np.testing.assert_allclose(steps, (2, 0.5, 0.7))
    np.testing.assert_allclose(first.rotate, np.eye(3))


def test_a_layer_that_was_turned_comes_back_to_its_place():
    layer = Image(np.zeros((12, 14), "u1"), scale=(2, 3), rotate=30, translate=(5, 6))

    place = placement(open_volume(layer))

    again = Labels(np.zeros((12, 14), "u1"), **place)
    for index in product((0, 9), repeat=2):
        np.testing.assert_allclose(
            again.data_to_world(index), layer.data_to_world(index)
        )
