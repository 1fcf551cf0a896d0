import builtins
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.opening import open_volume

DATA = Path(nibabel.__file__).parent / "tests" / "data"


@pytest.mark.parametrize(
    "name",
    ["anatomical.nii", "functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz",
     "standard.nii.gz", "test.mgz"],
)  # fmt: skip
def test_values_and_affine_agree_with_nibabel_in_reversed_order(name):
    theirs = nibabel.load(DATA / name)
    ours = open_volume(DATA / name)
    np.testing.assert_allclose(
        np.asarray(ours.levels[0]), theirs.get_fdata().T, rtol=1e-6
    )
    assert ours.axes == ("t", "z", "y", "x")[-theirs.ndim :]
    np.testing.assert_allclose(ours.spacing[-3:], theirs.header.get_zooms()[:3][::-1])
    i, j, k = 2, 1, 3
    world = theirs.affine @ [i, j, k, 1]
    lead = [0] * (ours.ndim - 3)
    found = ours.affine @ [*lead, k, j, i, 1]
    np.testing.assert_allclose(found[-4:-1][::-1], world[:3])


def test_planes_of_a_plain_file_are_cut_without_reading_the_rest(monkeypatch):
    volume = open_volume(DATA / "functional.nii")
    expected = nibabel.load(DATA / "functional.nii").get_fdata()
    from nibabel.arrayproxy import ArrayProxy

    def whole(self, *args):
        raise AssertionError("the whole file was read")

    monkeypatch.setattr(ArrayProxy, "get_unscaled", whole)
    monkeypatch.setattr(ArrayProxy, "__array__", whole)
    np.testing.assert_allclose(volume.plane((5, 2)), expected[:, :, 2, 5].T, rtol=1e-6)
    assert volume.dtype == np.float32


def test_units_of_space_and_time_are_named():
    volume = open_volume(DATA / "example4d.nii.gz")
    assert volume.units == ("second", "millimeter", "millimeter", "millimeter")
    assert volume.spacing[0] == 2000.0


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_stored_types_come_back_exactly(tmp_path, dtype, suffix):
    values = np.arange(60).reshape(3, 4, 5).astype(dtype)
    nibabel.Nifti1Image(values, np.diag([2.0, 3, 4, 1])).to_filename(
        tmp_path / f"a{suffix}"
    )
    volume = open_volume(tmp_path / f"a{suffix}")
    assert volume.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.asarray(volume.levels[0]), values.T)
    again = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.plane(1), values[..., 1].T)


def test_colour_voxels_are_rgb(tmp_path):
    stored = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    stored["G"] = np.arange(120).reshape(4, 5, 6)
    nibabel.Nifti1Image(stored, np.eye(4)).to_filename(tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert (volume.axes, volume.rgb, volume.n_channels) == (("z", "y", "x"), True, 3)
    np.testing.assert_array_equal(volume.plane(2)[..., 1], stored["G"][..., 2].T)


def test_a_torn_file_and_a_series_are_errors(tmp_path):
    (tmp_path / "torn.nii").write_bytes((DATA / "anatomical.nii").read_bytes()[:200])
    with pytest.raises(VolumeError, match="not a whole NIfTI"):
        open_volume(tmp_path / "torn.nii")
    (tmp_path / "short.nii").write_bytes((DATA / "anatomical.nii").read_bytes()[:9000])
    volume = open_volume(tmp_path / "short.nii")
    with pytest.raises(VolumeError, match="'short' cannot be read"):
        volume.plane(20)
    with pytest.raises(SeriesError, match="one image"):
        open_volume(DATA / "anatomical.nii", series=1)


def test_a_missing_nibabel_names_the_extra(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("nibabel"):
            raise ImportError("No module named 'nibabel'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(VolumeError, match="pip install nibabel"):
        open_volume(DATA / "anatomical.nii")


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_voxel_sizes_that_cannot_be_are_unknown(tmp_path, wrong):
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), None)
    image.header["pixdim"][1:4] = (0.5, wrong, 2)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(76 + 8)
        file.write(np.float32(wrong).tobytes())
    volume = open_volume(tmp_path / "a.nii")
    assert volume.spacing[1] == 1.0
    assert np.isfinite(volume.affine).all()
    assert volume.metadata["notes"]


def test_the_affine_counts_where_a_header_says_two_sizes(tmp_path):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), affine)
    image.header["pixdim"][1:4] = 1
    nibabel.save(image, tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:
        file.seek(76 + 4)
        file.write(np.ones(3, np.float32).tobytes())
    volume = open_volume(tmp_path / "a.nii")
    assert volume.spacing == (4.0, 3.0, 2.0)
    assert "affine counts" in volume.metadata["notes"][0]


@pytest.mark.parametrize(
    ("codes", "expected"), [((1, 2), 2.0), ((1, 0), 5.0), ((0, 0), 5.0)]
)
def test_the_codes_say_which_of_two_affines_places_the_image(tmp_path, codes, expected):
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.int16), None)
    image.set_qform(np.diag([5.0, 5, 5, 1]), code=codes[0])
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=codes[1])
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    reference = np.abs(nibabel.load(tmp_path / "a.nii").affine[0, 0])
    assert abs(volume.affine[2, 2]) == reference == expected


def test_pairs_open_by_either_file_and_colours_of_four(tmp_path):
    values = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    nibabel.save(nibabel.Nifti1Pair(values, np.eye(4)), tmp_path / "a.hdr")
    for name in ("a.hdr", "a.img"):
        volume = open_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.plane(3), values[:, :, 3].T)
    colours = np.zeros((5, 6, 7), [(n, "u1") for n in "RGBA"])
    colours["G"] = 7
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "b.nii")
    volume = open_volume(tmp_path / "b.nii")
    assert volume.rgb
    assert volume.plane(0)[0, 0].tolist() == [0, 7, 0]


def test_a_compressed_file_that_no_memory_holds_is_refused(tmp_path, monkeypatch):
    from napari_sam.volume import whole

    image = nibabel.Nifti1Image(np.zeros((50, 60, 70), np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii.gz")
    volume = open_volume(tmp_path / "a.nii.gz")
    monkeypatch.setattr(whole, "available_bytes", lambda: 1000)
    with pytest.raises(VolumeError, match=r"840\.0 kB of memory"):
        volume.plane(0)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("claimed", [2**31 - 16, 4, -8])
def test_an_extension_that_claims_more_than_the_file_holds_is_refused(
    tmp_path, suffix, claimed
):
    import gzip
    import struct

    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(4, b"a note" * 9))
    good = tmp_path / "good.nii"
    nibabel.save(image, good)
    content = bytearray(good.read_bytes())
    content[352:356] = struct.pack("<i", claimed)
    path = tmp_path / f"bad{suffix}"
    packed = gzip.compress(content) if suffix.endswith("gz") else bytes(content)
    path.write_bytes(packed)
    assert open_volume(good).shape == (6, 5, 4)
    with pytest.raises(VolumeError, match="header extension"):
        open_volume(path)
