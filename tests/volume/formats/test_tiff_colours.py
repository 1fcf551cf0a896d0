"""TIFF's orientation and colour models, against Pillow and tifffile."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import VolumeError
from napari_sam.results.incoming import incoming_labels
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(6)


def smooth():
    values = np.zeros((40, 50, 3), np.uint8)
    values[..., 0], values[..., 2] = 80 + np.arange(50) * 3, 120
    values[..., 1] = 80 + np.arange(40)[:, None] * 3
    return values


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("layout", ["grey", "rgb", "planar", "tiled", "stack"])
def test_the_orientation_tag_is_obeyed(tmp_path, layout, orientation):
    values = RNG.integers(0, 255, (48, 32), np.uint8)
    options = {"photometric": "minisblack"}
    if layout in ("rgb", "planar"):
        values = RNG.integers(0, 255, (48, 32, 3), np.uint8)
        options = {"photometric": "rgb"}
        if layout == "planar":
            options["planarconfig"] = "separate"
    elif layout == "tiled":
        options["tile"] = (16, 16)
    elif layout == "stack":
        values = RNG.integers(0, 255, (3, 48, 32), np.uint8)
    stored = np.moveaxis(values, -1, 0) if layout == "planar" else values
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "a.tif", stored, extratags=[tag], **options)
    frames = list(values) if layout == "stack" else [values]
    expected = []
    for frame in frames:
        image = Image.fromarray(frame)
        image.getexif()[274] = orientation
        expected.append(np.asarray(ImageOps.exif_transpose(image)))
    volume = open_volume(tmp_path / "a.tif")
    assert volume.shape[-2:] == expected[0].shape[:2]
    for n, frame in enumerate(expected):
        np.testing.assert_array_equal(volume.plane(n), frame)
    part = volume.read(Plane.of(volume.shape, 0), Window(0, 3, 5, 20, 21))
    np.testing.assert_array_equal(part, expected[0][3:23, 5:26])


def test_pixel_sizes_turn_with_the_picture(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", RNG.integers(0, 255, (40, 30), np.uint8),
        resolution=(100, 50), resolutionunit="centimeter",
        extratags=[(274, "H", 1, 6, True)],
    )  # fmt: skip
    volume = open_volume(tmp_path / "a.tif")
    assert volume.shape == (30, 40)
    assert volume.spacing == (0.01, 0.02)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_colour_models_become_rgb_as_in_pillow(tmp_path, mode):
    Image.fromarray(smooth()).convert(mode).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.rgb
    assert volume.dtype == np.uint8
    difference = np.abs(volume.plane().astype(int) - expected)
    assert np.percentile(difference, 99) <= 4


def test_deep_cmyk_and_icc_lab_keep_their_depth(tmp_path):
    cmyk = RNG.integers(0, 65535, (20, 30, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", cmyk, photometric="separated")
    light = 1 - cmyk / 65535.0
    expected = light[..., :3] * light[..., 3:] * 65535
    pixels = open_volume(tmp_path / "a.tif").plane()
    assert pixels.dtype == np.uint16
    np.testing.assert_allclose(pixels, expected, atol=1)
    lab = np.full((20, 30, 3), (255, 128, 128), np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", lab, photometric="icclab")
    assert (open_volume(tmp_path / "b.tif").plane() >= 254).all()


@pytest.mark.parametrize("deep", [False, True])
def test_palettes_are_colours_or_numbers(tmp_path, deep):
    index = RNG.integers(0, 4, (20, 30)).astype(np.uint16 if deep else np.uint8)
    table = RNG.integers(0, 65535, (3, 65536 if deep else 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=table)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.rgb
    np.testing.assert_array_equal(
        volume.plane(), (table >> 8).astype(np.uint8).T[index]
    )
    image = open_volume(np.zeros((20, 30), np.uint8))
    labels = incoming_labels(image, tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(labels), index)


def test_a_palette_with_alpha_is_read_by_its_index(tmp_path):
    image = Image.fromarray(smooth()).convert("PA")
    image.save(tmp_path / "a.tif")
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(open_volume(tmp_path / "a.tif").plane(), expected)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("RGB", "jpeg"), ("CMYK", "jpeg"), ("YCbCr", "jpeg"), ("CMYK", "tiff_lzw"),
     ("YCbCr", "tiff_lzw"), ("1", "group4"), ("P", "packbits")],
)  # fmt: skip
def test_compressed_colours_are_those_of_pillow(tmp_path, mode, compression):
    pytest.importorskip("imagecodecs")
    Image.fromarray(smooth()).convert(mode).save(
        tmp_path / "a.tif", compression=compression
    )
    volume = open_volume(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        expected = np.asarray(image.convert("RGB") if volume.rgb else image)
    difference = np.abs(volume.plane().astype(int) - expected)
    assert difference.max() <= 1


def test_white_at_zero_is_shown_white_and_bits_of_labels_are_what_is_white(tmp_path):
    ramp = np.tile(np.arange(50, dtype=np.uint8), (40, 1))
    tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="miniswhite")
    volume = open_volume(tmp_path / "a.tif")
    shown = volume.intensity.apply(volume.plane())
    assert shown[0, 0, 0] == 255
    assert shown[0, -1, 0] == 0
    bits = ramp > 20
    tifffile.imwrite(tmp_path / "b.tif", bits, photometric="miniswhite")
    with Image.open(tmp_path / "b.tif") as image:
        white = np.asarray(image.convert("L")) > 0
    labels = open_volume(tmp_path / "b.tif", as_labels=True)
    np.testing.assert_array_equal(labels.plane(), white)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize(("photometric", "samples"), [("minisblack", 2), ("rgb", 4)])
def test_alpha_masks_and_is_left_out(tmp_path, kind, photometric, samples):
    values = np.full((64, 64, samples), 100, np.uint8)
    values[..., -1] = 255
    values[:, :20, -1] = 0
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric=photometric, extrasamples=[kind]
    )
    volume = open_volume(tmp_path / "a.tif")
    assert volume.n_channels == samples - 1
    assert volume.metadata["nodata"] == 0
    assert (volume.plane()[:, :20] == 0).all()
    assert (volume.plane()[:, 20:] == 100).all()


def test_a_measurement_marked_alpha_hides_nothing(tmp_path):
    values = RNG.integers(0, 255, (64, 64, 4)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"]
    )
    pixels = open_volume(tmp_path / "a.tif").plane()
    np.testing.assert_array_equal(pixels, values[..., :3])


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (RNG.random((20, 30)).astype("f4"), {}),
        (RNG.random((20, 30)).astype("f2"), {}),
        (RNG.integers(0, 65535, (20, 30, 3)).astype("u2"), {"photometric": "rgb"}),
        (RNG.random((20, 30, 3)).astype("f4"), {"photometric": "rgb"}),
    ],
)
def test_deep_and_float_pixels_are_kept(tmp_path, values, options):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.rgb == (values.ndim == 3)
    np.testing.assert_array_equal(volume.plane(), values)


def test_models_that_cannot_be_converted_are_refused_by_name(tmp_path):
    values = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="itulab")
    with pytest.raises(VolumeError, match=r"a\.tif.*ITU L\*a\*b\*.*RGB"):
        open_volume(tmp_path / "a.tif")
