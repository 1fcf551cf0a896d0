import csv

import numpy as np
import pytest
from skimage.measure import regionprops_table

from napari_sam import open_volume
from napari_sam.core.objects import ObjectRecord, PlaneRecord
from napari_sam.core.planes import Plane
from napari_sam.results.label_arrays import ChunkedLabels, _create
from napari_sam.results.registry import write
from napari_sam.results.results import Results
from napari_sam.results.table import object_table


def volume_of(shape, spacing, units):
    axes = "tzyx"[4 - len(shape) :]
    volume = open_volume(np.broadcast_to(np.zeros((), np.uint8), shape), axes=axes)
    affine = np.diag([*spacing, 1.0])
    affine[:-1, -1] = np.arange(len(shape)) + 5
    from dataclasses import replace

    return replace(volume, spacing=spacing, units=units, affine=affine)


@pytest.mark.parametrize("top", [40, 200_000])
@pytest.mark.parametrize("shape", [(60, 70), (9, 60, 70)])
def test_measurements_are_those_of_regionprops(shape, top):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, shape).astype(np.uint32)
    labels[labels == 11] = top
    spacing = (2.0, 0.5, 0.25)[-len(shape) :]
    results = Results(labels, volume_of(shape, spacing, ("micrometer",) * len(shape)))

    rows = object_table(results)

    names = ("label", "area", "bbox", "centroid", "num_pixels")
    want = regionprops_table(labels, properties=names, spacing=spacing)
    n = len(shape)
    assert [r["object_id"] for r in rows] == want["label"].tolist()
    assert [r["pixels"] for r in rows] == want["num_pixels"].tolist()
    np.testing.assert_allclose([r["size"] for r in rows], want["area"])
    assert {r["size_unit"] for r in rows} == {f"um^{n}"}
    for i, axis in enumerate("zyx"[-n:]):
        centres = want[f"centroid-{i}"] + i + 5
        np.testing.assert_allclose([r[f"centroid_{axis}"] for r in rows], centres)
        assert [r[f"bbox_{axis}_start"] for r in rows] == want[f"bbox-{i}"].tolist()
        assert [r[f"bbox_{axis}_stop"] for r in rows] == want[f"bbox-{i + n}"].tolist()


def test_objects_over_blocks_are_one_row(tmp_path):
    labels = ChunkedLabels(_create(tmp_path / "a.zarr", (3, 1500, 2200), np.uint16))
    labels[1, 900:1100, 1000:2100] = 7
    labels[2, 1000:1010, 2100:2110] = 7
    volume = volume_of((3, 1500, 2200), (1.0, 1.0, 1.0), ("pixel",) * 3)

    (row,) = object_table(Results(labels, volume))

    assert row["pixels"] == 220_000 + 100
    assert (row["bbox_y_start"], row["bbox_x_stop"]) == (900, 2110)


def test_time_points_are_rows(tmp_path):
    labels = np.zeros((3, 20, 20), np.uint16)
    labels[0, :5], labels[2, :3] = 4, 4
    pixels = np.broadcast_to(np.zeros((), np.uint8), labels.shape)
    rows = object_table(Results(labels, open_volume(pixels, axes="tyx")))

    assert [(r["t"], r["object_id"], r["pixels"]) for r in rows] == [
        (0, 4, 100), (2, 4, 60)
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_are_what_pandas_reads(tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    labels = np.zeros((30, 40), np.uint16)
    labels[:4, :6], labels[20:] = 1, 2
    known = PlaneRecord("clicked", score=0.5)
    record = ObjectRecord(1, 'a "name", odd', "cell", planes={Plane(()): known})
    volume = volume_of((30, 40), (0.5, 0.5), ("millimeter",) * 2)
    write(tmp_path / f"a{suffix}", Results(labels, volume, {1: record}))

    read = pandas.read_csv if suffix == ".csv" else pandas.read_parquet
    frame = read(tmp_path / f"a{suffix}").set_index("object_id")

    assert frame.loc[1, "name"] == 'a "name", odd'
    assert frame.loc[1, "class"] == "cell"
    assert frame.loc[1, "origin"] == "clicked"
    assert frame["size"].tolist() == [6.0, 100.0]
    assert frame["predicted_iou"].isna().tolist() == [False, True]


def test_no_objects_is_a_table_without_rows(tmp_path):
    volume = volume_of((4, 4), (1.0, 1.0), ("pixel", "pixel"))
    write(tmp_path / "a.csv", Results(np.zeros((4, 4), np.uint8), volume))

    with (tmp_path / "a.csv").open() as file:
        assert list(csv.reader(file)) == [["object_id"]]
