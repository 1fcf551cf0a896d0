"""The reader of TIFF, GeoTIFF, NIfTI and slices: it looks before it claims."""

import numpy as np
import pytest
import tifffile

from napari_sam._napari.readers import get_image_reader, get_ome_zarr_reader

RNG = np.random.default_rng(3)


def layers(path):
    reader = get_image_reader(str(path))
    assert reader is not None
    return reader(str(path))


def test_tiff_comes_with_its_pixel_size(tmp_path):
    values = RNG.integers(0, 255, (4, 20, 30)).astype("u1")
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata=metadata)
    [(data, options, kind)] = layers(tmp_path / "a.ome.tif")
    assert kind == "image"
    np.testing.assert_allclose(options["scale"], (2, 1, 0.5))
    np.testing.assert_array_equal(np.asarray(data), values)


def test_nifti_and_geotiff_come_with_their_place(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.ones((5, 6, 7), "i2"), np.diag([2.0, 3, 4, 1]))
    nibabel.save(image, tmp_path / "a.nii.gz")
    [(_, options, _)] = layers(tmp_path / "a.nii.gz")
    affine = np.asarray(options.get("affine", np.diag([*options["scale"], 1])))
    assert np.abs(np.linalg.det(affine[:3, :3])) == pytest.approx(24)


def test_a_folder_is_claimed_only_if_it_holds_slices(tmp_path):
    assert get_image_reader(str(tmp_path)) is None
    (tmp_path / "notes.txt").write_text("x")
    assert get_image_reader(str(tmp_path)) is None
    for n in range(3):
        plane = RNG.integers(0, 255, (20, 30)).astype("u1")
        tifffile.imwrite(tmp_path / f"s{n}.tif", plane)
    [(data, _, _)] = layers(tmp_path)
    assert data.shape == (3, 20, 30)
    assert get_ome_zarr_reader(str(tmp_path)) is None


def test_what_only_has_the_name_is_left_to_others(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\x89PNG")
    assert get_image_reader(str(tmp_path / "a.tif")) is None
    assert get_image_reader(str(tmp_path / "nowhere.nii")) is None
    assert get_image_reader("https://example.org/a.tif") is None
