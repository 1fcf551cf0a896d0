import numpy as np
import pytest
from napari.layers import Labels

from napari_sam import open_volume
from napari_sam._napari import writers
from napari_sam.errors import NapariSamError
from napari_sam.results.registry import FORMATS, read

LABELS = np.zeros((3, 20, 30), np.int32)
LABELS[1, 4:9, 5:25], LABELS[2, 10:, :4] = 70_000, 2


@pytest.fixture
def layer():
    return Labels(LABELS, scale=(2, 0.5, 0.5), translate=(0, 3, 4), name="mine")


@pytest.mark.parametrize("name", ["ome_zarr", "ome_tiff", "coco", "nifti", "qupath"])
def test_a_labels_layer_is_written_and_read_back(layer, tmp_path, name):
    path = str(tmp_path / f"a{FORMATS[name].suffixes[0]}")
    data, attributes, _ = layer.as_layer_data_tuple()

    (written,) = getattr(writers, f"write_{name}")(path, data, attributes)

    found = read(written, open_volume(layer), name)
    np.testing.assert_array_equal(np.asarray(found.labels[...]), LABELS)


def test_a_layer_keeps_its_place(layer, tmp_path):
    data, attributes, _ = layer.as_layer_data_tuple()
    (path,) = writers.write_ome_zarr(str(tmp_path / "a"), data, attributes)

    assert path.endswith("a.zarr")
    volume = open_volume(path)
    assert volume.spacing == (2, 0.5, 0.5)
    np.testing.assert_allclose(volume.affine[:-1, -1], (0, 3, 4))


def test_what_a_format_cannot_hold_is_refused(layer, tmp_path):
    data, attributes, _ = layer.as_layer_data_tuple()
    with pytest.raises(NapariSamError, match="one plane"):
        writers.write_png(str(tmp_path / "a.png"), data, attributes)


def test_other_names_are_no_writers():
    with pytest.raises(AttributeError, match="write_shapefile"):
        _ = writers.write_shapefile


@pytest.mark.canvas
def test_file_save_writes_through_the_manifest(make_napari_viewer, tmp_path):
    import json

    viewer = make_napari_viewer()
    layer = viewer.add_labels(LABELS[1])
    path = tmp_path / "a.json"

    saved = viewer.layers.save(str(path), plugin="napari-sam-anysize")

    assert saved == [str(path)]
    (annotation,) = json.loads(path.read_text())["annotations"]
    assert annotation["object_id"] == 70_000
    assert layer in viewer.layers


@pytest.mark.canvas
def test_masks_of_ours_lie_where_their_image_lies(make_napari_viewer, tmp_path):
    from dataclasses import replace

    from napari_sam._napari.layer_data import layer_data
    from napari_sam._napari.own_layers import TAG

    affine = np.array([[0, -2.0, 30], [2, 0, 4], [0, 0, 1]])  # turned by 90 degrees
    volume = replace(
        open_volume(np.zeros((20, 30), np.uint8)), affine=affine, spacing=(2.0, 2.0)
    )
    viewer = make_napari_viewer()
    ((data, options, _),) = layer_data(volume)
    image = viewer.add_image(data, **options)
    tag = {"role": "masks", "image": image.unique_id}
    masks = viewer.add_labels(LABELS[1], metadata={TAG: tag}, scale=image.scale)

    (path,) = masks.save(str(tmp_path / "a.zarr"), plugin="napari-sam-anysize")

    np.testing.assert_allclose(read(path, volume).volume.affine, affine)
    np.testing.assert_allclose(open_volume(path).affine, affine)


@pytest.mark.canvas
def test_masks_at_work_are_saved_with_all_that_is_known_of_them(bench, tmp_path):
    import json

    bench.click(30, 20)
    bench.controller.session.objects[1].class_name = "nucleus"
    masks = bench.viewer.layers["bar · masks"]

    (path,) = masks.save(str(tmp_path / "a.json"), plugin="napari-sam-anysize")

    content = json.loads((tmp_path / "a.json").read_text())
    assert path == str(tmp_path / "a.json")
    assert content["categories"][0]["name"] == "nucleus"
    (annotation,) = content["annotations"]
    assert annotation["category_id"] == 1
    assert annotation["prompts"]["points"] and annotation["origin"] == "clicked"
