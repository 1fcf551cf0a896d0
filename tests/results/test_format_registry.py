import json
from pathlib import Path

import numpy as np
import pytest

from napari_sam import Session, open_volume
from napari_sam.errors import ExportError
from napari_sam.results.registry import FORMATS, format_for, read, write
from napari_sam.results.results import Results
from napari_sam.testing import ToyModel

DOCS = Path(__file__).parents[2] / "docs"


def results_of(labels, **volume):
    return Results(labels, open_volume(np.zeros(labels.shape, np.uint8), **volume))


def row(chosen):
    marks = ("volume", "spacing", "affine", "crs", "classes", "records")
    cells = [
        f"`{chosen.name}`: {chosen.title}",
        ", ".join(f"`{s}`" for s in chosen.suffixes),
        *("yes" if m in chosen.holds else "" for m in marks),
        "yes" if chosen.reads else "",
        ", ".join(f"`{p}`" for p in chosen.packages),
    ]
    return f"| {' | '.join(cells)} |".replace("  ", " ")


def test_the_page_of_formats_has_the_table_of_the_registry():
    text = (DOCS / "formats.md").read_text(encoding="utf-8")

    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert rows == [row(f) for f in FORMATS.values()]


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_format_has_what_it_says(name):
    chosen = FORMATS[name]
    for package in chosen.packages:
        pytest.importorskip(package)
    module = chosen.load()

    assert name == chosen.name
    assert callable(module.write)
    assert hasattr(module, "read") == chosen.reads
    shared = [
        f
        for f in FORMATS.values()
        if f.reads and set(f.suffixes) & set(chosen.suffixes)
    ]
    if chosen.reads and len(shared) > 1:
        json = any(s.endswith("json") for s in chosen.suffixes)
        by = "recognises" if json else "recognises_file"
        assert callable(getattr(module, by))


def test_a_suffix_names_a_format():
    assert format_for("a.OME.TIF").name == "ome_tiff"
    assert format_for("b/c.nii.gz").name == "nifti"
    assert format_for("whatever", "coco").name == "coco"


def test_an_unknown_format_is_told_with_all_there_are(tmp_path):
    results = results_of(np.zeros((4, 4), np.uint16))
    with pytest.raises(ExportError, match=r"ome_zarr, .*geojson"):
        format_for("a.shp")
    with pytest.raises(ExportError, match=r"no format 'shape'.*ome_zarr"):
        write(tmp_path / "a.json", results, "shape")


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("napari_sam.results.registry.find_spec", lambda name: None)

    with pytest.raises(ExportError, match=r"pip install geopandas pyogrio$"):
        write(tmp_path / "a.gpkg", results_of(np.ones((4, 4), np.uint16)))


def test_a_volume_where_one_plane_is_held_is_refused_with_what_can(tmp_path):
    results = results_of(np.ones((3, 14, 14), np.uint16))

    with pytest.raises(ExportError, match=r"one plane.*have 3.*ome_zarr"):
        write(tmp_path / "a.png", results)
    assert list(tmp_path.iterdir()) == []


def test_one_plane_of_a_volume_goes_out_and_comes_back_to_its_place(tmp_path):
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[1, 4:9, 5:20], labels[2] = 7, 3
    session = Session(np.zeros((3, 20, 30), np.uint8), ToyModel(), labels=labels)
    session.export(tmp_path / "a.png", plane=1)

    other = Session(np.zeros((3, 20, 30), np.uint8), ToyModel(), embeddings=False)
    found = other.read(tmp_path / "a.png", plane=1)

    assert list(found.objects) == [7]
    labels[2] = 0
    np.testing.assert_array_equal(other.labels, labels)
    np.testing.assert_array_equal(np.asarray(found.labels), labels)
    assert other.undo()
    assert not other.labels.any()


def test_ids_that_are_taken_are_new_or_refused(tmp_path):
    labels = np.zeros((8, 8), np.uint16)
    labels[:2], labels[4:6] = 1, 5
    write(tmp_path / "a.png", results_of(labels))
    there = np.zeros((8, 8), np.uint16)
    there[7] = 5
    session = Session(np.zeros((8, 8), np.uint8), ToyModel(), labels=there)

    with pytest.raises(ValueError, match="has objects 5 already"):
        session.read(tmp_path / "a.png", taken="refuse")
    found = session.read(tmp_path / "a.png")

    assert list(found.objects) == [1, 6]
    assert session.labels[:, 0].tolist() == [1, 1, 0, 0, 6, 6, 0, 5]


@pytest.mark.parametrize("name", ["coco", "png", "ome_tiff"])
def test_ids_beyond_the_type_make_the_labels_grow(tmp_path, name):
    top = 60_000 if name == "png" else 70_000
    labels = np.zeros((8, 9), np.uint32)
    labels[2:5] = top
    write(tmp_path / "a", results_of(labels), name)
    (tmp_path / "a").rename(tmp_path / f"a{FORMATS[name].suffixes[0]}")
    session = Session(
        np.zeros((8, 9), np.uint8), ToyModel(), labels=np.zeros((8, 9), np.uint8)
    )
    session.read(tmp_path / f"a{FORMATS[name].suffixes[0]}")

    np.testing.assert_array_equal(session.labels, labels)
    assert session.labels.max() == top


def test_images_and_other_folders_are_never_replaced(tmp_path):
    import zarr

    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "chapter.txt").write_text("precious")
    (tmp_path / "b.json").mkdir()
    image = tmp_path / "image.zarr"
    group = zarr.create_group(image)
    group.create_array("0", data=np.full((6, 6), 9, np.uint8))
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    axes = [{"name": a, "type": "space"} for a in "yx"]
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]
    }  # fmt: skip
    volume = open_volume(image)
    first, second = np.ones((6, 6), np.uint16), np.full((6, 6), 2, np.uint16)

    for path in (tmp_path / "thesis.zarr", tmp_path / "b.json"):
        with pytest.raises(ExportError, match="exists"):
            write(path, Results(first, volume), overwrite=True)
    write(image, Results(first, volume), overwrite=True)
    with pytest.raises(ExportError, match="already"):
        write(image, Results(second, volume))
    write(image, Results(second, volume), overwrite=True)

    assert (tmp_path / "thesis.zarr" / "chapter.txt").read_text() == "precious"
    assert group["0"][:].min() == 9
    assert zarr.open_group(image / "labels").attrs["ome"]["labels"] == ["segmentation"]
    assert np.asarray(read(image, volume).labels[...]).min() == 2


def test_a_folder_is_replaced_only_when_asked_and_in_one_step(tmp_path, monkeypatch):
    first, second = np.ones((6, 6), np.uint16), np.full((6, 6), 2, np.uint16)
    path = tmp_path / "a.zarr"
    write(path, results_of(first))
    with pytest.raises(ExportError, match="exists"):
        write(path, results_of(second))

    def no_module(*_):
        raise OSError(28, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr("zarr.create_group", no_module)
        with pytest.raises(ExportError):
            write(path, results_of(second), overwrite=True)
    volume = open_volume(np.zeros((6, 6), np.uint8))
    assert np.asarray(read(path, volume).labels[...]).max() == 1

    write(path, results_of(second), overwrite=True)
    assert np.asarray(read(path, volume).labels[...]).max() == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_an_option_that_a_format_lacks_is_told(tmp_path):
    results = results_of(np.ones((8, 8), np.uint16))
    with pytest.raises(ExportError, match="no option 'polygons': it takes none"):
        write(tmp_path / "a.png", results, polygons=True)
    write(tmp_path / "a.json", results, "coco_polygons")
    with pytest.raises(ExportError, match="no option 'box': it takes boxes"):
        read(tmp_path / "a.json", results.volume, box=True)

    assert '"segmentation": [[' in (tmp_path / "a.json").read_text()


def test_objects_without_an_id_come_after_all_that_are_there(tmp_path):
    content = {
        "images": [{"id": 1}],
        "annotations": [
            {"image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]], "object_id": 3},
            {"image_id": 1, "segmentation": [[7, 7, 9, 7, 9, 9, 7, 9]]},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    labels = np.zeros((20, 20), np.uint16)
    labels[15:] = 65535
    session = Session(np.zeros((20, 20), np.uint8), ToyModel(), labels=labels)

    assert list(session.read(tmp_path / "a.json", taken="refuse").objects) == [65536, 3]
    assert session.labels[8, 8] == 65536


def test_what_is_lost_is_told(tmp_path):
    session = Session(np.zeros((8, 8), np.uint8), ToyModel(), embeddings=False)
    assert session.export(tmp_path / "a.png") == []
    turned = results_of(np.ones((2, 8, 8), np.uint16))
    turned.volume.affine[0, 0] = 3

    (told,) = write(tmp_path / "a.json", turned)

    assert "pixel sizes and position are not in it" in told
