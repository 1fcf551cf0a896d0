"""Folders of pictures and TIFF slices as one stack."""

import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(8)


def write(folder, n=12, suffix="tif", colour=False):
    values = RNG.integers(0, 255, (n, 24, 32, *([3] if colour else []))).astype("u1")
    folder.mkdir()
    for i, plane in enumerate(values, 1):
        if suffix == "tif":
            tifffile.imwrite(folder / f"s{i}.tif", plane)
        else:
            Image.fromarray(plane).save(folder / f"s{i}.{suffix}")
    return values


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("colour", [False, True])
def test_slices_are_stacked_in_their_natural_order(tmp_path, suffix, colour):
    values = write(tmp_path / "scan", suffix=suffix, colour=colour)
    (tmp_path / "scan" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "scan" / "._s1.tif").write_bytes(b"x")
    volume = open_volume(tmp_path / "scan")
    assert (volume.axes, volume.shape) == (("z", "y", "x"), (12, 24, 32))
    assert volume.rgb == colour
    for z in (0, 1, 9, 11):
        np.testing.assert_array_equal(volume.plane(z), values[z])
    side = volume.plane(5, axis=1)
    np.testing.assert_array_equal(side, values[:, 5])
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(10), values[10])


def test_what_is_unlike_most_is_left_out_and_told(tmp_path):
    values = write(tmp_path / "scan")
    tifffile.imwrite(tmp_path / "scan" / "overview.tif", np.zeros((99, 99), "u1"))
    (tmp_path / "scan" / "torn.tif").write_bytes(b"II*\0torn")
    volume = open_volume(tmp_path / "scan")
    assert volume.shape == (12, 24, 32)
    note = volume.metadata["notes"][0]
    assert note.startswith("2 of its images")
    assert "overview.tif (99 x 99 uint8" in note
    assert "torn.tif (cannot be read)" in note
    np.testing.assert_array_equal(volume.plane(11), values[11])


def test_images_of_many_sizes_are_listed_and_chosen(tmp_path):
    (tmp_path / "all").mkdir()
    for n in range(3):
        plane = RNG.integers(0, 255, (20 + n, 30)).astype("u1")
        Image.fromarray(plane).save(tmp_path / "all" / f"{n}.png")
    with pytest.raises(SeriesError) as error:
        open_volume(tmp_path / "all")
    assert list(error.value.series) == ["0.png", "1.png", "2.png"]
    assert open_volume(tmp_path / "all", series="1.png").shape == (21, 30)
    with pytest.raises(SeriesError, match="no image"):
        open_volume(tmp_path / "all", series="../x.png")


def test_a_slice_that_changes_later_is_named(tmp_path):
    write(tmp_path / "scan", n=3)
    volume = open_volume(tmp_path / "scan")
    tifffile.imwrite(tmp_path / "scan" / "s2.tif", np.zeros((9, 9), "u1"))
    with pytest.raises(VolumeError, match=r"s2\.tif"):
        volume.plane(1)


def test_one_ome_image_in_several_files_stays_one_image(tmp_path):
    values = RNG.integers(0, 255, (3, 24, 32)).astype("u1")
    uuids = [f"urn:uuid:{n}" for n in range(3)]
    data = "".join(
        f'<TiffData FirstZ="{n}" IFD="0" PlaneCount="1"><UUID FileName="z{n}.ome.tif">'
        f"{uuid}</UUID></TiffData>" for n, uuid in enumerate(uuids)
    )  # fmt: skip
    folder = tmp_path / "ome"
    folder.mkdir()
    for n, plane in enumerate(values):
        text = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[n]}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint8" SizeX="32" SizeY="24" SizeZ="3" '
            f'SizeC="1" SizeT="1" PhysicalSizeZ="2">{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"z{n}.ome.tif", plane, description=text, metadata=None
        )
    volume = open_volume(folder)
    assert (volume.shape, volume.spacing[0]) == ((3, 24, 32), 2.0)
    np.testing.assert_array_equal(volume.plane(2), values[2])


@pytest.mark.parametrize("where", ["series", "."])
def test_a_study_with_a_preview_beside_its_slices_stays_a_study(tmp_path, where):
    import shutil

    from pydicom.data import get_testdata_file

    study = tmp_path / "study"
    (study / where).mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(study / "preview.png")
    path = get_testdata_file("CT_small.dcm", download=False)
    shutil.copy(path, study / where / "1")
    assert open_volume(study).shape[-2:] == (128, 128)
