from types import SimpleNamespace

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(11)


class Coordinate(SimpleNamespace):
    """The part of an xarray coordinate that is looked at."""

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def data_array(values, dims, **coords):
    found = {
        name: Coordinate(values=np.asarray(v), attrs={"units": unit} if unit else {})
        for name, (v, unit) in coords.items()
    }
    return SimpleNamespace(
        data=values, dims=dims, coords=found, name="field", shape=values.shape
    )


def test_xarray_objects_bring_axes_spacing_and_origin():
    values = RNG.normal(size=(4, 5, 6))
    source = data_array(
        values, ("lon", "time", "lat"),
        lon=(10 + 0.5 * np.arange(4), "degrees_east"),
        lat=(50 - 0.25 * np.arange(6), "degrees_north"),
    )  # fmt: skip
    volume = open_volume(source)
    assert volume.axes == ("t", "y", "x")
    assert volume.name == "field"
    assert volume.spacing == (1.0, 0.25, 0.5)
    assert volume.units == ("pixel", "degrees_north", "degrees_east")
    np.testing.assert_allclose(volume.affine @ [2, 1, 3, 1], [2, 49.75, 11.5, 1])
    np.testing.assert_array_equal(volume.plane(2), values[:, 2].T)


def test_xarray_bands_are_channels():
    values = RNG.integers(0, 255, (2, 20, 30)).astype("u1")
    volume = open_volume(data_array(values, ("band", "y", "x")))
    assert (volume.axes, volume.n_channels) == (("y", "x"), 2)


def test_a_real_xarray_opens():
    xarray = pytest.importorskip("xarray")
    values = RNG.normal(size=(3, 20, 30))
    source = xarray.DataArray(values, dims=("z", "y", "x"), coords={"z": [0.0, 2, 4]})
    volume = open_volume(source)
    assert volume.spacing == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(volume.plane(1), values[1])


def test_napari_layers_bring_scale_place_and_colour():
    layers = pytest.importorskip("napari.layers")
    values = RNG.integers(0, 255, (4, 20, 30)).astype("u1")
    layer = layers.Image(
        values, name="cells", scale=(2, 0.5, 0.25), translate=(10, 20, 30)
    )
    volume = open_volume(layer)
    assert (volume.name, volume.spacing) == ("cells", (2.0, 0.5, 0.25))
    np.testing.assert_allclose(volume.affine @ [1, 2, 4, 1], [12, 21, 31, 1])
    np.testing.assert_array_equal(volume.plane(3), values[3])
    colour = layers.Image(RNG.random((20, 30, 3)).astype("f4"), rgb=True)
    assert open_volume(colour).rgb


def test_rotated_napari_layers_keep_their_whole_transform():
    layers = pytest.importorskip("napari.layers")
    layer = layers.Image(np.zeros((20, 30)), scale=(2, 3), rotate=30, translate=(5, 6))
    volume = open_volume(layer)
    for point in ([0, 0], [3, 4], [19, 29]):
        expected = layer.data_to_world(point)
        np.testing.assert_allclose((volume.affine @ [*point, 1])[:2], expected)


def test_multiscale_napari_layers_bring_their_levels():
    layers = pytest.importorskip("napari.layers")
    base = RNG.integers(0, 255, (128, 96)).astype("u1")
    layer = layers.Image([base, base[::2, ::2]], multiscale=True)
    volume = open_volume(layer)
    assert len(volume.levels) == 2
    half = volume.read(Plane(()), Window(1, 0, 0, 64, 48))
    np.testing.assert_array_equal(half, base[::2, ::2])
    again = open_volume(layer.data)
    assert len(again.levels) == 2
