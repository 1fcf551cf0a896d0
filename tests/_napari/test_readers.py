from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam import Session
from napari_sam._napari import sample_data
from napari_sam._napari.layer_data import layer_data
from napari_sam._napari.readers import get_dicom_reader, get_ome_zarr_reader
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume
from napari_sam.volume.volume import Volume

pydicom = pytest.importorskip("pydicom")


def _series(folder, n=4, spacing=2.5):
    """Write a real CT's header with other pixels, as a series in wrong order."""
    from pydicom.data import get_testdata_file
    from pydicom.uid import generate_uid

    uid = generate_uid(entropy_srcs=["series"])
    for i in range(n):
        data = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        data.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(i)])
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.SeriesInstanceUID = uid
        data.ImagePositionPatient = [0, 0, spacing * i]
        data.InstanceNumber = n - i
        data.PixelData = np.full((128, 128), 100 * i, np.int16).tobytes()
        data.save_as(folder / f"{(i * 7) % n}.dcm")


def test_a_dicom_folder_becomes_one_layer_in_millimetres(tmp_path):
    _series(tmp_path)
    [(data, options, kind)] = get_dicom_reader(str(tmp_path))(str(tmp_path))
    assert kind == "image" and data.shape == (4, 128, 128)
    assert options["scale"][0] == pytest.approx(2.5)
    planes = [float(np.asarray(data[i]).mean()) for i in range(4)]
    assert np.allclose(np.diff(planes), 100)
    assert isinstance(options["metadata"]["napari_sam"]["volume"], Volume)


def test_an_ome_zarr_pyramid_becomes_a_multiscale_layer(tmp_path):
    from napari_sam.testing import phantom_image

    image = phantom_image((128, 96)).image
    group = zarr.open_group(tmp_path / "cells.zarr", mode="w")
    for level in range(2):
        step = 2**level
        data = np.ascontiguousarray(image[::step, ::step])
        group.create_array(f"s{level}", data=data, chunks=(64, 64))
    scales = [[{"type": "scale", "scale": [0.5 * 2**n] * 2}] for n in range(2)]
    datasets = [
        {"path": f"s{n}", "coordinateTransformations": scales[n]} for n in range(2)
    ]
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
    }
    path = str(tmp_path / "cells.zarr")
    [(levels, options, kind)] = get_ome_zarr_reader(path)(path)
    assert kind == "image" and options["multiscale"]
    assert [a.shape for a in levels] == [(128, 96), (64, 48)]
    assert tuple(options["scale"]) == (0.5, 0.5)
    assert options["units"] == ("micrometer", "micrometer")


def test_channels_become_layers_of_their_own():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 255, (2, 32, 40)).astype(np.uint8)
    layers = layer_data(open_volume(data, axes="cyx"))
    assert [options["name"] for _, options, _ in layers] == [
        "array · channel 0", "array · channel 1",
    ]  # fmt: skip
    for c, (pixels, _, _) in enumerate(layers):
        np.testing.assert_array_equal(np.asarray(pixels[...]), data[c])


@pytest.mark.parametrize("reader", [get_dicom_reader, get_ome_zarr_reader])
def test_what_is_not_ours_is_left_to_other_readers(reader, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    (tmp_path / "empty").mkdir()
    assert reader(str(tmp_path / "notes.txt")) is None
    assert reader(str(tmp_path / "missing.dcm")) is None
    assert reader(str(tmp_path)) is None
    assert reader(str(tmp_path / "empty")) is None
    assert reader([str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")]) is None


def test_readers_do_not_take_each_others_folders(tmp_path):
    _series(tmp_path)
    assert get_ome_zarr_reader(str(tmp_path)) is None
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    assert get_dicom_reader(str(tmp_path / "a.zarr")) is None


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (sample_data.ct_slice, (512, 512)),
        (sample_data.mr_slice, (300, 484)),
        (sample_data.mr_volume, (24, 96, 128)),
        (sample_data.cells, (660, 550)),
        (sample_data.tissue, (512, 512, 3)),
    ],
)
def test_samples_are_real_images_that_need_no_network(make, shape):
    [(data, options, kind)] = make()
    assert kind == "image" and tuple(data.shape) == shape
    assert np.asarray(data[...]).std() > 1 and options["name"]


def test_the_volume_among_the_samples_goes_out_as_dicom(tmp_path, monkeypatch):
    import highdicom
    import nibabel

    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    [(data, options, _)] = sample_data.mr_volume()
    volume = options["metadata"]["napari_sam"]["volume"]
    session = Session(volume, ToyModel(), embeddings=False)
    session.segment(1, 12, points=[(60, 60)])
    before = np.array(session.labels)

    session.export(tmp_path / "seg.dcm")
    session.export(tmp_path / "rt.dcm", format="rtstruct")

    for name in ("seg.dcm", "rt.dcm"):
        fresh = Session(volume, ToyModel(), embeddings=False)
        fresh.read(tmp_path / name)
        np.testing.assert_array_equal(fresh.labels, before)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert str(seg.PatientName) == "Sample^MR"
    folder = Path(nibabel.__file__).parent / "tests" / "data"
    source = nibabel.load(folder / "example4d.nii.gz")
    values = np.asarray(source.dataobj[..., 0])
    for index in [(0, 0, 0), (23, 95, 127), (11, 60, 40)]:
        z, y, x, _ = volume.affine @ (*index, 1)
        ijk = np.linalg.inv(source.affine) @ (-x, -y, z, 1)
        at = tuple(np.round(ijk[:3]).astype(int))
        np.testing.assert_allclose(ijk[:3], at, atol=1e-3)
        assert np.asarray(data[...])[index] == values[at]


def test_the_ct_sample_is_in_hounsfield_units_and_millimetres():
    [(data, options, _)] = sample_data.ct_slice()
    pixels = np.asarray(data[...])
    assert -2100 < pixels.min() < -900 and pixels.max() > 1000
    assert options["scale"] == pytest.approx((0.431, 0.431), abs=0.01)
    assert options["units"] == ("millimeter", "millimeter")
