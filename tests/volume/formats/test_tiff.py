import pickle
import sys

import numpy as np
import pytest
import tifffile

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(5)


def stack(shape, dtype="u2"):
    return RNG.integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        pytest.param("ZYX", (5, 40, 30), (("z", "y", "x"), 1), id="zyx"),
        pytest.param("TZCYX", (2, 5, 3, 40, 30), (("t", "z", "y", "x"), 3), id="tzcyx"),
        pytest.param("CZYX", (2, 5, 40, 30), (("z", "y", "x"), 2), id="czyx"),
        pytest.param("YXS", (40, 30, 3), (("y", "x"), 3), id="rgb"),
    ],
)
def test_ome_tiff_axes_sizes_and_units_are_read(tmp_path, axes, shape, expected):
    values = stack(shape, "u1" if "S" in axes else "u2")
    metadata = {
        "axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "µm",
    }  # fmt: skip
    tifffile.imwrite(
        tmp_path / "a.ome.tif", values, metadata=metadata,
        photometric="rgb" if "S" in axes else "minisblack",
    )  # fmt: skip
    volume = open_volume(tmp_path / "a.ome.tif")
    assert (volume.axes, volume.n_channels) == expected
    assert volume.name == "a"
    assert volume.spacing[-2:] == (0.5, 0.25)
    assert volume.units[-1] == "micrometer"
    if "z" in volume.axes:
        assert volume.spacing[volume.axes.index("z")] == 2.0
    if "C" in axes:
        values = np.moveaxis(values, axes.index("C"), -1)
    last = tuple(-1 for _ in volume.axes[:-2])
    np.testing.assert_array_equal(volume.plane(last or 0), values[last])


def test_channel_names_and_choice_of_an_ome_tiff(tmp_path):
    values = stack((3, 40, 30))
    tifffile.imwrite(
        tmp_path / "a.ome.tif", values, photometric="minisblack",
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "RFP"]}},
    )  # fmt: skip
    assert open_volume(tmp_path / "a.ome.tif").channel_names == ("DAPI", "GFP", "RFP")
    green = open_volume(tmp_path / "a.ome.tif", channels=1)
    assert green.channel_names == ("GFP",)
    np.testing.assert_array_equal(green.plane(), values[1])


def test_imagej_stacks_bring_their_spacing(tmp_path):
    values = stack((4, 40, 30))
    tifffile.imwrite(
        tmp_path / "a.tif", values, imagej=True, resolution=(1 / 0.3, 1 / 0.6),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": "um"},
    )  # fmt: skip
    volume = open_volume(tmp_path / "a.tif")
    np.testing.assert_allclose(volume.spacing, (2.5, 0.6, 0.3), rtol=1e-5)
    assert volume.units == ("micrometer",) * 3


def test_dots_per_inch_are_no_pixel_size(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", stack((40, 30)), resolution=(72, 72), resolutionunit="inch"
    )
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.spacing, volume.units) == ((1.0, 1.0), ("pixel", "pixel"))


def test_tiled_tiff_is_read_tile_by_tile(tmp_path, monkeypatch):
    values = stack((1024, 768))
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(128, 128), compression="zlib")
    decoded = []
    original = tifffile.TiffPage.decode.func

    def counting(self):
        decode = original(self)

        def wrapped(*args, **kwargs):
            decoded.append(1)
            return decode(*args, **kwargs)

        return wrapped

    prop = type(tifffile.TiffPage.decode)(counting)
    prop.__set_name__(tifffile.TiffPage, "decode")
    monkeypatch.setattr(tifffile.TiffPage, "decode", prop)
    volume = open_volume(tmp_path / "a.tif")
    assert decoded == []
    window = volume.read(Plane(()), Window(0, 200, 300, 100, 50))
    np.testing.assert_array_equal(window, values[200:300, 300:350])
    assert 1 <= len(decoded) <= 4


def test_pyramids_of_tiff_become_levels(tmp_path):
    values = stack((512, 512), "u1")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(values, subifds=2, tile=(128, 128), metadata={"axes": "YX"})
        tif.write(values[::2, ::2], subfiletype=1, tile=(128, 128))
        tif.write(values[::4, ::4], subfiletype=1, tile=(128, 128))
    volume = open_volume(tmp_path / "a.ome.tif")
    assert [a.shape for a in volume.levels] == [(512, 512), (256, 256), (128, 128)]
    window = volume.read(Plane(()), Window(2, 3, 5, 20, 30))
    np.testing.assert_array_equal(window, values[::4, ::4][3:23, 5:35])


def test_several_ome_images_are_listed_and_chosen(tmp_path):
    first, second = stack((40, 30)), stack((20, 25))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(first, metadata={"axes": "YX", "Name": "overview"})
        tif.write(second, metadata={"axes": "YX", "Name": "detail"})
    with pytest.raises(SeriesError, match=r"2 images.*series=") as error:
        open_volume(tmp_path / "a.ome.tif")
    assert "overview" in error.value.series["0"]
    volume = open_volume(tmp_path / "a.ome.tif", series=1)
    np.testing.assert_array_equal(volume.plane(), second)
    assert pickle.loads(pickle.dumps(volume)).shape == (20, 25)
    with pytest.raises(SeriesError, match="no series 7"):
        open_volume(tmp_path / "a.ome.tif", series=7)


def test_a_plain_tiff_stack_is_a_z_stack_and_axes_can_be_overridden(tmp_path):
    values = stack((6, 40, 30))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert open_volume(tmp_path / "a.tif").axes == ("z", "y", "x")
    channels = open_volume(tmp_path / "a.tif", axes="cyx")
    assert (channels.axes, channels.n_channels) == (("y", "x"), 6)
    assert open_volume(tmp_path / "a.tif", axes="tyx").axes == ("t", "y", "x")


def test_a_missing_codec_names_the_extra(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", stack((40, 30)), compression="lzw")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(VolumeError, match=r"LZW.*pip install imagecodecs"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_that_go_round_in_circles_are_refused(tmp_path, bigtiff):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as tif:
        for plane in stack((3, 40, 30)):
            tif.write(plane, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        first, last = tif.pages[0].offset, tif.pages[2].offset
        tags = len(tif.pages[2].tags)
    assert open_volume(path).shape == (3, 40, 30)
    at = last + (8 + 20 * tags if bigtiff else 2 + 12 * tags)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(first.to_bytes(8 if bigtiff else 4, "little"))
    with pytest.raises(VolumeError, match="followed by an earlier one"):
        open_volume(path)
