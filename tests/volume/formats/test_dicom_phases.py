import numpy as np
import pytest
from dicom_phantoms import make_image, phase_values, place, write_phases
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume

CARDIAC = "CardiacSynchronizationSequence"


def expected(n_t, n_z=4):
    return np.arange(n_t)[:, None] * 10 + np.arange(n_z)


def many(name, values, **more):
    return [{name: value, **more} for value in values]


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param(many("AcquisitionTime", ["100000", "100030", "100100"]), id="acq"),
        pytest.param(many("TriggerTime", [0, 41.5, 83]), id="trigger"),
        pytest.param(many("FrameReferenceTime", [500, 9000, 10500]), id="reference"),
        pytest.param(many("DiffusionBValue", [0.0, 400.0, 1000.0]), id="b-value"),
        pytest.param(many("EchoTime", [4.6, 9.2, 13.8]), id="echo-time"),
        pytest.param(many("EchoNumbers", [1, 2, 3]), id="echo-number"),
        pytest.param(many("InversionTime", [100, 400, 2400]), id="inversion"),
        pytest.param(many("FlipAngle", [3, 10, 20]), id="flip-angle"),
        pytest.param(many("TemporalPositionIdentifier", [1, 2, 10]), id="temporal"),
        pytest.param(many("AcquisitionNumber", [2, 9, 11]), id="acquisition"),
        pytest.param(many("ContentTime", ["120000.1", "130000"]), id="content"),
        pytest.param(
            many("AcquisitionDateTime", ["20260101235950", "20260102000010"]),
            id="over-midnight-with-date",
        ),
        pytest.param(
            many("AcquisitionTime", ["235930", "235959.5", "000030"]),
            id="over-midnight-without-date",
        ),
        pytest.param(
            [lambda z, t=t: {"TriggerTime": 40.0 * t + 0.3 * z} for t in range(3)],
            id="trigger-of-each-slice",
        ),
        pytest.param(
            [lambda z, t=t: {"AcquisitionTime": f"10{t:02d}{z:02d}"} for t in range(3)],
            id="time-of-each-slice",
        ),
        pytest.param(
            [lambda z, t=t: {"EchoTime": 4.6 * (t + 1) + 1e-3 * z} for t in range(3)],
            id="echo-rounded-otherwise-in-each-slice",
        ),
        pytest.param(
            [lambda z, t=t: {"InstanceNumber": 4 * t + z + 1} for t in range(3)],
            id="numbers-phase-by-phase",
        ),
        pytest.param(
            [
                lambda z, t=t: {
                    "InstanceNumber": 4 * t + z + 1,
                    "ContentTime": f"12{7 * (t + z) % 5:02d}{3 - t:02d}",
                }
                for t in range(3)
            ],
            id="numbers-before-times-of-export",
        ),
        pytest.param(
            [lambda z, t=t: {"InstanceNumber": 3 * z + t + 1} for t in range(3)],
            id="numbers-slice-by-slice",
        ),
        pytest.param(
            many("ImageType", [["DERIVED", "PRIMARY", k] for k in ("FAT", "WATER")]),
            id="image-type",
        ),
    ],
)  # fmt: skip
def test_phases_are_split_by_whatever_tells_them_apart(tmp_path, tags):
    write_phases(tmp_path, tags)
    volume = open_volume(tmp_path)
    assert volume.axes == ("t", "z", "y", "x")
    np.testing.assert_array_equal(phase_values(volume), expected(len(tags)))
    assert volume.metadata["skipped"] == []


def test_two_tags_split_what_one_does_not(tmp_path):
    tags = [
        {"EchoTime": e, "TemporalPositionIdentifier": t}
        for t in (1, 2, 3) for e in (5.0, 10.0)
    ]  # fmt: skip
    write_phases(tmp_path, tags)
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(phase_values(volume), expected(6))
    assert volume.metadata["phases"] == {
        "TemporalPositionIdentifier": [1, 1, 2, 2, 3, 3],
        "EchoTime": [5, 10, 5, 10, 5, 10],
    }


def test_directions_of_diffusion_count_beside_the_b_value(tmp_path):
    tags = [{"DiffusionBValue": 0.0}] + [
        {"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": d}
        for d in ([0, 0, 1], [0, 1, 0], [1, 0, 0])
    ]
    write_phases(tmp_path, tags)
    np.testing.assert_array_equal(phase_values(open_volume(tmp_path)), expected(4))


@pytest.mark.parametrize(
    ("tags", "step", "unit"),
    [
        (many("TriggerTime", [0, 50, 100]), 50, "millisecond"),
        (many("AcquisitionTime", ["100000", "100030", "100100"]), 30, "second"),
        (many("AcquisitionTime", ["235930", "000000", "000030"]), 30, "second"),
        (many("TriggerTime", [0, 50, 300]), 1, "pixel"),
        (many("EchoTime", [5, 10, 15]), 1, "pixel"),
    ],
)
def test_even_times_give_t_a_spacing(tmp_path, tags, step, unit):
    write_phases(tmp_path, tags)
    volume = open_volume(tmp_path)
    assert (volume.spacing[0], volume.units[0]) == (pytest.approx(step), unit)
    assert volume.affine[0, 0] == pytest.approx(step)
    np.testing.assert_allclose(volume.spacing[1:], (3, 1, 1))


def test_an_unfinished_phase_is_left_out_and_told(tmp_path):
    write_phases(tmp_path, many("TriggerTime", [0, 50, 100]))
    last = [
        p for p in sorted(tmp_path.iterdir())
        if open_volume(p).plane().max() in (21, 23)
    ]  # fmt: skip
    for path in last:
        path.unlink()
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(phase_values(volume), expected(2))
    assert len(volume.metadata["skipped"]) == 2
    assert "lacks 2 of 4 slices" in volume.metadata["skipped"][0][1]


def test_values_that_overlap_tell_nothing(tmp_path):
    write_phases(tmp_path, [lambda z, t=t: {"FlipAngle": t + 0.6 * z} for t in (1, 2)])
    with pytest.raises(VolumeError, match="no tag tells"):
        open_volume(tmp_path)


def test_images_that_no_tag_tells_apart_are_refused_in_one_sentence(tmp_path):
    write_phases(tmp_path, [{"InstanceNumber": 1}] * 3)
    with pytest.raises(VolumeError, match="no tag tells which images belong together"):
        open_volume(tmp_path)


def test_equal_slices_of_different_times_are_no_copies(tmp_path):
    write_phases(tmp_path, many("TriggerTime", [0, 50, 100]), value=lambda t, z: z)
    assert open_volume(tmp_path).shape == (3, 4, 8, 8)


@pytest.mark.parametrize(
    ("magnitude", "phase"),
    [
        pytest.param(
            {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
            id="philips",
        ),
        pytest.param(
            {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
            {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
            id="siemens",
        ),
        pytest.param(
            {"ComplexImageComponent": "MAGNITUDE"},
            {"ComplexImageComponent": "PHASE"},
            id="enhanced",
        ),
    ],
)  # fmt: skip
def test_magnitude_and_phase_are_volumes_of_their_own(tmp_path, magnitude, phase):
    window = {"WindowCenter": 500, "WindowWidth": 1000}
    small = {"WindowCenter": 0, "WindowWidth": 7}
    write_phases(tmp_path, [{**magnitude, **window}, {**phase, **small}])
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path)
    found = {
        text.rpartition("MR, ")[2].partition(",")[0]: open_volume(tmp_path, series=key)
        for key, text in error.value.series.items()
    }
    np.testing.assert_array_equal(phase_values(found["magnitude"]), [0, 1, 2, 3])
    np.testing.assert_array_equal(phase_values(found["phase"]), [10, 11, 12, 13])
    assert found["magnitude"].intensity.windows == ((0.0, 999.0),)
    assert found["phase"].intensity.windows == ((-3.5, 2.5),)


def group(z, t, names):
    out = Dataset()
    position, content = Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, 3.0 * z]
    content.DimensionIndexValues = [1, z + 1, t + 1]
    out.PlanePositionSequence = Sequence([position])
    out.FrameContentSequence = Sequence([content])
    for sequence, name, value in names:
        item = Dataset()
        setattr(item, name, value)
        setattr(out, sequence, Sequence([item]))
    return out


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(lambda t: [], id="dimension-index"),
        pytest.param(
            lambda t: [("MRDiffusionSequence", "DiffusionBValue", 500.0 * t)], id="b"
        ),
        pytest.param(
            lambda t: [
                (CARDIAC, "NominalCardiacTriggerDelayTime", 9.0 * t),
            ],
            id="cardiac",
        ),
        pytest.param(
            lambda t: [("MREchoSequence", "EffectiveEchoTime", 2.0 + t)], id="echo"
        ),
    ],
)  # fmt: skip
def test_frames_of_an_enhanced_file_are_split_by_their_groups(tmp_path, names):
    order = np.random.default_rng(1).permutation(12)
    frames, groups = [], []
    for i in order:
        t, z = divmod(int(i), 4)
        frames.append(np.full((8, 8), 10 * t + z, np.int16))
        groups.append(group(z, t, names(t)))
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [1, 1]
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    ds = make_image(
        np.stack(frames),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    ds.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    volume = open_volume(tmp_path / "enhanced.dcm")
    np.testing.assert_array_equal(phase_values(volume), expected(3))
    np.testing.assert_allclose(volume.spacing[1:], (3, 1, 1))


def test_a_time_series_at_one_place_is_t(tmp_path):
    write_phases(tmp_path, many("TriggerTime", [20, 0, 40]), n_z=1)
    volume = open_volume(tmp_path)
    assert volume.axes == ("t", "y", "x")
    np.testing.assert_array_equal(phase_values(volume), [10, 0, 20])


def test_slices_beside_each_other_in_one_plane_are_volumes_of_their_own(tmp_path):
    for k, x in enumerate((0, 300)):
        for z in range(3):
            tags = {**place(3.0 * z), "ImagePositionPatient": [x, 0, 3.0 * z]}
            ds = make_image(np.full((8, 8), k, np.int16), **tags)
            ds.save_as(tmp_path / f"{k}{z}.dcm", enforce_file_format=True)
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path)
    volumes = [open_volume(tmp_path, series=key) for key in error.value.series]
    assert [v.affine[2, 3] for v in volumes] == [0, 300]
    assert [v.shape[0] for v in volumes] == [3, 3]
