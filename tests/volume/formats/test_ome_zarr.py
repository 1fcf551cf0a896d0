import functools
import http.server
import pickle
import threading

import numpy as np
import pytest
import zarr

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(2)


def axis(name):
    kind = {"c": "channel", "t": "time"}.get(name, "space")
    unit = {"space": "micrometer", "time": "second"}.get(kind)
    return {"name": name, "type": kind, **({"unit": unit} if unit else {})}


def write_image(
    path, base, axes, *, version="0.5", levels=3, scale=None, shift=None, name="cells"
):
    """Write an OME-Zarr image whose levels take every second pixel in y and x."""
    fmt = 2 if version == "0.4" else 3
    group = zarr.create_group(path, zarr_format=fmt, overwrite=True)
    scale = scale or [1.0] * len(axes)
    datasets, array = [], base
    for n in range(levels):
        chunks = tuple(1 if a in "tcz" else 32 for a in axes)
        group.create_array(
            str(n), data=array, chunks=chunks,
            **({"dimension_names": list(axes)} if fmt == 3 else {}),
        )  # fmt: skip
        own = [s * (2**n if a in "yx" else 1) for s, a in zip(scale, axes, strict=True)]
        steps = [{"type": "scale", "scale": own}]
        if shift:
            steps.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(n), "coordinateTransformations": steps})
        array = array[..., ::2, ::2]
    ome = {
        "multiscales": [
            {"name": name, "axes": [axis(a) for a in axes], "datasets": datasets}
        ]
    }
    if "c" in axes:
        count = base.shape[axes.index("c")]
        ome["omero"] = {"channels": [{"label": f"ch{i}"} for i in range(count)]}
    if fmt == 2:
        ome["multiscales"][0]["version"] = "0.4"
        group.attrs.update(ome)
    else:
        group.attrs["ome"] = {"version": "0.5", **ome}
    return group


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("yx", (90, 70), (("y", "x"), 1)),
        ("zyx", (4, 90, 70), (("z", "y", "x"), 1)),
        ("cyx", (3, 90, 70), (("y", "x"), 3)),
        ("tczyx", (2, 2, 4, 90, 70), (("t", "z", "y", "x"), 2)),
        ("tczyx", (1, 1, 1, 90, 70), (("t", "z", "y", "x"), 1)),
    ],
)
def test_pyramids_of_both_versions_open(tmp_path, version, axes, shape, expected):
    base = RNG.integers(0, 60000, shape).astype("u2")
    write_image(tmp_path / "a.ome.zarr", base, axes, version=version)
    volume = open_volume(tmp_path / "a.ome.zarr")
    assert (volume.axes, volume.n_channels) == expected
    assert len(volume.levels) == 3
    assert volume.name == "a"
    values = np.moveaxis(base, axes.index("c"), -1) if "c" in axes else base
    if "c" in axes and expected[1] == 1:
        values = values[..., 0]
    plane = Plane.of(volume.shape, tuple(n - 1 for n in volume.shape[:-2]) or 0)
    expected_pixels = values[plane.slicer()]
    np.testing.assert_array_equal(volume.plane(plane), expected_pixels)
    window = volume.read(plane, Window(2, 3, 5, 10, 9))
    np.testing.assert_array_equal(window, expected_pixels[::4, ::4][3:13, 5:14])
    assert volume.channel_names == (
        tuple(f"ch{i}" for i in range(shape[axes.index("c")])) if "c" in axes else ()
    )


def test_scale_units_and_origin_are_read(tmp_path):
    write_image(
        tmp_path / "a.zarr", np.zeros((2, 3, 64, 64), "u1"), "czyx",
        scale=[1, 2.0, 0.5, 0.25], shift=[0, 10.0, 20.0, 30.0],
    )  # fmt: skip
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.spacing == (2.0, 0.5, 0.25)
    assert volume.units == ("micrometer",) * 3
    np.testing.assert_allclose(volume.affine @ [1, 1, 1, 1], [12, 20.5, 30.25, 1])


def test_channels_are_chosen(tmp_path):
    base = RNG.integers(0, 60000, (4, 64, 64)).astype("u2")
    write_image(tmp_path / "a.zarr", base, "cyx")
    volume = open_volume(tmp_path / "a.zarr", channels=[3, 1])
    assert volume.channel_names == ("ch3", "ch1")
    np.testing.assert_array_equal(volume.plane(), np.moveaxis(base[[3, 1]], 0, -1))
    half = volume.read(Plane(()), Window(1, 0, 0, 32, 32))
    np.testing.assert_array_equal(half, np.moveaxis(base[[3, 1], ::2, ::2], 0, -1))


def test_what_yaozarrs_takes_for_valid_opens(tmp_path):
    yaozarrs = pytest.importorskip("yaozarrs")
    base = RNG.integers(0, 60000, (3, 64, 64)).astype("u2")
    group = write_image(tmp_path / "a.zarr", base, "zyx", scale=[2, 1, 1])
    yaozarrs.v05.Image.model_validate(dict(group.attrs)["ome"])
    assert open_volume(tmp_path / "a.zarr").shape == (3, 64, 64)


def test_plain_arrays_use_their_dimension_names(tmp_path):
    values = RNG.integers(0, 255, (3, 64, 50)).astype("u1")
    zarr.create_array(tmp_path / "a.zarr", data=values, dimension_names=["c", "y", "x"])
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.axes, volume.n_channels) == (("y", "x"), 3)
    old = zarr.create_array(tmp_path / "b.zarr", data=values, zarr_format=2)
    old.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
    assert open_volume(tmp_path / "b.zarr").axes == ("t", "y", "x")


def test_an_open_group_is_taken_too(tmp_path):
    base = RNG.integers(0, 255, (64, 64)).astype("u1")
    group = write_image(tmp_path / "a.zarr", base, "yx")
    volume = open_volume(group)
    assert len(volume.levels) == 3
    np.testing.assert_array_equal(volume.plane(), base)


def test_several_images_in_a_group_are_listed_and_chosen(tmp_path):
    root = zarr.create_group(tmp_path / "a.zarr")
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    base = RNG.integers(0, 255, (64, 64)).astype("u1")
    write_image(tmp_path / "a.zarr" / "0", base, "yx", name="overview")
    assert open_volume(tmp_path / "a.zarr").shape == (64, 64)
    write_image(tmp_path / "a.zarr" / "1", base[:40], "yx", name="detail")
    with pytest.raises(SeriesError, match=r"2 images.*series=") as error:
        open_volume(tmp_path / "a.zarr")
    assert error.value.series == {"0": "overview", "1": "detail"}
    volume = open_volume(tmp_path / "a.zarr", series="1")
    assert volume.shape == (40, 64)
    assert pickle.loads(pickle.dumps(volume)).shape == (40, 64)
    with pytest.raises(SeriesError, match="no image '9'"):
        open_volume(tmp_path / "a.zarr", series="9")


def test_fields_of_a_plate_are_listed(tmp_path):
    root = zarr.create_group(tmp_path / "p.zarr")
    root.attrs["ome"] = {
        "version": "0.5",
        "plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]},
    }
    base = RNG.integers(0, 255, (64, 64)).astype("u1")
    for well in ("A/1", "B/2"):
        group = root.create_group(well)
        group.attrs["ome"] = {"well": {"images": [{"path": "0"}]}}
        write_image(tmp_path / "p.zarr" / well / "0", base, "yx")
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path / "p.zarr")
    assert error.value.series == {"A/1/0": "well A1", "B/2/0": "well B2"}
    assert open_volume(tmp_path / "p.zarr", series="B/2/0").shape == (64, 64)


def test_zipped_zarr_opens(tmp_path):
    values = RNG.integers(0, 255, (64, 50)).astype("u1")
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=values)
    volume = open_volume(tmp_path / "a.zarr.zip")
    np.testing.assert_array_equal(volume.plane(), values)
    volume.levels[0].store.close()


def test_broken_copies_say_what_is_missing(tmp_path):
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(VolumeError, match="not complete"):
        open_volume(tmp_path / "empty.zarr")
    write_image(tmp_path / "a.zarr", np.zeros((64, 64), "u1"), "yx")
    (tmp_path / "a.zarr" / "1" / "zarr.json").unlink()
    with pytest.raises(VolumeError, match="level '1'"):
        open_volume(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "zarr.json").write_text("{torn")
    with pytest.raises(VolumeError, match="cannot be opened as zarr"):
        open_volume(tmp_path / "b.zarr")
    zarr.create_group(tmp_path / "c.zarr")
    with pytest.raises(VolumeError, match="holds no image"):
        open_volume(tmp_path / "c.zarr")


def test_a_damaged_chunk_names_the_image(tmp_path):
    values = RNG.integers(0, 255, (64, 64)).astype("u1")
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(32, 32))
    (tmp_path / "a.zarr" / "c" / "1" / "1").write_bytes(b"rubbish")
    volume = open_volume(tmp_path / "a.zarr")
    window = volume.read(Plane(()), Window(0, 0, 0, 32, 32))
    np.testing.assert_array_equal(window, values[:32, :32])
    with pytest.raises(VolumeError, match="'a' cannot be read"):
        volume.plane()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Keep the test's output clean."""


@pytest.fixture
def served(tmp_path):
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_image_behind_a_url_opens(tmp_path, served):
    pytest.importorskip("obstore")
    base = RNG.integers(0, 255, (3, 64, 64)).astype("u1")
    write_image(tmp_path / "a.zarr", base, "zyx")
    volume = open_volume(f"{served}/a.zarr")
    assert volume.source == f"{served}/a.zarr"
    np.testing.assert_array_equal(volume.plane(2), base[2])
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(1), base[1])
    with pytest.raises(VolumeError, match="cannot be opened as zarr"):
        open_volume(f"{served}/nothing.zarr")
