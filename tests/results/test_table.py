import csv
from dataclasses import replace

import numpy as np
import pytest
from skimage.measure import regionprops_table

from napari_sam import open_volume
from napari_sam.core.objects import ObjectRecord, PlaneRecord
from napari_sam.core.planes import Plane
from napari_sam.errors import ExportError
from napari_sam.results.label_arrays import ChunkedLabels, _create
from napari_sam.results.measure import MeasureOptions
from napari_sam.results.registry import write
from napari_sam.results.results import Results
from napari_sam.results.table import object_table


def rows_of(results, options=None):
    table = object_table(results, options)
    return [
        dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)
    ]


def volume_of(shape, spacing, units):
    axes = "tzyx"[4 - len(shape) :]
    volume = open_volume(np.broadcast_to(np.zeros((), np.uint8), shape), axes=axes)
    affine = np.diag([*spacing, 1.0])
    affine[:-1, -1] = np.arange(len(shape)) + 5
    return replace(volume, spacing=spacing, units=units, affine=affine)


@pytest.mark.parametrize("top", [40, 200_000])
@pytest.mark.parametrize("shape", [(60, 70), (9, 60, 70)])
def test_measurements_are_those_of_regionprops(shape, top):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, shape).astype(np.uint32)
    labels[labels == 11] = top
    spacing = (2.0, 0.5, 0.25)[-len(shape) :]
    results = Results(labels, volume_of(shape, spacing, ("micrometer",) * len(shape)))

    rows = rows_of(results)

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


def blobs(shape, n, seed=0):
    """Objects that touch each other, some in two pieces, and their image."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    seeds = np.zeros(shape, bool)
    seeds.ravel()[rng.choice(seeds.size, n, replace=False)] = True
    ids, _ = ndimage.label(seeds)
    far, near = ndimage.distance_transform_edt(~seeds, return_indices=True)
    labels = np.where(far < 7, ids[tuple(near)], 0).astype(np.uint16)
    labels[labels == 3] = 4
    return labels, rng.integers(0, 60_000, (*shape, 2), np.uint16)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("chunked", [False, True])
def test_shape_and_intensity_are_those_of_regionprops(tmp_path, ndim, chunked):
    shape = (14, 50, 60) if ndim == 3 else (1200, 1100)
    labels, pixels = blobs(shape, 20 * ndim)
    spacing = (2.0, 0.5, 0.5)[-ndim:]
    held = labels
    if chunked:  # chunks of 1024: objects lie over their borders
        held = ChunkedLabels(_create(tmp_path / "a.zarr", shape, np.uint16))
        held[...] = labels
    volume = open_volume(pixels, axes=(*"zyx"[-ndim:], "c"))
    affine = np.diag([*spacing, 1.0])
    volume = replace(
        volume, spacing=spacing, units=("micrometer",) * ndim, affine=affine
    )

    rows = rows_of(Results(held, volume), MeasureOptions(more=("solidity",)))

    names = ["equivalent_diameter_area", "axis_major_length", "axis_minor_length",
             "extent", "solidity", "intensity_mean", "intensity_std", "intensity_min",
             "intensity_max"]  # fmt: skip
    flat = ["eccentricity", "orientation", "perimeter"] if ndim == 2 else []
    want = regionprops_table(labels, pixels, properties=names + flat, spacing=spacing)
    for name in want:
        ours = name.replace("-", "_") if name.startswith("intensity") else name
        got = np.array([row[ours] for row in rows])
        if name == "orientation":  # round objects have none
            long = want["eccentricity"] > 1e-3
            got, want[name] = np.sin(2 * got[long]), np.sin(2 * want[name][long])
        np.testing.assert_allclose(got, want[name], rtol=1e-6, atol=1e-6, err_msg=name)
    if ndim == 3:
        assert "perimeter" not in rows[0]
    else:
        round_ = 4 * np.pi * rows[0]["size"] / rows[0]["perimeter"] ** 2
        assert rows[0]["circularity"] == pytest.approx(round_)


def test_surface_and_what_has_no_meaning():
    ball = sum((x - 15) ** 2 for x in np.ogrid[:31, :31, :31]) <= 12**2
    labels = ball.astype(np.uint8)
    labels[30, 30, 28:] = 2  # a line: it has no hull
    volume = open_volume(np.zeros(labels.shape, np.uint8), axes="zyx")
    volume = replace(volume, spacing=(0.5,) * 3)
    options = MeasureOptions(more=("surface_area", "solidity"), intensity=False)

    first, second = rows_of(Results(labels, volume), options)

    assert first["surface_area"] == pytest.approx(4 * np.pi * 36, rel=0.08)
    assert second["solidity"] is None and "intensity_mean" not in first


def test_intensity_of_a_plane_is_that_of_the_plane():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 4:8, 5:9] = 6
    pixels = np.arange(labels.size, dtype=np.uint16).reshape(labels.shape)
    results = Results(labels, open_volume(pixels, axes="zyx")).on_plane(1)

    (row,) = rows_of(results)

    assert row["intensity_mean"] == pixels[1, 4:8, 5:9].mean()


def test_a_measurement_that_is_none_is_refused():
    with pytest.raises(ExportError, match="solidity"):
        MeasureOptions(more=("beauty",))


def test_objects_over_blocks_are_one_row(tmp_path):
    labels = ChunkedLabels(_create(tmp_path / "a.zarr", (3, 1500, 2200), np.uint16))
    labels[1, 900:1100, 1000:2100] = 7
    labels[2, 1000:1010, 2100:2110] = 7
    volume = volume_of((3, 1500, 2200), (1.0, 1.0, 1.0), ("pixel",) * 3)

    (row,) = rows_of(Results(labels, volume))

    assert row["pixels"] == 220_000 + 100
    assert (row["bbox_y_start"], row["bbox_x_stop"]) == (900, 2110)


def test_time_points_are_rows(tmp_path):
    labels = np.zeros((3, 20, 20), np.uint16)
    labels[0, :5], labels[2, :3] = 4, 4
    pixels = np.broadcast_to(np.zeros((), np.uint8), labels.shape)
    rows = rows_of(Results(labels, open_volume(pixels, axes="tyx")))

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
