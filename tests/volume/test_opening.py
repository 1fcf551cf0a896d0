"""What no opener lets through: other packages' exceptions and absurd sizes."""

import pytest

from napari_sam.errors import VolumeError
from napari_sam.volume.opening import open_volume


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.jpg"])
def test_files_of_rubbish_name_the_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"II*\0rubbish" if name == "a.tif" else b"rubbish")
    with pytest.raises(VolumeError, match=name):
        open_volume(tmp_path / name)


def test_unknown_and_missing_paths_say_what_is_known(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"hello")
    with pytest.raises(VolumeError, match=r"no known format.*OME-Zarr.*DICOM"):
        open_volume(tmp_path / "a.xyz")
    with pytest.raises(VolumeError, match="check the path"):
        open_volume(tmp_path / "nowhere.tif")
