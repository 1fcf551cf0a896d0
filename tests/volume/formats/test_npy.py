import numpy as np
import pytest

from napari_sam.errors import VolumeError
from napari_sam.volume.opening import open_volume

RNG = np.random.default_rng(5)


def stack(shape, dtype="u2"):
    return RNG.integers(0, 200, shape).astype(dtype)


def test_npy_files_are_mapped(tmp_path):
    values = stack((3, 40, 30))
    np.save(tmp_path / "a.npy", values)
    volume = open_volume(tmp_path / "a.npy")
    assert isinstance(volume.levels[0], np.memmap)
    np.testing.assert_array_equal(volume.plane(1), values[1])
    np.save(tmp_path / "b.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(VolumeError, match="not a whole NPY"):
        open_volume(tmp_path / "b.npy")
