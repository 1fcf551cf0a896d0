import warnings

import numpy as np
import pydicom
import pytest
from dicom_phantoms import ct_slice, make_image, place, write_ct_series
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from napari_sam._napari.layer_data import layer_data
from napari_sam.errors import VolumeError
from napari_sam.volume.opening import open_volume


def written(tmp_path, ds, name="image.dcm"):
    path = tmp_path / name
    ds.save_as(path, enforce_file_format=True)
    return path


def noise(dtype=np.uint16, top=4000):
    return np.random.default_rng(2).integers(0, top, (24, 40)).astype(dtype)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_lossless_is_decoded(tmp_path, syntax, dtype):
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = noise(dtype, 250 if dtype == np.uint8 else 4000)
    ds = make_image(pixels, "CT", syntax, RescaleIntercept=-1024, RescaleSlope=1)
    bits = pixels.dtype.itemsize * 8
    ds.PixelData = encapsulate([imagecodecs.ljpeg_encode(pixels, bitspersample=bits)])
    ds["PixelData"].is_undefined_length = True
    volume = open_volume(written(tmp_path, ds))
    np.testing.assert_array_equal(volume.plane(), pixels.astype(int) - 1024)


def test_twelve_bit_jpeg_equals_what_simpleitk_reads():
    itk = pytest.importorskip("SimpleITK")
    pytest.importorskip("imagecodecs")
    path = get_testdata_file("JPGExtended.dcm", download=False)
    expected = itk.GetArrayFromImage(itk.ReadImage(path))[0]
    np.testing.assert_allclose(open_volume(path).plane(), expected, atol=1)


@pytest.mark.parametrize(
    "name",
    [
        "JPEGLSNearLossless_16.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm",
        "MR_small_jp2klossless.dcm", "MR_small_expb.dcm", "image_dfl.dcm",
        "SC_rgb_jpeg.dcm", "SC_ybr_full_422_uncompressed.dcm",
        "MR_small_implicit.dcm", "ExplVR_BigEnd.dcm", "MR_small_RLE.dcm",
    ],
)  # fmt: skip
def test_every_encoding_reads_as_pydicom_reads_it(name):
    path = get_testdata_file(name, download=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of them is not encoded as it says
        ds = pydicom.dcmread(path)
    expected = pixel_array(ds) * float(ds.get("RescaleSlope") or 1)
    expected = expected + float(ds.get("RescaleIntercept") or 0)
    np.testing.assert_array_equal(open_volume(path).plane(), expected)


@pytest.mark.parametrize("suffix", [".dcm", "", ".0017"])
@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_meta_are_read(tmp_path, suffix, implicit):
    expected = write_ct_series(tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        ds = pydicom.dcmread(path)
        bare = Dataset()
        bare.update({e.tag: e for e in ds})
        bare.save_as(
            tmp_path / f"{path.stem}{suffix}", implicit_vr=implicit, little_endian=True
        )
        path.unlink()
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected)
    one = next(p for p in tmp_path.iterdir() if p.is_file())
    assert open_volume(one).shape == (128, 128)


@pytest.mark.parametrize("uid", ["1.2.840.99999.1.2.1", "1.2.3", "nonsense"])
def test_an_unknown_transfer_syntax_costs_only_its_series(tmp_path, uid):
    ds = ct_slice()
    ds.SeriesInstanceUID = "1.2.9"
    old = str(ds.file_meta.TransferSyntaxUID).encode()
    path = written(tmp_path, ds, "odd.dcm")
    new = uid.encode().ljust(len(old), b"\0")
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(VolumeError, match=r"odd\.dcm cannot be decoded: "):
        open_volume(path)
    write_ct_series(tmp_path / "good")
    volume = open_volume(tmp_path)
    assert volume.shape == (6, 128, 128)
    assert any("1.2.9" in name for name, _ in volume.metadata["skipped"])


def shown(volume):
    """What the layer shows of the first plane, 0..255, as napari computes it."""
    [(data, options, _)] = layer_data(volume)
    low, high = options["contrast_limits"]
    unit = np.clip((np.asarray(data[...], float) - low) / (high - low), 0, 1)
    if options.get("colormap") == "gray_r":
        unit = 1 - unit
    return unit * 255


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 1700, "WindowWidth": 3400}])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_the_layer_shows_what_the_model_sees(tmp_path, kind, window):
    ds = make_image(noise(), "DX", PhotometricInterpretation=kind, **window)
    volume = open_volume(written(tmp_path, ds))
    seen = volume.intensity.apply(volume.plane())[..., 0]
    np.testing.assert_allclose(shown(volume), seen, atol=1)
    again = volume.with_intensity((100.0, 900.0))
    seen = again.intensity.apply(again.plane())[..., 0]
    np.testing.assert_allclose(shown(again), seen, atol=1)


@pytest.mark.parametrize(
    ("center", "width", "black", "white"),
    [
        pytest.param(100, 1, 99, 100, id="step"),
        pytest.param(100, 2, 99, 100, id="two"),
        pytest.param(100, 101, 49.5, 149.5, id="usual"),
    ],
)
def test_narrow_windows_are_steps(tmp_path, center, width, black, white):
    tags = {"WindowCenter": center, "WindowWidth": width}
    volume = open_volume(written(tmp_path, make_image(noise(), "MR", **tags)))
    assert volume.intensity.windows == ((black, white),)


@pytest.mark.parametrize("width", [0, -400, "nan"])
def test_windows_that_show_nothing_are_passed_over(tmp_path, width):
    tags = {"WindowCenter": [10, 40], "WindowWidth": [1, 100]}
    ds = make_image(noise(), "CT", **tags)
    path = written(tmp_path, ds)
    path.write_bytes(
        path.read_bytes().replace(b"1\\100 ", f"{width}\\9".ljust(6)[:6].encode())
    )
    low, high = open_volume(path).intensity.windows[0]
    assert low < high


def test_a_voi_table_gives_the_window(tmp_path):
    table = Dataset()
    rising = np.concatenate([np.zeros(100), np.linspace(0, 4095, 300), [4095] * 100])
    table.LUTDescriptor = [500, 1000, 12]
    table.LUTData = rising.astype(np.uint16).tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    ds = make_image(noise(), "DX", VOILUTSequence=Sequence([table]))
    low, high = open_volume(written(tmp_path, ds)).intensity.windows[0]
    assert 1099 <= low <= 1104 and 1395 <= high <= 1400


def test_a_modality_table_gives_the_values(tmp_path):
    from pydicom.pixels.processing import apply_modality_lut

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (np.arange(4096) * 7 % 60000).astype(np.uint16).tobytes()
    table.ModalityLUTType = "US"
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    ds = make_image(noise(), "DX", ModalityLUTSequence=Sequence([table]))
    path = written(tmp_path, ds)
    stored = pydicom.dcmread(path)
    expected = apply_modality_lut(stored.pixel_array, stored)
    np.testing.assert_array_equal(open_volume(path).plane(), expected)


@pytest.mark.parametrize("slope", ["0", "nan", "-0", "inf"])
def test_a_slope_that_says_nothing_is_taken_as_one(tmp_path, slope):
    ds = make_image(noise(np.int16), "CT", RescaleSlope="7777", RescaleIntercept="-10")
    path = written(tmp_path, ds)
    path.write_bytes(path.read_bytes().replace(b"7777", slope.ljust(4).encode()))
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.plane(), noise(np.int16) - 10)
    assert any("RescaleSlope" in note for note in volume.metadata["notes"])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("stored", [9, 12, 13, 16])
def test_unused_bits_are_not_values(tmp_path, signed, stored):
    low, high = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    values = np.random.default_rng(0).integers(low, high, (24, 40))
    words = (values & ((1 << stored) - 1)).astype(np.uint16)
    junk = np.random.default_rng(1).integers(0, 1 << 16, (24, 40)).astype(np.uint32)
    words |= ((junk << stored) & 0xFFFF).astype(np.uint16)
    ds = make_image(words, "CT", PixelRepresentation=int(signed))
    ds.BitsStored, ds.HighBit = stored, stored - 1
    volume = open_volume(written(tmp_path, ds))
    np.testing.assert_array_equal(volume.plane(), values)


def test_padding_does_not_count_and_is_black(tmp_path):
    pixels = noise(np.int16, 1000)
    pixels[:, :10] = -2000
    ds = make_image(
        pixels, "MR", PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1"
    )
    ds["PixelPaddingValue"].VR = "SS"
    volume = open_volume(written(tmp_path, ds))
    assert volume.intensity.windows[0][0] >= 0
    seen = volume.intensity.apply(volume.plane())[..., 0]
    assert seen[:, :10].max() == 0
    assert volume.metadata["nodata"] == -2000


def test_a_file_cut_short_costs_only_itself(tmp_path):
    write_ct_series(tmp_path)
    last = max(
        tmp_path.iterdir(),
        key=lambda p: pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[
            2
        ],
    )
    last.write_bytes(last.read_bytes()[:20_000])
    volume = open_volume(tmp_path)
    assert volume.shape == (5, 128, 128)
    assert "cut short" in dict(volume.metadata["skipped"])[last.name]


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 0}, {"BitsAllocated": 12}, {"NumberOfFrames": 2_000_000_000},
        {"Rows": 65535, "Columns": 65535},
    ],
)  # fmt: skip
def test_absurd_headers_are_refused_at_once(tmp_path, tags):
    path = written(tmp_path, make_image(noise(), "CT", **{**place(0.0), **tags}))
    with pytest.raises(VolumeError, match=r"image\.dcm"):
        open_volume(path)


def test_a_deflated_file_that_swells_without_end_is_refused(tmp_path):
    import zlib

    path = tmp_path / "bomb.dcm"
    ds = make_image(np.zeros((8, 8), np.uint16), "CT")
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    deflate = zlib.compressobj(wbits=-15)
    swollen = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(400))
    path.write_bytes(data[:start] + swollen + deflate.flush())
    with pytest.raises(VolumeError, match="unpacks"):
        open_volume(path)
