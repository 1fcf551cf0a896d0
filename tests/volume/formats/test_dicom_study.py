import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import make_image, place, write_ct_series, write_phases
from pydicom.data import get_testdata_file

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume
from napari_sam.volume.series import list_series


def two_of_one_number(folder):
    first = write_ct_series(folder / "a", SeriesNumber=201)
    second = write_ct_series(
        folder / "b", SeriesNumber=201, seed=9, count=4, description="lung"
    )
    write_ct_series(folder / "c", SeriesNumber=3, seed=10, description="bone")
    return first, second


def test_two_series_of_one_number_are_both_listed_and_can_be_chosen(tmp_path):
    first, second = two_of_one_number(tmp_path)
    with pytest.raises(SeriesError, match=r"2 series that '201' names") as error:
        open_volume(tmp_path, series=201)
    assert len(error.value.series) == 2
    assert "201:1" in str(error.value) and "201:2" in str(error.value)
    np.testing.assert_array_equal(
        open_volume(tmp_path, series="201:1").plane(), first[0]
    )
    chosen = open_volume(tmp_path, series="201:2")
    np.testing.assert_array_equal(chosen.plane(), second[0])
    for key in error.value.series:
        assert open_volume(tmp_path, series=key).shape[0] in (4, 6)
    assert open_volume(tmp_path, series=3).shape[0] == 6


def test_series_are_listed_with_what_a_chooser_shows(tmp_path):
    two_of_one_number(tmp_path)
    (tmp_path / "report.txt").write_text("nothing")
    found = {info.short: info for info in list_series(tmp_path)}
    assert sorted(found) == ["201:1", "201:2", "3"]
    info = found["201:2"]
    assert (info.modality, info.number, info.n_files) == ("CT", 201, 4)
    assert info.shape == (4, 128, 128) and info.axes == ("z", "y", "x")
    np.testing.assert_allclose(info.spacing, (3, 0.661468, 0.661468))
    assert "lung" in info.description and not info.problem
    picture = info.thumbnail(64)
    assert picture.shape == (64, 64, 3) and picture.std() > 5
    assert info.open().identity() == open_volume(tmp_path, series="201:2").identity()


def test_a_list_of_series_says_what_cannot_be_opened_and_what_is_uneven(tmp_path):
    write_phases(tmp_path / "mixed", [{"InstanceNumber": 1}] * 2, SeriesNumber=1)
    for k in (0, 1, 2, 5, 6):
        ds = make_image(
            np.full((8, 8), k, np.int16), "CT", **place(float(k)), SeriesNumber=2,
            SeriesInstanceUID="1.2.3.77",
        )  # fmt: skip
        ds.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    found = {info.short: info for info in list_series(tmp_path)}
    assert "no tag tells" in found["1"].problem
    assert "3.000 mm" in found["2"].uneven and not found["2"].problem
    assert found["2"].shape == found["2"].open().shape == (7, 8, 8)


def test_single_images_are_series_of_their_own(tmp_path):
    import tifffile

    tifffile.imwrite(
        tmp_path / "cells.tif",
        np.zeros((3, 40, 60), np.uint16),
        photometric="minisblack",
    )
    [info] = list_series(tmp_path / "cells.tif")
    assert info.key is None and info.shape == (3, 40, 60)
    assert info.thumbnail(30).shape == (20, 30, 3)
    with pytest.raises(VolumeError):
        list_series(tmp_path / "missing.tif")


def test_images_of_an_ome_tiff_are_listed(tmp_path):
    import tifffile

    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as tif:
        tif.write(np.zeros((20, 30), np.uint8), metadata={"axes": "YX"})
        tif.write(np.zeros((40, 50), np.uint8), metadata={"axes": "YX"})
    found = list_series(tmp_path / "two.ome.tif")
    assert [(i.key, i.shape) for i in found] == [("0", (20, 30)), ("1", (40, 50))]


@pytest.mark.parametrize("depth", ["series", "study/series", "patient/study/series"])
def test_studies_of_any_depth_open(tmp_path, depth):
    expected = write_ct_series(tmp_path / depth)
    for folder in (tmp_path, tmp_path / depth):
        for junk in (".DS_Store", "Thumbs.db", "notes.txt", "._IM0000.dcm"):
            (folder / junk).write_bytes(b"\0\5\x16\7junk" * 20)
    (tmp_path / "preview.jpg").write_bytes(b"\xff\xd8\xff")
    volume = open_volume(tmp_path)
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected)
    assert {name for name, _ in volume.metadata["skipped"]} >= {
        ".DS_Store",
        "notes.txt",
    }


def zipped(folder, path, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                out.write(file, file.relative_to(folder))
    return path


def test_a_zipped_study_opens_without_being_unpacked(tmp_path):
    expected = write_ct_series(tmp_path / "study" / "patient" / "series")
    (tmp_path / "study" / "README.txt").write_text("from the hospital")
    path = zipped(tmp_path / "study", tmp_path / "study.zip")
    shutil.rmtree(tmp_path / "study")
    volume = open_volume(path)
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.zip"]
    [info] = list_series(path)
    assert info.thumbnail(32).shape == (32, 32, 3)


def test_a_zip_that_leads_out_or_swells_is_not_read(tmp_path):
    expected = write_ct_series(tmp_path / "study")
    source = sorted((tmp_path / "study").iterdir())[0]
    path = zipped(tmp_path / "study", tmp_path / "study.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as out:
        out.write(source, "../../outside.dcm")
        absolute = zipfile.ZipInfo("out.dcm")
        absolute.filename = "/etc/outside.dcm"
        out.writestr(absolute, source.read_bytes())
        out.writestr("bomb.dcm", source.read_bytes() + bytes(80 << 20))
    volume = open_volume(path)
    assert volume.shape == expected.shape
    skipped = dict(volume.metadata["skipped"])
    assert "leads out" in skipped["../../outside.dcm"]
    assert "leads out" in skipped["/etc/outside.dcm"]
    assert "as no image does" in skipped["bomb.dcm"]
    assert not (tmp_path.parent / "outside.dcm").exists()


def test_a_zip_that_is_none_is_told(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 and nothing more")
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "a.zip")


def test_a_dicomdir_opens_what_it_lists():
    root = Path(get_testdata_file("dicomdirtests/DICOMDIR", download=False))
    with pytest.raises(SeriesError):
        open_volume(root)
    [info] = [i for i in list_series(root) if i.number == 5]
    volume = info.open()
    assert volume.metadata["series_uid"] == info.uid
    names = {Path(p).name for p, _, _ in volume.metadata["frames"]}
    assert names == {"2062", "2392", "2693", "3023", "3353"}


def test_a_dicomdir_may_name_files_that_are_gone_or_elsewhere(tmp_path):
    root = Path(get_testdata_file("dicomdirtests/DICOMDIR", download=False)).parent
    shutil.copy(root / "DICOMDIR", tmp_path / "DICOMDIR")
    shutil.copytree(root / "77654033" / "CR1", tmp_path / "77654033" / "cr1")
    volume = open_volume(tmp_path / "DICOMDIR")
    assert volume.metadata["modality"] == "CR"
    gone = [n for n, reason in volume.metadata["skipped"] if "not there" in reason]
    assert len(gone) == 30
    data = (tmp_path / "DICOMDIR").read_bytes()
    (tmp_path / "DICOMDIR").write_bytes(data.replace(b"77654033", b"..\\.\\..\\"))
    with pytest.raises(VolumeError):
        open_volume(tmp_path / "DICOMDIR")


def test_some_files_open_as_one_series(tmp_path):
    expected = write_ct_series(tmp_path)

    def z(path):
        return float(pydicom.dcmread(path).ImagePositionPatient[2])

    paths = sorted(tmp_path.iterdir(), key=z)
    volume = open_volume(paths[1:4])
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), expected[1:4])
    assert open_volume(**volume.recipe).identity() == volume.identity()
    assert open_volume([paths[2]]).shape == (128, 128)
    with pytest.raises(VolumeError, match="missing"):
        open_volume([paths[0], tmp_path / "missing"])


def test_a_study_in_which_nothing_can_be_decoded_says_what_is_needed(tmp_path):
    write_ct_series(tmp_path)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        new = b"1.2.840.99999.1.2.1"
        path.write_bytes(data.replace(b"1.2.840.10008.1.2.1", new, 1))
    with pytest.raises(VolumeError, match=r"transfer syntax 1\.2\.840\.99999"):
        open_volume(tmp_path)


def test_a_session_of_some_files_opens_those_files_again(tmp_path):
    from napari_sam.session import Session
    from napari_sam.testing import ToyModel

    write_ct_series(tmp_path / "ct")
    paths = sorted(
        (tmp_path / "ct").iterdir(),
        key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]),
    )
    session = Session(open_volume(paths[:4]), ToyModel())
    session.segment(object_id=1, plane=1, points=[(60, 60)])
    session.save(tmp_path / "work.nsam")
    session.close()
    again = Session.load(tmp_path / "work.nsam", model=ToyModel())
    assert again.volume.shape == (4, 128, 128)
    again.close()


def test_series_of_a_study_are_named_after_themselves(tmp_path):
    two_of_one_number(tmp_path)
    assert open_volume(tmp_path, series="201:2").name == "lung"
    assert {i.volume.name for i in list_series(tmp_path)} == {"abdomen", "lung", "bone"}
    assert open_volume(tmp_path / "c").name == "c"


def test_a_segmentation_beside_its_images_is_left_out(tmp_path):
    expected = write_ct_series(tmp_path)
    ds = make_image(np.zeros((3, 8, 8), np.uint8), "OT")
    ds.Modality, ds.SeriesInstanceUID = "SEG", "1.2.3.99"
    ds.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    volume = open_volume(tmp_path)
    assert volume.shape == expected.shape
    assert "segmentation" in dict(volume.metadata["skipped"])["seg.dcm"]
    assert open_volume(tmp_path, series="1.2.3.99").shape == (3, 8, 8)


def test_two_stacks_under_one_uid_are_a_choice_whatever_their_places(tmp_path):
    for k, o in enumerate([(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)]):
        write_ct_series(
            tmp_path / str(k), series_uid="1.2.3.4", count=8, seed=k,
            ImageOrientationPatient=list(o),
        )  # fmt: skip
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path)
    assert list(error.value.series) == ["1.2.3.4:1", "1.2.3.4:2"]
    axial, coronal = error.value.series.values()
    assert "axial" in axial and "coronal" in coronal
    sizes = [open_volume(tmp_path, series=s).shape[0] for s in error.value.series]
    assert sizes == [8, 8]
