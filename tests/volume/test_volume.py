import pickle
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import IntensityError, VolumeError
from napari_sam.volume.lazy_arrays import AxisView, LazyArray
from napari_sam.volume.opening import open_volume
from napari_sam.volume.volume import Volume

RNG = np.random.default_rng(7)


class Counting(LazyArray):
    """An array that counts the values it was asked for."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype)
        self.values, self.read_values = values, 0

    def read(self, spans):
        block = self.values[spans]
        self.read_values += block.size
        return block


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "expected"),
    [
        pytest.param((8, 9), "u1", None, (("y", "x"), (8, 9), 1), id="2d"),
        pytest.param((4, 8, 9), "f4", None, (("z", "y", "x"), (4, 8, 9), 1), id="3d"),
        pytest.param(
            (2, 4, 8, 9), "i2", None, (("t", "z", "y", "x"), (2, 4, 8, 9), 1), id="4d"
        ),
        pytest.param((8, 9, 3), "u1", None, (("y", "x"), (8, 9), 3), id="rgb"),
        pytest.param((8, 9, 4), "u2", None, (("y", "x"), (8, 9), 3), id="rgba"),
        pytest.param(
            (8, 9, 3), "f4", None, (("z", "y", "x"), (8, 9, 3), 1), id="float-3-planes"
        ),
        pytest.param(
            (5, 8, 9, 3), "u1", None, (("z", "y", "x"), (5, 8, 9), 3), id="rgb-stack"
        ),
        pytest.param((2, 8, 9), "u2", "cyx", (("y", "x"), (8, 9), 2), id="channels"),
        pytest.param((1, 8, 9), "u2", "cyx", (("y", "x"), (8, 9), 1), id="one-channel"),
        pytest.param(
            (9, 8, 4), "u2", "xyz", (("z", "y", "x"), (4, 8, 9), 1), id="reversed"
        ),
        pytest.param(
            (3, 4, 5, 8, 9),
            "u2",
            ("time", "c", "depth", "lat", "lon"),
            (("t", "z", "y", "x"), (3, 5, 8, 9), 4),
            id="names",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_axes_and_channels_are_told_apart(shape, dtype, axes, expected, kind):
    values = RNG.integers(0, 200, shape).astype(dtype)
    source = {"numpy": lambda: values, "dask": lambda: da.from_array(values)}.get(
        kind, lambda: zarr.array(values)
    )()
    volume = open_volume(source, axes=axes)
    assert (volume.axes, volume.shape, volume.n_channels) == expected
    assert volume.affine.shape == (volume.ndim + 1,) * 2
    pixels = volume.plane()
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == volume.shape[-2:] + (
        (expected[2],) if expected[2] > 1 else ()
    )


def test_planes_hold_the_values_of_the_source_in_the_named_order():
    values = RNG.integers(0, 60000, (9, 8, 2, 4)).astype("u2")
    volume = open_volume(values, axes="xycz")
    expected = values.transpose(3, 1, 0, 2)
    for axis in range(3):
        np.testing.assert_array_equal(volume.plane(1, axis), np.take(expected, 1, axis))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, [1]), ([2, 0], [2, 0]), ([-1], [3]), ([0, 1], [0, 1])],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_channels_are_chosen_in_the_order_asked_for(channels, expected, lazy):
    values = RNG.integers(0, 255, (4, 6, 7)).astype("u1")
    source = Counting(values) if lazy else values
    volume = open_volume(source, axes="cyx", channels=channels)
    expected_pixels = np.moveaxis(values[expected], 0, -1)
    if len(expected) == 1:
        expected_pixels = expected_pixels[..., 0]
    np.testing.assert_array_equal(volume.plane(), expected_pixels)
    assert volume.channels == tuple(expected)
    assert volume.intensity.n_channels == len(expected)


def test_of_many_channels_the_first_are_taken_and_others_can_be_chosen():
    values = np.arange(27, dtype=np.uint8)[:, None, None] * np.ones((1, 5, 6), np.uint8)
    volume = open_volume(values, axes="cyx")
    assert volume.channels == (0, 1, 2, 3, 4, 5)
    assert "27 channels" in volume.metadata["notes"][0]
    np.testing.assert_array_equal(volume.plane()[0, 0], np.arange(6))
    chosen = open_volume(values, axes="cyx", channels=[26, 8])
    assert chosen.plane()[0, 0].tolist() == [26, 8]
    assert "notes" not in chosen.metadata


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        pytest.param(np.zeros(5), {}, "two axes", id="one-axis"),
        pytest.param(np.zeros((0, 5)), {}, "one pixel", id="empty"),
        pytest.param(np.zeros((5, 5), complex), {}, "complex", id="complex"),
        pytest.param(np.zeros((5, 5), object), {}, "object", id="object"),
        pytest.param(np.zeros((3, 5, 5)), {"axes": "yx"}, "3 axes", id="few-names"),
        pytest.param(np.zeros((3, 5, 5)), {"axes": "yyx"}, "different", id="twice"),
        pytest.param(
            np.zeros((3, 5, 5)), {"axes": "cyx", "channels": [3]}, "0..2", id="no-such"
        ),
        pytest.param(np.zeros((3, 5)), {"channels": [1]}, "axes=", id="no-channels"),
        pytest.param([np.zeros((5, 5))] * 2, {}, "np.stack", id="not-a-pyramid"),
        pytest.param(7, {}, "got int", id="number"),
        pytest.param(np.zeros((5, 5)), {"series": 1}, "series=", id="series"),
    ],
)
def test_what_cannot_be_an_image_gets_a_clear_error(source, options, message):
    with pytest.raises(VolumeError, match=message):
        open_volume(source, **options)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 1, 30), (5, 7)])
def test_tiny_and_thin_images_work(shape):
    values = RNG.integers(0, 255, shape).astype("u1")
    volume = open_volume(values)
    plane = Plane.of(volume.shape, 0)
    for level in range(4):
        h, w = (-(-n // 2**level) for n in plane.shape(volume.shape))
        assert volume.read(plane, Window(level, 0, 0, h, w)).shape == (h, w)
    assert volume.intensity.apply(volume.plane()).shape == (*shape[-2:], 3)
    assert volume.identity()["shape"] == list(shape)


def test_a_window_outside_the_plane_is_an_error():
    volume = open_volume(np.zeros((30, 30), "u1"))
    with pytest.raises(VolumeError, match="15 x 15 pixels at level 1"):
        volume.read(Plane(()), Window(1, 0, 0, 16, 15))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "bool"])
@pytest.mark.parametrize("shape", [(64, 96), (61, 97), (3, 50, 70), (40, 56, 3)])
def test_missing_levels_are_area_averages(shape, dtype):
    values = RNG.integers(0, 250, shape).astype(dtype)
    axes = "yxc" if shape[-1] == 3 else None
    volume = open_volume(Counting(values), axes=axes)
    plane = Plane.of(volume.shape, 1 if len(volume.shape) == 3 else 0)
    pixels = volume.plane(plane).astype(float)
    for level in (1, 2, 3):
        s = 2**level
        h, w = (-(-n // s) for n in pixels.shape[:2])
        expected = np.array(
            [
                [
                    pixels[i * s : i * s + s, j * s : j * s + s].mean((0, 1))
                    for j in range(w)
                ]
                for i in range(h)
            ]
        )
        whole = volume.read(plane, Window(level, 0, 0, h, w))
        assert whole.dtype == values.dtype
        tolerance = 1e-3 if dtype == "f4" else 0.5001
        np.testing.assert_allclose(whole, expected, atol=tolerance)
        part = volume.read(plane, Window(level, 1, 2, h - 2, w - 3))
        np.testing.assert_array_equal(part, whole[1:-1, 2:-1])


def test_averages_leave_nan_out():
    values = np.arange(16.0).reshape(4, 4)
    values[0, 0] = np.nan
    values[2:, 2:] = np.nan
    small = open_volume(values).read(Plane(()), Window(1, 0, 0, 2, 2))
    np.testing.assert_allclose(small, [[10 / 3, 4.5], [10.5, np.nan]])


def test_averaging_holds_one_block_at_a_time(monkeypatch):
    from napari_sam.volume import pyramid

    monkeypatch.setattr(pyramid, "BLOCK_BYTES", 4096)
    values = RNG.integers(0, 250, (300, 260)).astype("u1")
    largest = []

    class Watching(Counting):
        chunks = (30, 20)

        def read(self, spans):
            out = super().read(spans)
            largest.append(out.size)
            return out

    array = Watching(values)
    small = open_volume(array).read(Plane(()), Window(3, 0, 0, 38, 33))
    assert max(largest) <= 4096
    assert array.read_values == values.size
    np.testing.assert_array_equal(
        small, open_volume(values).read(Plane(()), Window(3, 0, 0, 38, 33))
    )


def test_own_levels_are_used_where_they_are_powers_of_two():
    base = RNG.integers(0, 250, (128, 128)).astype("u1")
    quarter = np.full((32, 32), 77, "u1")
    volume = open_volume([base, quarter])
    assert len(volume.levels) == 2
    np.testing.assert_array_equal(volume.read(Plane(()), Window(2, 4, 4, 8, 8)), 77)
    np.testing.assert_array_equal(volume.read(Plane(()), Window(4, 0, 0, 8, 8)), 77)
    half = volume.read(Plane(()), Window(1, 0, 0, 64, 64))
    assert half.std() > 10


def test_a_level_of_another_factor_is_not_used():
    base = RNG.integers(0, 250, (90, 90)).astype("u1")
    volume = open_volume([base, np.zeros((30, 30), "u1")])
    assert volume.read(Plane(()), Window(1, 0, 0, 45, 45)).mean() > 50


def test_levels_rounded_down_are_padded_with_their_edge():
    base = np.arange(101 * 77, dtype="u2").reshape(101, 77)
    own = base[:100:2, :76:2]
    volume = open_volume([base, own])
    out = volume.read(Plane(()), Window(1, 40, 30, 11, 9))
    np.testing.assert_array_equal(out[:10, :8], own[40:, 30:])
    np.testing.assert_array_equal(out[10], out[9])


def test_levels_that_mix_planes_serve_only_where_others_cost_too_much():
    base = np.zeros((8, 64, 64), "u1")
    base[3] = 200
    levels = [np.full((8 >> n, 64 >> n, 64 >> n), 50, "u1") for n in (1, 2, 3)]
    volume = open_volume([base, *levels])
    plane = Plane.of(volume.shape, 3)
    assert (volume.read(plane, Window(1, 0, 0, 32, 32)) == 200).all()
    assert (volume.read(plane, Window(2, 0, 0, 16, 16)) == 200).all()
    assert (volume.read(plane, Window(3, 0, 0, 8, 8)) == 50).all()


def test_opening_reads_nothing_and_a_huge_image_costs_what_is_looked_at(tmp_path):
    zarr.create_array(
        tmp_path / "big.zarr", shape=(100_000, 100_000), chunks=(512, 512), dtype="u2"
    )
    volume = open_volume(tmp_path / "big.zarr")
    assert volume.shape == (100_000, 100_000)
    array = Counting(np.broadcast_to(np.uint16(3), (100_000, 100_000)))
    volume = open_volume(array)
    assert array.read_values == 0
    volume.intensity, volume.identity()
    volume.read(Plane(()), Window(0, 50_000, 99_000, 1000, 1000))
    assert array.read_values < 20e6


def test_default_intensity_is_percentiles_of_the_coarsest_level():
    base = RNG.normal(100, 10, (512, 512)).astype("f4")
    volume = open_volume([base, base[::2, ::2] + 1000])
    low, high = volume.intensity.windows[0]
    expected = np.percentile(base[::2, ::2] + 1000, [0.1, 99.9])
    np.testing.assert_allclose([low, high], expected)


def test_eight_bit_colour_is_shown_as_it_is_and_sixteen_bit_with_one_window():
    colour = RNG.integers(0, 255, (20, 30, 3)).astype("u1")
    volume = open_volume(colour)
    assert volume.intensity == IntensityMapping.rgb()
    np.testing.assert_array_equal(volume.intensity.apply(volume.plane()), colour)
    deep = open_volume(colour.astype("u2") * 100)
    assert len(set(deep.intensity.windows)) == 1


def test_nan_and_infinite_pixels_do_not_reach_the_window():
    values = RNG.normal(5, 1, (40, 40))
    values[:10], values[10:12] = np.nan, np.inf
    volume = open_volume(values)
    assert np.isfinite(volume.intensity.windows).all()
    assert volume.intensity.apply(volume.plane())[:10].max() == 0


def test_an_image_of_nan_alone_asks_for_a_window():
    volume = open_volume(np.full((40, 40), np.nan))
    with pytest.raises(IntensityError, match=r"intensity=\(low, high\)"):
        _ = volume.intensity


def test_a_small_bright_spot_between_the_sampled_windows_is_found_by_the_second_look():
    values = np.zeros((3000, 3000), "u1")
    values[600:900, 600:900] = 200
    assert open_volume(values).intensity.windows[0][1] == 200


def test_identity_differs_with_pixels_channels_and_shape_but_not_with_place(tmp_path):
    values = RNG.integers(0, 255, (3, 40, 50)).astype("u2")
    changed = values.copy()
    changed[1, 20, 20] += 1
    one = open_volume(values).identity()
    assert one == open_volume(values.copy()).identity()
    assert one == open_volume(values.astype(">u2")).identity()
    assert one != open_volume(changed).identity()
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "moved").mkdir()
    np.save(tmp_path / "moved" / "a.npy", values)
    here = open_volume(tmp_path / "a.npy").identity()
    assert here == open_volume(tmp_path / "moved" / "a.npy").identity()
    other = open_volume(values, axes="cyx", channels=[0, 1]).identity()
    assert other["channels"] == [0, 1]


def test_volumes_of_paths_pickle_as_paths(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.arange(4000.0).reshape(4, 25, 40))
    volume = open_volume(tmp_path / "a.zarr", axes="cyx", channels=[1, 3])
    volume = volume.with_intensity((3.0, 9.0))
    data = pickle.dumps(volume)
    assert len(data) < 1000
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.plane(), volume.plane())
    assert again.intensity == volume.intensity
    assert again.channels == (1, 3)


def test_volumes_of_arrays_pickle_with_their_pixels():
    volume = open_volume(RNG.integers(0, 9, (3, 4, 5)))
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(2), volume.plane(2))


def test_a_volume_is_returned_as_it_is():
    volume = open_volume(np.zeros((4, 5)))
    assert open_volume(volume) is volume
    assert isinstance(volume, Volume)


def test_lazy_arrays_index_like_numpy():
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    lazy = AxisView(Counting(values), (2, 0, 1))
    expected = values.transpose(2, 0, 1)
    for key in [
        0, -1, ..., (1, 2), (slice(None, None, 2), 3), (..., -1),
        (slice(4, 1, -1),), (slice(5, None, -2), ..., slice(1, 3)), (0, 0, 0),
        slice(9, 12),
    ]:  # fmt: skip
        np.testing.assert_array_equal(lazy[key], expected[key])
    np.testing.assert_array_equal(np.asarray(lazy), expected)
    with pytest.raises(IndexError, match="out of bounds"):
        lazy[6]
    with pytest.raises(IndexError, match=r"np\.asarray"):
        lazy[[0, 1]]


def test_the_volume_module_imports_no_format_library():
    code = (
        "import sys, napari_sam.volume.volume; "
        "print({'zarr', 'dask', 'pydicom', 'torch', 'tifffile', 'nibabel', 'napari'}"
        " & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"


def test_a_file_url_may_hold_quoted_characters(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    np.save(folder / "x.npy", np.zeros((8, 9), np.uint8))
    assert open_volume((folder / "x.npy").as_uri()).shape == (8, 9)
    assert open_volume(f"file://{folder}/x.npy").shape == (8, 9)
