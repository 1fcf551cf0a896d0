"""Pictures as Pillow shows them: orientation, colour models, palettes, frames."""

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageOps

from napari_sam.core.intensity import IntensityMapping
from napari_sam.errors import VolumeError
from napari_sam.results.incoming import incoming_labels
from napari_sam.volume import whole
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(5)


def stack(shape, dtype="u1"):
    return RNG.integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize(
    "name", ["coins.png", "cell.png", "astronaut.png", "retina.jpg", "page.png"]
)
def test_pictures_open_as_pillow_reads_them_and_not_before_a_look(name, monkeypatch):
    path = f"{skimage.data.__path__[0]}/{name}"
    with Image.open(path) as image:
        expected = np.asarray(image)
    with monkeypatch.context() as patch:
        load = "PIL.ImageFile.ImageFile.load"
        patch.setattr(load, lambda *a: pytest.fail("read on opening"))
        volume = open_volume(path)
    assert volume.shape == expected.shape[:2]
    np.testing.assert_array_equal(volume.plane(), expected)
    if expected.ndim == 3:
        assert volume.intensity == IntensityMapping.rgb()


@pytest.mark.parametrize(
    ("shape", "dtype", "channels"),
    [((20, 30), "u2", 1), ((20, 30, 4), "u1", 3), ((20, 30, 2), "u1", 1)],
)
def test_png_of_other_kinds(tmp_path, shape, dtype, channels):
    values = stack(shape, dtype)
    Image.fromarray(values).save(tmp_path / "a.png")
    volume = open_volume(tmp_path / "a.png")
    assert (volume.shape, volume.n_channels) == ((20, 30), channels)
    expected = values[..., 0] if shape[-1] == 2 else values[..., :3]
    np.testing.assert_array_equal(
        volume.plane(), values if values.ndim == 2 else expected
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "size"), [("jpg", (48, 32)), ("png", (30, 50)),
                                              ("webp", (20, 28))])  # fmt: skip
def test_orientation_tags_turn_a_picture(tmp_path, suffix, size, orientation):
    values = stack((*size, 3))
    values[: size[0] // 2] = 30
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    more = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(values).save(path, exif=exif, **more)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    volume = open_volume(path)
    assert volume.shape == expected.shape[:2]
    np.testing.assert_array_equal(volume.plane(), expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_colour_models_of_jpeg_become_rgb(tmp_path, mode):
    smooth = np.zeros((40, 50, 3), np.uint8)
    smooth[..., 0], smooth[..., 1] = np.arange(50) * 4, np.arange(40)[:, None] * 5
    Image.fromarray(smooth).convert(mode).save(tmp_path / "a.jpg", quality=97)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(open_volume(tmp_path / "a.jpg").plane(), expected)
    assert np.abs(expected.astype(int) - smooth).mean() < 6


def palette_png(path, index, colours):
    image = Image.fromarray(index, mode="P")
    image.putpalette(np.asarray(colours, np.uint8).tobytes())
    image.save(path)


def test_a_palette_is_colours_in_a_picture_and_numbers_in_labels(tmp_path):
    index = RNG.integers(0, 3, (20, 30)).astype(np.uint8)
    colours = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    palette_png(tmp_path / "a.png", index, colours)
    shown = open_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(shown.plane(), np.array(colours)[index])
    image = open_volume(np.zeros((20, 30), np.uint8))
    labels = incoming_labels(image, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(labels), index)


def test_numbers_of_a_bit_deep_or_grey_palette_are_kept_too(tmp_path):
    index = RNG.integers(0, 2, (20, 30)).astype(np.uint8)
    palette_png(tmp_path / "grey.png", index, [(0, 0, 0), (255, 255, 255)])
    np.testing.assert_array_equal(
        open_volume(tmp_path / "grey.png").plane(), index * 255
    )
    labels = open_volume(tmp_path / "grey.png", as_labels=True)
    np.testing.assert_array_equal(labels.plane(), index)
    Image.fromarray(index * 255).convert("1").save(tmp_path / "bits.png")
    np.testing.assert_array_equal(open_volume(tmp_path / "bits.png").plane(), index > 0)


def test_what_transparency_hides_is_no_data_but_measurements_in_it_hide_nothing(
    tmp_path,
):
    values = np.full((40, 60, 4), 255, np.uint8)
    values[..., :3] = 200
    values[:, :20, 3] = 0
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = open_volume(tmp_path / "a.png").plane()
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 200).all()
    values[..., 3] = RNG.integers(0, 255, (40, 60))
    Image.fromarray(values).save(tmp_path / "b.png")
    assert (open_volume(tmp_path / "b.png").plane() == 200).all()


def test_frames_of_mixed_modes_are_one_movie(tmp_path):
    grey = Image.fromarray(stack((20, 30)))
    colour = Image.fromarray(np.full((20, 30, 3), (200, 10, 60), np.uint8))
    bits = grey.convert("1")
    grey.save(tmp_path / "a.gif", save_all=True, append_images=[colour, bits, grey])
    volume = open_volume(tmp_path / "a.gif")
    assert (volume.axes, volume.shape) == (("t", "y", "x"), (4, 20, 30))
    with Image.open(tmp_path / "a.gif") as image:
        for n in range(4):
            image.seek(n)
            expected = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(volume.plane(n), expected)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animations_open_frame_by_frame(tmp_path, suffix):
    frames = [Image.fromarray(stack((20, 30, 3))) for _ in range(3)]
    more = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **more)
    volume = open_volume(path)
    assert volume.shape == (3, 20, 30)
    np.testing.assert_array_equal(volume.plane(2), np.asarray(frames[2]))


def test_deep_colours_are_read_whole(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    values = RNG.integers(0, 65535, (20, 30, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    volume = open_volume(tmp_path / "a.png")
    assert volume.rgb
    np.testing.assert_array_equal(volume.plane(), values)


def test_pictures_above_pillows_limit_open_while_memory_lasts(tmp_path, monkeypatch):
    values = stack((40, 30))
    Image.fromarray(values).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    volume = open_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.plane(), values)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(whole, "available_bytes", lambda: 2000)
    with pytest.raises(VolumeError, match=r"a\.png.*2\.4 kB of memory.*OME-Zarr"):
        open_volume(tmp_path / "a.png").plane()


BESIDE = [("png", "pgw"), ("jpg", "jgw"), ("jpg", "wld"), ("png", "PNGW")]


@pytest.mark.parametrize(("suffix", "beside"), BESIDE)
def test_world_files_place_a_picture(tmp_path, suffix, beside):
    affine = pytest.importorskip("affine")
    Image.fromarray(stack((20, 30))).save(tmp_path / f"a.{suffix}")
    six = "2.0\n0.5\n0.25\n-3.0\n1000,5\n2000.5\n"
    (tmp_path / f"a.{beside}").write_text(six)
    volume = open_volume(tmp_path / f"a.{suffix}")
    corner = affine.loadsw(six.replace(",", "."))
    x, y = corner * (7.5, 4.5)
    assert volume.affine @ [4, 7, 1] == pytest.approx([y, x, 1])
    assert volume.spacing == pytest.approx((np.hypot(3, 0.25), np.hypot(2, 0.5)))


def test_a_torn_world_file_is_refused(tmp_path):
    Image.fromarray(stack((20, 30))).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("1\n0\n0\nnan\n5\n")
    with pytest.raises(VolumeError, match=r"a\.pgw.*six numbers"):
        open_volume(tmp_path / "a.png")


def test_a_cut_picture_is_refused_by_name(tmp_path):
    Image.fromarray(stack((90, 90, 3))).save(tmp_path / "a.png")
    whole_file = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(VolumeError, match="'a' cannot be read"):
        open_volume(tmp_path / "a.png").plane()
