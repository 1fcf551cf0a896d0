import os
import pickle
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import ct_slice, write_ct_series, write_enhanced_mr
from pydicom.data import get_testdata_file

from napari_sam.core.intensity import CT_PRESETS, IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.errors import SeriesError, SpacingError, VolumeError
from napari_sam.volume.opening import open_volume

POSITION = (-158.135803, -179.035797, -75.699997)


def testdata(name):
    return get_testdata_file(name, download=False)


testdata.__test__ = False


def test_a_shuffled_ct_series_is_sorted_by_place_and_rescaled(tmp_path):
    expected = write_ct_series(tmp_path / "a" / "b")
    (tmp_path / "README.txt").write_text("not a slice")
    volume = open_volume(tmp_path)
    assert volume.axes == ("z", "y", "x")
    assert volume.units == ("millimeter",) * 3
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected)
    np.testing.assert_array_equal(volume.plane(2), expected[2])
    np.testing.assert_array_equal(volume.plane(40, axis=1), expected[:, 40])
    np.testing.assert_array_equal(volume.plane(50, axis=2), expected[:, :, 50])
    assert volume.metadata["modality"] == "CT"


def test_spacing_comes_from_positions_where_spacing_between_slices_is_stale(tmp_path):
    write_ct_series(tmp_path)
    assert float(ct_slice().SpacingBetweenSlices) == 5.0
    volume = open_volume(tmp_path)
    np.testing.assert_allclose(volume.spacing, (3.0, 0.661468, 0.661468))


def test_the_affine_leads_to_the_patient_in_reversed_order(tmp_path):
    write_ct_series(tmp_path, step=(0, 0, -2.0))
    affine = open_volume(tmp_path).affine
    at = affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(at[:3][::-1], np.add(POSITION, (0, 0, -10.0)))
    there = affine @ [5, 3, 7, 1]
    expected = np.add(POSITION, (7 * 0.661468, 3 * 0.661468, 0))
    np.testing.assert_allclose(there[:3][::-1], expected, atol=1e-6)


def test_a_tilted_gantry_shows_as_shear_and_spacing_runs_along_the_normal(tmp_path):
    expected = write_ct_series(tmp_path, step=(0, 0.8, 3.0))
    volume = open_volume(tmp_path)
    np.testing.assert_allclose(volume.spacing[0], 3.0)
    np.testing.assert_allclose(volume.affine[:3, 0], [3.0, 0.8, 0.0], atol=1e-6)
    np.testing.assert_array_equal(volume.plane(5), expected[5])


@pytest.mark.parametrize(
    "orientation",
    [
        pytest.param((0, 1, 0, 0, 0, -1), id="sagittal"),
        pytest.param((1, 0, 0, 0, 0, -1), id="coronal"),
        pytest.param((0.8, 0.6, 0, -0.6, 0.8, 0), id="oblique"),
    ],
)
def test_slices_are_sorted_along_their_own_normal(tmp_path, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    expected = write_ct_series(
        tmp_path, step=normal * 1.5, ImageOrientationPatient=list(orientation)
    )
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.plane(4), expected[4])
    np.testing.assert_allclose(volume.affine[:3, 0], normal[::-1] * 1.5, atol=1e-5)
    row, col = np.array(orientation[:3]), np.array(orientation[3:])
    np.testing.assert_allclose(volume.affine[:3, 1], col[::-1] * 0.661468, atol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 2], row[::-1] * 0.661468, atol=1e-6)


def test_geometry_and_pixels_agree_with_highdicom(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    # highdicom believes SpacingBetweenSlices, which CT_small has at 5 mm.
    write_ct_series(tmp_path, SpacingBetweenSlices=3.0)
    datasets = [pydicom.dcmread(p) for p in tmp_path.iterdir()]
    theirs = highdicom.image.get_volume_from_series(datasets)
    ours = open_volume(tmp_path)
    np.testing.assert_array_equal(np.asarray(ours.levels[0])[::-1], theirs.array)
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, ours.shape[0] - 1
    reverse = np.eye(4)[[2, 1, 0, 3]]
    np.testing.assert_allclose(reverse @ ours.affine @ flip, theirs.affine, atol=1e-4)


def test_opening_decodes_no_pixels_and_looking_decodes_one_slice(tmp_path, monkeypatch):
    from napari_sam.volume.formats import dicom_frames

    write_ct_series(tmp_path)
    decoded = []
    original = dicom_frames.decode

    def counting(header, frame, dtype):
        decoded.append(frame.path)
        return original(header, frame, dtype)

    monkeypatch.setattr(dicom_frames, "decode", counting)
    volume = open_volume(tmp_path)
    _ = volume.intensity
    assert decoded == []
    volume.read(Plane.of(volume.shape, 3), Window(0, 10, 10, 20, 20))
    volume.plane(3)
    assert len(decoded) == 1
    monkeypatch.setattr(dicom_frames, "CACHE_BYTES", 1)
    volume = open_volume(tmp_path)
    volume.plane(4)
    volume.plane(4)
    volume.plane(3)
    volume.plane(4)
    assert len(decoded) == 1 + 3


def test_slopes_of_each_slice_are_applied(tmp_path):
    hounsfield = write_ct_series(
        tmp_path, RescaleSlope=lambda k: 1 + k / 4, RescaleIntercept=-10.5
    )
    volume = open_volume(tmp_path)
    assert volume.dtype == np.float32
    expected = (hounsfield[3] + 1024) * 1.75 - 10.5
    np.testing.assert_allclose(volume.plane(3), expected)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param({}, CT_PRESETS["soft tissue"], id="ct-preset"),
        pytest.param({"Modality": "PT"}, None, id="percentiles"),
        pytest.param(
            {"WindowCenter": ["50", "400"], "WindowWidth": ["401", "2000"]},
            (-150.5, 249.5),
            id="first-window",
        ),
        pytest.param(
            {"WindowCenter": lambda k: 40 + 10 * k, "WindowWidth": 101},
            (14.5, 114.5),
            id="median-window",
        ),
        pytest.param(
            {"WindowCenter": 50, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            (-150.0, 250.0),
            id="exact",
        ),
    ],
)
def test_the_window_is_the_file_s_own_else_the_modality_s(tmp_path, tags, expected):
    values = write_ct_series(tmp_path, **tags)
    window = open_volume(tmp_path).intensity.windows[0]
    if expected is None:
        expected = np.percentile(values[[1, 3, 5]], [0.1, 99.9])
    np.testing.assert_allclose(window, expected)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 0, "WindowWidth": 100}])
@pytest.mark.parametrize("modality", ["CT", "CR"])
def test_monochrome1_is_inverted_through_the_mapping(tmp_path, window, modality):
    tags = {"PhotometricInterpretation": "MONOCHROME1", "Modality": modality}
    values = write_ct_series(tmp_path, **tags, **window)
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(volume.plane(0), values[0])
    assert volume.intensity.invert
    shown = volume.intensity.apply(volume.plane(0))[..., 0]
    assert shown[values[0] == values[0].min()].min() == 255


def test_mixed_series_are_listed_and_chosen_by_uid_number_or_description(tmp_path):
    expected = write_ct_series(tmp_path / "a", SeriesNumber=4)
    write_ct_series(tmp_path / "b", count=4, description="lung", SeriesNumber=5, seed=8)
    with pytest.raises(SeriesError, match=r"2 series.*choose one") as error:
        open_volume(tmp_path)
    assert len(error.value.series) == 2
    for uid, text in error.value.series.items():
        assert uid in str(error.value)
        assert text in str(error.value)
    assert sorted("lung" in t for t in error.value.series.values()) == [False, True]
    uid = next(u for u, t in error.value.series.items() if "abdomen" in t)
    for series in (uid, "abdomen", 4):
        volume = open_volume(tmp_path, series=series)
        np.testing.assert_array_equal(volume.plane(1), expected[1])
    again = pickle.loads(pickle.dumps(volume))
    assert again.shape == volume.shape
    with pytest.raises(SeriesError, match="not one of them is '1\\.2'"):
        open_volume(tmp_path, series="1.2")


def drop_slice(folder, k):
    """Remove the file of the slice at index k of `write_ct_series`."""
    for path in folder.iterdir():
        z = pydicom.dcmread(path).ImagePositionPatient[2]
        if abs(z - POSITION[2] - 3 * k) < 0.1:
            path.unlink()


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path):
    write_ct_series(tmp_path)
    drop_slice(tmp_path, 2)
    with pytest.raises(
        SpacingError,
        match=r"6\.000 mm between IM\d+\.dcm and IM\d+.*spacing=\"resample\"",
    ):
        open_volume(tmp_path)


def test_a_missing_slice_is_filled_where_that_is_asked_for(tmp_path):
    expected = write_ct_series(tmp_path)
    drop_slice(tmp_path, 2)
    volume = open_volume(tmp_path, spacing="resample")
    assert volume.shape == expected.shape
    for k in (0, 1, 3, 4, 5):
        np.testing.assert_array_equal(volume.plane(k), expected[k])
    between = np.rint((expected[1] + expected[3]) / 2)
    np.testing.assert_array_equal(volume.plane(2), between)
    np.testing.assert_allclose(volume.spacing[0], 3.0)
    np.testing.assert_allclose(
        (volume.affine @ [2, 0, 0, 1])[:3][::-1], np.add(POSITION, (0, 0, 6.0))
    )
    assert volume.metadata["slices"] == "resampled"
    assert any("6.000 mm" in note for note in volume.metadata["notes"])
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(2), between)


def test_uneven_slices_are_kept_as_they_are_where_that_is_asked_for(tmp_path):
    expected = write_ct_series(tmp_path)
    drop_slice(tmp_path, 2)
    volume = open_volume(tmp_path, spacing="positions")
    assert volume.shape[0] == 5
    np.testing.assert_array_equal(volume.plane(2), expected[3])
    np.testing.assert_allclose(volume.metadata["slice_positions_mm"], [0, 3, 9, 12, 15])


def test_one_slice_too_many_adds_no_planes(tmp_path):
    expected = write_ct_series(tmp_path)
    extra = sorted(tmp_path.iterdir())[0]
    ds = pydicom.dcmread(extra)
    ds.ImagePositionPatient = [*POSITION[:2], POSITION[2] + 16]
    ds.SOPInstanceUID = "1.2.3"
    ds.save_as(tmp_path / "extra.dcm")
    volume = open_volume(tmp_path, spacing="resample")
    assert volume.shape == expected.shape
    np.testing.assert_array_equal(volume.plane(5), expected[5])


def test_a_slice_shifted_within_its_plane_is_told(tmp_path):
    write_ct_series(tmp_path)
    odd = sorted(tmp_path.iterdir())[2]
    ds = pydicom.dcmread(odd)
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x + 4, y, z]
    ds.save_as(odd)
    with pytest.raises(SpacingError, match="shifted"):
        open_volume(tmp_path)
    assert open_volume(tmp_path, spacing="positions").shape[0] == 6


def test_even_slices_are_the_same_whatever_spacing_says(tmp_path):
    write_ct_series(tmp_path)
    for spacing in ("resample", "positions"):
        volume = open_volume(tmp_path, spacing=spacing)
        assert volume.identity() == open_volume(tmp_path).identity()
        assert "slice_positions_mm" not in volume.metadata
    with pytest.raises(VolumeError, match="resample"):
        open_volume(tmp_path, spacing="regular")


def reasons(volume):
    return dict(volume.metadata["skipped"])


def test_a_slice_of_another_size_is_left_out_with_the_reason(tmp_path):
    write_ct_series(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    ds = ct_slice()
    ds.PixelData = ds.pixel_array[:64].tobytes()
    ds.Rows = 64
    ds.SeriesInstanceUID = pydicom.dcmread(
        next(tmp_path.glob("*.dcm"))
    ).SeriesInstanceUID
    ds.save_as(tmp_path / "odd.dcm")
    volume = open_volume(tmp_path)
    assert volume.shape[0] == 6
    assert reasons(volume) == {
        "odd.dcm": "it is 64 x 128, where the series is 128 x 128",
        ".DS_Store": "it is no DICOM file",
    }


def test_a_scout_in_the_series_is_left_out_and_can_still_be_opened(tmp_path):
    write_ct_series(tmp_path)
    ds = ct_slice()
    ds.SeriesInstanceUID = pydicom.dcmread(
        next(tmp_path.glob("*.dcm"))
    ).SeriesInstanceUID
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    ds.save_as(tmp_path / "scout.dcm")
    volume = open_volume(tmp_path)
    assert volume.shape[0] == 6
    assert "another angle" in reasons(volume)["scout.dcm"]
    scout = open_volume(tmp_path, series=f"{ds.SeriesInstanceUID}:2")
    assert scout.axes == ("y", "x")


def test_three_directions_in_one_series_are_a_choice(tmp_path):
    uid = "1.2.826.0.1.77"
    for k, o in enumerate(
        [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)]
    ):
        normal = np.cross(o[:3], o[3:])
        write_ct_series(
            tmp_path / str(k), series_uid=uid, step=normal * 2, seed=k,
            ImageOrientationPatient=list(o), SOPInstanceUID="", SeriesNumber=7,
        )  # fmt: skip
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path)
    assert list(error.value.series) == [f"{uid}:{n}" for n in (1, 2, 3)]
    assert open_volume(tmp_path, series="7:2").shape[0] == 6


def test_copies_of_a_file_count_once(tmp_path, caplog):
    expected = write_ct_series(tmp_path)
    source = sorted(tmp_path.iterdir())[1]
    (tmp_path / "copy of it.dcm").write_bytes(source.read_bytes())
    volume = open_volume(tmp_path)
    assert volume.shape == expected.shape
    assert "is a copy of" in caplog.text


def test_a_copy_under_another_uid_is_still_a_copy(tmp_path):
    expected = write_ct_series(tmp_path)
    source = sorted(tmp_path.iterdir())[1]
    ds = pydicom.dcmread(source)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.ContentTime = "111111"
    ds.save_as(tmp_path / "second.dcm")
    volume = open_volume(tmp_path)
    assert volume.shape == expected.shape
    assert reasons(volume) == {"second.dcm": f"it is a copy of {source.name}"}


def test_a_doubled_place_with_other_pixels_is_an_error_that_names_both(tmp_path):
    write_ct_series(tmp_path)
    source = sorted(tmp_path.iterdir())[1]
    ds = pydicom.dcmread(source)
    ds.PixelData = (ds.pixel_array + 1).tobytes()
    ds.save_as(tmp_path / "second.dcm")
    with pytest.raises(VolumeError, match="no tag tells") as error:
        open_volume(tmp_path)
    assert "second.dcm" in str(error.value)
    assert source.name in str(error.value)


@pytest.mark.parametrize("uid", ["1.2.3.4.5", ""])
def test_slices_with_one_instance_uid_are_all_kept(tmp_path, uid):
    expected = write_ct_series(tmp_path)
    for path in tmp_path.iterdir():
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID, ds.InstanceNumber = uid, 1
        ds.save_as(path)
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected)


def test_places_with_as_many_images_each_become_time_points(tmp_path):
    uid = "1.2.826.0.1.99"
    early = write_ct_series(
        tmp_path / "a", seed=1, series_uid=uid, TemporalPositionIdentifier=1
    )
    late = write_ct_series(
        tmp_path / "b", seed=2, series_uid=uid, TemporalPositionIdentifier=2,
        SOPInstanceUID=lambda k: f"1.2.3.{k}", RescaleIntercept=-1000,
    )  # fmt: skip
    volume = open_volume(tmp_path)
    assert volume.axes == ("t", "z", "y", "x")
    assert volume.affine.shape == (5, 5)
    np.testing.assert_array_equal(volume.plane((0, 3)), early[3])
    np.testing.assert_array_equal(volume.plane((1, 3)), late[3] + 24)
    np.testing.assert_array_equal(volume.plane((1, 30), axis=1), late[:, 30] + 24)


def test_an_enhanced_multiframe_file_is_placed_by_its_functional_groups(tmp_path):
    expected = write_enhanced_mr(tmp_path / "enhanced.dcm")
    volume = open_volume(tmp_path / "enhanced.dcm")
    assert volume.axes == ("z", "y", "x")
    np.testing.assert_allclose(volume.spacing, (2.5, 0.5, 0.75))
    np.testing.assert_allclose(np.asarray(volume.levels[0]), expected)
    np.testing.assert_allclose(volume.affine[:3, 3], (30, 20, 10))
    assert volume.intensity == IntensityMapping.grey(599.5, 1399.5)


def test_a_single_file_is_a_two_dimensional_image():
    volume = open_volume(testdata("CT_small.dcm"))
    ds = ct_slice()
    assert volume.axes == ("y", "x")
    np.testing.assert_allclose(volume.spacing, (0.661468, 0.661468))
    np.testing.assert_array_equal(volume.plane(), ds.pixel_array.astype(int) - 1024)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("examples_rgb_color.dcm", ("y", "x")),
        ("examples_palette.dcm", ("y", "x")),
        ("examples_ybr_color.dcm", ("t", "y", "x")),
        ("SC_rgb_rle_2frame.dcm", ("t", "y", "x")),
    ],
)
def test_colour_comes_as_rgb(name, axes):
    volume = open_volume(testdata(name))
    assert (volume.axes, volume.n_channels, volume.rgb) == (axes, 3, True)
    assert volume.intensity == IntensityMapping.rgb()
    pixels = volume.plane(-1 if len(axes) == 3 else 0)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*volume.shape[-2:], 3)


def test_palette_colours_are_those_that_pydicom_gives():
    from pydicom.pixels.processing import apply_color_lut

    path = testdata("examples_palette.dcm")
    ds = pydicom.dcmread(path)
    expected = apply_color_lut(ds.pixel_array, ds) >> 8
    np.testing.assert_array_equal(open_volume(path).plane(), expected)


def test_frames_of_a_film_are_read_one_by_one():
    path = testdata("examples_ybr_color.dcm")
    volume = open_volume(path)
    assert (volume.spacing[0], volume.units[0]) == (33.333, "millisecond")
    from pydicom.pixels.utils import pixel_array

    expected = pixel_array(path)[17]
    np.testing.assert_array_equal(volume.plane(17), expected)


def test_a_dose_grid_is_placed_by_its_frame_offsets():
    path = testdata("rtdose.dcm")
    volume = open_volume(path)
    np.testing.assert_allclose(volume.spacing, (5, 10, 10))
    stored = pydicom.dcmread(path)
    offsets = np.array(stored.GridFrameOffsetVector, float)
    order = np.argsort(offsets)
    np.testing.assert_array_equal(volume.plane(2), stored.pixel_array[order[2]])


def test_a_folder_without_dicom_says_what_it_holds(tmp_path):
    with pytest.raises(VolumeError, match="the folder is empty"):
        open_volume(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"no DICOM images.*2 x \.png"):
        open_volume(tmp_path)


def test_files_that_are_no_images_are_told_so(tmp_path):
    with pytest.raises(VolumeError, match="no DICOM image"):
        open_volume(testdata("rtplan.dcm"))
    whole = Path(testdata("CT_small.dcm")).read_bytes()
    (tmp_path / "torn.dcm").write_bytes(whole[:300])
    with pytest.raises(VolumeError, match="no DICOM image"):
        open_volume(tmp_path / "torn.dcm")


def test_truncated_pixels_name_the_file():
    volume = open_volume(testdata("MR_truncated.dcm"))
    with pytest.raises(VolumeError, match=r"MR_truncated\.dcm cannot be decoded"):
        volume.plane()


def test_a_missing_decoder_names_the_packages(monkeypatch):
    from napari_sam.volume.formats import dicom_codecs

    decoder = dicom_codecs.decoder_for("1.2.840.10008.1.2.4.90")
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"imagecodecs": ("imagecodecs",)})
    monkeypatch.setattr(dicom_codecs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        VolumeError,
        match=r"JPEG 2000.*pip install pylibjpeg pylibjpeg-openjpeg or imagecodecs",
    ):
        open_volume(testdata("MR_small_jp2klossless.dcm"))


def test_a_series_pickles_as_its_folder(tmp_path):
    expected = write_ct_series(tmp_path)
    volume = open_volume(tmp_path)
    _ = volume.plane(2)
    data = pickle.dumps(volume)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).plane(2), expected[2])


def test_pixels_that_vanish_after_opening_give_a_clear_error(tmp_path):
    write_ct_series(tmp_path)
    volume = open_volume(tmp_path)
    for path in tmp_path.iterdir():
        os.unlink(path)
    with pytest.raises(VolumeError, match=r"cannot be decoded .*No such file"):
        volume.plane(1)
