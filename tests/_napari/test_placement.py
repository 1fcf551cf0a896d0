"""Where layers lie in napari's world: computed by napari's own transforms."""

from itertools import product

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_sam import open_volume
from napari_sam._napari.layer_data import label_layer, layer_data, placement
from napari_sam.volume.volume import Volume


def volume_of(linear, origin, **fields):
    n = len(origin)
    affine = np.eye(n + 1)
    affine[:-1, :-1], affine[:-1, -1] = linear, origin
    return Volume(
        levels=(np.zeros((6, 12, 14)[-n:], np.uint8),), axes=tuple("zyx"[-n:]),
        spacing=tuple(np.linalg.norm(affine[:-1, :-1], axis=0)),
        units=("micrometer",) * n, affine=affine, **fields,
    )  # fmt: skip


TURNED = [[0.8, 0.6], [0.6, -0.8]]


@pytest.mark.parametrize(
    "volume",
    [
        pytest.param(volume_of(np.diag([2, 0.5, 0.5]), (3, 1, -9)), id="upright"),
        pytest.param(volume_of(np.diag([2, -0.5, 0.5]), (3, 1, -9)), id="flipped"),
        pytest.param(volume_of(np.array(TURNED) * 10, (5e6, 5e5)), id="turned picture"),
        pytest.param(
            volume_of([[3, 0, 0], [0, 0.8, 0.6], [0, 0.6, -0.8]], (1, 2, 3)),
            id="turned within its planes",
        ),
        pytest.param(volume_of([[1, 0.5], [0, 1]], (1, 2)), id="sheared picture"),
    ],
)
def test_layers_lie_where_the_affine_says(volume):
    [(data, options, _)] = layer_data(volume)
    labels, its, kind = label_layer(np.zeros(volume.shape, "u1"), volume, "labels")

    assert kind == "labels"
    for layer in (Image(data, **options), Labels(labels, **its)):
        for index in product((0, 4), repeat=volume.ndim):
            expected = volume.affine @ [*index, 1]
            np.testing.assert_allclose(layer.data_to_world(index), expected[:-1])
        assert np.allclose(np.abs(layer.scale), volume.spacing)


@pytest.mark.parametrize("seed", range(3))
def test_volumes_turned_alike_lie_in_place_to_each_other(seed):
    rng = np.random.default_rng(seed)
    ways, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    linear = ways * (2.0, 0.5, 0.7)
    whole = volume_of(linear, rng.normal(size=3) * 50)
    part = volume_of(linear, (whole.affine @ [2, 3, 4, 1])[:3])

    first, second = (
        Labels(np.zeros((6, 12, 14), "u1"), **placement(v)) for v in (whole, part)
    )

    for index in product((0, 5), repeat=3):
        shifted = np.add(index, (2, 3, 4))
        np.testing.assert_allclose(
            second.data_to_world(index), first.data_to_world(shifted), atol=1e-9
        )
    # Its slices can be shown: no axis of the layer is turned against the world's.
    steps = np.subtract(first.data_to_world((1, 1, 1)), first.data_to_world((0, 0, 0)))
    np.testing.assert_allclose(steps, (2, 0.5, 0.7))
    np.testing.assert_allclose(first.rotate, np.eye(3))


def test_a_layer_that_was_turned_comes_back_to_its_place():
    layer = Image(np.zeros((12, 14), "u1"), scale=(2, 3), rotate=30, translate=(5, 6))

    place = placement(open_volume(layer))

    again = Labels(np.zeros((12, 14), "u1"), **place)
    for index in product((0, 9), repeat=2):
        np.testing.assert_allclose(
            again.data_to_world(index), layer.data_to_world(index)
        )


def volumes_on_disk(tmp_path):
    """Images of several kinds of geometry, as files."""
    import nibabel
    import rasterio
    import zarr
    from dicom_phantoms import write_ct_series

    turned = np.array([[0, 0, 3, 5], [-2, 0, 0, 6], [0, 2, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((5, 6, 7), "i2"), turned), tmp_path / "mr.nii.gz"
    )
    write_ct_series(tmp_path / "ct", count=3)
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", height=11, width=13, count=1,
        dtype="uint8", crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as out:  # fmt: skip
        out.write(np.zeros((1, 11, 13), np.uint8))
    group = zarr.open_group(tmp_path / "cells.zarr", mode="w")
    group.create_array("0", data=np.zeros((12, 14), np.uint16))
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    steps = [
        {"type": "scale", "scale": [0.5, 0.25]},
        {"type": "translation", "translation": [1200.0, 3400.0]},
    ]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "cells", "axes": axes, "datasets": datasets}],
    }
    return [tmp_path / n for n in ("mr.nii.gz", "ct", "map.tif", "cells.zarr")]


@pytest.mark.parametrize("source", range(4), ids=["nifti", "dicom", "map", "zarr"])
@pytest.mark.parametrize("suffix", [".zarr", ".nii.gz", ".ome.tif"])
def test_exported_labels_open_as_labels_that_lie_on_the_image(source, suffix, tmp_path):
    from napari_sam._napari.label_images import layers_of
    from napari_sam.errors import ExportError
    from napari_sam.results import registry
    from napari_sam.results.results import Results

    volume = open_volume(volumes_on_disk(tmp_path)[source])
    values = np.random.default_rng(0).integers(0, 5, volume.shape).astype("u2")
    try:
        registry.write(tmp_path / f"out{suffix}", Results(values, volume))
    except ExportError:
        assert suffix == ".ome.tif"
        return

    [(image, options, _)] = layers_of(volume)
    [(labels, its, kind)] = layers_of(open_volume(tmp_path / f"out{suffix}"))

    assert kind == "labels"
    first, second = Image(image, **options), Labels(labels, **its)
    np.testing.assert_array_equal(np.asarray(second.data).reshape(values.shape), values)
    scale = {"millimeter": 1e3, "meter": 1e6, "micrometer": 1.0}
    for index in product((0, 4), repeat=volume.ndim):
        lead = (0,) * (second.ndim - first.ndim)
        there = second.data_to_world((*lead, *index))[len(lead) :]
        here = np.multiply(first.data_to_world(index), scale[str(first.units[-1])])
        there = np.multiply(there, scale[str(second.units[-1])])
        tolerance = 0.06 * scale[str(first.units[-1])]
        assert np.allclose(there, here, rtol=1e-6, atol=tolerance) or (
            suffix == ".nii.gz" and volume.crs  # north-up maps: RAS has no CRS
        )


def test_labels_inside_an_image_are_shown_with_it(tmp_path):
    from napari_sam._napari.readers import get_ome_zarr_reader
    from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord
    from napari_sam.results import registry
    from napari_sam.results.results import Results

    path = volumes_on_disk(tmp_path)[3]
    values = np.zeros((12, 14), np.uint16)
    values[2:5, 3:9] = 2
    objects = {2: ObjectRecord(2, class_name="cell", review="accepted")}
    classes = ClassList((ObjectClass("cell", "#ff8000"),))
    results = Results(values, open_volume(path), objects, classes)
    registry.write(path, results, name="cells")

    (image, options, _), (labels, its, kind) = get_ome_zarr_reader(str(path))(str(path))

    assert kind == "labels" and its["name"] == "cells · cells"
    first, second = Image(image, **options), Labels(labels, **its)
    np.testing.assert_array_equal(second.data, values)
    np.testing.assert_allclose(second.data_to_world((3, 5)), (1201.5, 3401.25))
    np.testing.assert_allclose(first.data_to_world((3, 5)), (1201.5, 3401.25))
    assert second.features["class"].tolist() == ["cell"]
    np.testing.assert_allclose(second.get_color(2), (1, 128 / 255, 0, 1), atol=1e-6)
    second.paint((3, 3), 7)  # in memory, so it can be painted in
