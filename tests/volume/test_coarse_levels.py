"""Levels that the data lacks: exact, read once, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zarr

from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window
from napari_sam.volume.lazy_arrays import LazyArray
from napari_sam.volume.opening import open_volume
from napari_sam.volume.pyramid import CoarseBlocks, block_mean


class Counting(LazyArray):
    """An array that counts the pixels read of it."""

    def __init__(self, pixels):
        super().__init__(pixels.shape, pixels.dtype)
        self.pixels, self.n_read = pixels, 0

    def read(self, spans):
        block = self.pixels[spans]
        self.n_read += block.size
        return block


@pytest.fixture
def counting():
    rng = np.random.default_rng(0)
    return Counting(rng.integers(0, 60_000, (3101, 2777), np.uint16))


@pytest.mark.parametrize("level", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_any_window_is_the_mean_of_its_blocks(counting, level, seed):
    volume, scale = open_volume(counting), 1 << level
    whole = block_mean(counting.pixels, scale)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        y0, x0 = (int(rng.integers(0, n - 1)) for n in whole.shape)
        h = int(rng.integers(1, whole.shape[0] - y0 + 1))
        w = int(rng.integers(1, whole.shape[1] - x0 + 1))
        got = volume.read(Plane(()), Window(level, y0, x0, h, w))
        np.testing.assert_array_equal(got, whole[y0 : y0 + h, x0 : x0 + w])


def test_overlapping_windows_read_their_pixels_once(counting):
    volume = open_volume(counting)
    for x in (0, 64, 128):
        volume.read(Plane(()), Window(3, 0, x, 128, 128))
    assert counting.n_read == 1024 * 2048


def test_big_chunks_are_decoded_once(counting):
    counting.chunks = (2048, 2048)
    volume = open_volume(counting)
    volume.read(Plane(()), Window(3, 0, 0, 256, 256))
    assert counting.n_read == 2048 * 2048
    volume.read(Plane(()), Window(3, 100, 100, 150, 150))
    assert counting.n_read == 2048 * 2048


def test_planes_and_levels_are_told_apart():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 600, 500), np.uint8)
    volume = open_volume(Counting(pixels))
    for z in (0, 1):
        for level in (3, 4):
            window = Window(level, 2, 3, 20, 20)
            got = volume.read(Plane((z,)), window)
            want = block_mean(pixels[z], 1 << level)[2:22, 3:23]
            np.testing.assert_array_equal(got, want)


def test_channels_stay():
    pixels = np.random.default_rng(0).integers(0, 255, (600, 500, 3), np.uint8)
    volume = open_volume(Counting(pixels))
    got = volume.read(Plane(()), Window(3, 0, 0, 75, 63))
    np.testing.assert_array_equal(got, block_mean(pixels, 8))


def test_arrays_in_memory_may_change():
    pixels = np.zeros((1024, 1024), np.uint8)
    volume, window = open_volume(pixels), Window(3, 0, 0, 128, 128)
    assert not volume.read(Plane(()), window).any()
    pixels[:] = 9
    assert (volume.read(Plane(()), window) == 9).all()


def test_what_is_kept_is_bounded():
    kept, made = CoarseBlocks(max_bytes=1000), []

    def get(i):
        return kept.get_or_make(
            (i,), lambda: made.append(i) or np.full(400, i, np.uint8)
        )

    for i in (0, 1, 0, 2, 0, 1):
        assert (get(i) == i).all()
    assert made == [0, 1, 2, 1]


def test_coarse_window_of_a_huge_image_takes_little_memory(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(20_000, 20_000), dtype="uint8",
        chunks=(1024, 1024), fill_value=3,
    )  # fmt: skip
    array[:1024, :1024] = 200
    volume = open_volume(tmp_path / "a.zarr")
    tracemalloc.start()
    got = volume.read(Plane(()), Window(4, 0, 0, 512, 512))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert (got[:64, :64] == 200).all() and (got[64:, 64:] == 3).all()
