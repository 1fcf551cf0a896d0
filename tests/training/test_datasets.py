from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import napari_sam as ns
from napari_sam.core.planes import Plane
from napari_sam.errors import SessionError, VolumeError
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.testing.phantoms import Phantom
from napari_sam.training.datasets import read_labelled
from napari_sam.training.labelled import LabelledVolume
from napari_sam.volume.listing import stem_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
"""pycocotools' own arrays, when they are decoded here for comparison."""


def _cells(seed: int = 0) -> Phantom:
    return phantom_image((64, 96), n_objects=3, seed=seed)


def _save(folder: Path, name: str, pixels: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def _same(found: LabelledVolume, phantom: Phantom) -> None:
    assert np.array_equal(np.asarray(found.labels[...]), phantom.labels)
    assert np.array_equal(found.volume.levels[0][...], phantom.image)


def _two_folders(root: Path, n: int = 2) -> list[Phantom]:
    phantoms = [_cells(i) for i in range(n)]
    for i, phantom in enumerate(phantoms):
        _save(root / "images", f"c{i}.png", phantom.image)
        _save(root / "labels", f"c{i}.png", phantom.labels)
    return phantoms


def test_two_folders_pair_by_name(tmp_path: Path) -> None:
    phantoms = _two_folders(tmp_path)
    given = read_labelled(tmp_path / "images", tmp_path / "labels")
    found = read_labelled(str(tmp_path))
    assert [f.name for f in found] == [f.name for f in given] == ["c0", "c1"]
    for one, other, phantom in zip(found, given, phantoms, strict=True):
        _same(one, phantom)
        _same(other, phantom)


def test_axes_and_channels_hold_for_every_image(tmp_path: Path) -> None:
    phantoms = _two_folders(tmp_path)
    for i, phantom in enumerate(phantoms):
        (tmp_path / "images" / f"c{i}.png").unlink()
        pixels = np.zeros((12, *phantom.image.shape), np.uint8)
        pixels[7] = phantom.image
        np.save(tmp_path / "images" / f"c{i}.npy", pixels)
    with pytest.raises(VolumeError, match="must have the same size"):
        read_labelled(tmp_path)
    found = read_labelled(tmp_path, axes="cyx", channels=7)
    for one, phantom in zip(found, phantoms, strict=True):
        assert one.volume.channels == (7,)
        assert np.array_equal(one.volume.plane().squeeze(), phantom.image)
        assert np.array_equal(np.asarray(one.labels[...]), phantom.labels)
    with pytest.raises(VolumeError, match="has its axes and channels already"):
        read_labelled(found, channels=7)


def test_the_channel_of_a_session_is_its_own(tmp_path: Path) -> None:
    phantom = _cells()
    np.save(tmp_path / "a.npy", np.stack([phantom.image * 0, phantom.image]))
    volume = ns.open_volume(tmp_path / "a.npy", axes="cyx", channels=[1])
    _session(phantom, volume, path=tmp_path / "work.nsam").close()
    (found,) = read_labelled(tmp_path / "work.nsam")
    assert found.volume.channels == (1,)
    with pytest.raises(VolumeError, match=r"session 'work\.nsam' has its axes"):
        read_labelled(tmp_path / "work.nsam", channels=[0])


def test_images_without_labels_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _two_folders(tmp_path)
    _save(tmp_path / "images", "new.png", _cells().image)
    assert len(read_labelled(tmp_path)) == 2
    assert "new.png" in caplog.text


@pytest.mark.parametrize("ending", ["_mask", "_masks", "_labels", "_seg", "_gt"])
def test_labels_beside_their_images_are_known_by_their_ending(
    tmp_path: Path, ending: str
) -> None:
    phantom = _cells()
    _save(tmp_path, "a.png", phantom.image)
    _save(tmp_path, f"a{ending}.png", phantom.labels)
    (found,) = read_labelled(tmp_path)
    _same(found, phantom)


def test_channel_number_of_nnunet_is_no_part_of_the_name(tmp_path: Path) -> None:
    _save(tmp_path / "imagesTr", "case_0000.png", _cells().image)
    _save(tmp_path / "labelsTr", "case.png", _cells().labels)
    (found,) = read_labelled(tmp_path)
    _same(found, _cells())


def test_folder_of_data_sets_names_the_group(tmp_path: Path) -> None:
    for name in ("mr", "ct"):
        _two_folders(tmp_path / name, 1)
    found = read_labelled(tmp_path)
    assert [(f.group, f.name) for f in found] == [("ct", "ct/c0"), ("mr", "mr/c0")]


def test_arrays_volumes_and_lists_of_them_are_taken() -> None:
    a, b = _cells(0), _cells(1)
    (one,) = read_labelled(ns.open_volume(a.image), a.labels)
    _same(one, a)
    first, second = read_labelled([a.image, b.image], [a.labels, b.labels])
    _same(second, b)
    assert first.name != second.name
    assert read_labelled([first, second]) == [first, second]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(np.array([[False, True]] * 2), [[0, 1]] * 2, id="bool"),
        pytest.param(np.array([[-1, 300]] * 2), [[0, 300]] * 2, id="negative"),
        pytest.param(np.array([[0.0, 2.0]] * 2), [[0, 2]] * 2, id="float"),
        pytest.param(np.array([[np.nan, 2.0]] * 2), [[0, 2]] * 2, id="nan"),
    ],
)
def test_labels_of_other_types_become_unsigned(
    given: np.ndarray, expected: list[list[int]]
) -> None:
    (found,) = read_labelled(np.zeros((2, 2), np.uint8), given)
    labels = found.labels[...]
    assert labels.tolist() == expected
    assert labels.dtype == found.labels.dtype
    assert labels.dtype.kind == "u"


def test_grey_labels_saved_in_colour_are_read_and_colours_refused(
    tmp_path: Path,
) -> None:
    phantom = _cells()
    grey = np.repeat(phantom.labels.astype(np.uint8)[..., None], 3, 2)
    _save(tmp_path, "a.png", phantom.image)
    (found,) = read_labelled(tmp_path / "a.png", _save(tmp_path, "grey.png", grey))
    _same(found, phantom)
    grey[0, 0] = 1, 2, 3
    (found,) = read_labelled(tmp_path / "a.png", _save(tmp_path, "rgb.png", grey))
    with pytest.raises(VolumeError, match="colour picture"):
        found.labels[...]


def test_fractions_are_refused() -> None:
    (found,) = read_labelled(np.zeros((2, 2), np.uint8), np.full((2, 2), 0.5))
    with pytest.raises(VolumeError, match=r"fractions, such as 0\.5"):
        found.labels[...]


def test_planes_are_those_with_objects_on_any_axis() -> None:
    phantom = phantom_volume((16, 40, 48), n_objects=2)
    (found,) = read_labelled(phantom.image, phantom.labels)
    for axis in (0, 1, 2):
        seen = {plane.index[-1]: labels for plane, labels in found.planes(axis)}
        moved = np.moveaxis(phantom.labels, axis, 0)
        assert set(seen) == {i for i, p in enumerate(moved) if p.any()}
        assert all(np.array_equal(p, moved[i]) for i, p in seen.items())


@pytest.mark.parametrize("shift", [0, 5_000_000])
def test_objects_across_blocks_are_whole(shift: int) -> None:
    from skimage.measure import regionprops

    labels = np.zeros((40, 4200), np.uint32)
    labels[3:17, 2000:2100] = 7 + shift  # the border of two blocks
    labels[20:33, 5:9] = 2 + shift
    labels[0:2, 4000:] = 9 + shift
    (found,) = read_labelled(np.zeros(labels.shape, np.uint8), labels)
    small = np.where(labels > 0, labels - shift, 0)
    expected = [[r.label + shift, r.area, *r.bbox] for r in regionprops(small)]
    assert found.objects(Plane(())).tolist() == expected


def test_objects_of_a_full_block_with_big_ids_are_found() -> None:
    labels = np.full((8, 8), 2**31 + 5, np.uint32)
    labels[:, 4:] = 2**31 + 9
    (found,) = read_labelled(np.zeros(labels.shape, np.uint8), labels)
    rows = found.objects(Plane(())).tolist()
    assert [r[:2] for r in rows] == [[2**31 + 5, 32], [2**31 + 9, 32]]


def test_opened_anew_frees_what_was_decoded(tmp_path: Path) -> None:
    _two_folders(tmp_path, 1)
    (found,) = read_labelled(tmp_path)
    fresh = found.opened()
    _same(fresh, _cells())
    assert found.volume.levels[0]._pixels is None
    assert found.labels.volume.levels[0]._pixels is None


def _session(phantom: Phantom, source: Any, **options: Any) -> ns.Session:
    session = ns.Session(source, ToyModel(), embeddings=False, **options)
    for i in range(1, phantom.n_objects + 1):
        session.segment(object_id=i, points=[phantom.center(i)])
    return session


def test_saved_session_gives_its_image_labels_and_intensity(tmp_path: Path) -> None:
    phantom = _cells()
    image = _save(tmp_path, "a.png", phantom.image)
    path = tmp_path / "work.nsam"
    volume = ns.open_volume(image).with_intensity((0.0, 240.0))
    with_path = _session(phantom, volume, path=path)
    with_path.undo()
    expected = np.array(with_path.labels)
    # Not closed: what is on the disk is the history, not a checkpoint.
    (found,) = read_labelled(path)
    assert np.array_equal(found.labels, expected)
    assert found.volume.intensity.windows == ((0.0, 240.0),)
    (open_one,) = read_labelled(with_path)
    assert np.array_equal(open_one.labels, expected)
    with_path.close()


def test_moved_image_of_a_session_can_be_named(tmp_path: Path) -> None:
    phantom = _cells()
    image = _save(tmp_path, "a.png", phantom.image)
    session = _session(phantom, ns.open_volume(image))
    session.save(tmp_path / "work.nsam")
    session.close()
    (tmp_path / "moved").mkdir()
    image.rename(tmp_path / "moved" / "a.png")
    with pytest.raises(VolumeError, match=r"no file or folder.*a\.png"):
        read_labelled(tmp_path / "work.nsam")
    for place in ("moved", "moved/a.png"):
        (found,) = read_labelled(tmp_path / place, tmp_path / "work.nsam")
        _same(found, Phantom(phantom.image, np.asarray(session.labels)))


def test_session_of_an_array_asks_for_the_image(tmp_path: Path) -> None:
    session = _session(_cells(), _cells().image)
    session.save(tmp_path / "work.nsam")
    session.close()
    with pytest.raises(SessionError, match="array in memory"):
        read_labelled(tmp_path / "work.nsam")


def test_coco_of_a_session_gives_the_session_back(tmp_path: Path) -> None:
    phantom = phantom_volume((8, 40, 48), n_objects=2)
    np.save(tmp_path / "a.npy", phantom.image)
    session = ns.Session(
        tmp_path / "a.npy", ToyModel(), embeddings=False, labels=phantom.labels
    )
    session.export(tmp_path / "a.json")
    (found,) = read_labelled(tmp_path / "a.json")
    _same(found, phantom)
    assert found.name == "a"


def _coco(path: Path, segmentation: Any, **more: Any) -> Path:
    images = [{"id": 3, "file_name": "a.png", "height": 64, "width": 96}]
    annotation = {"image_id": 3, "segmentation": segmentation, **more}
    value = {"images": images, "annotations": [annotation, {**annotation}]}
    path.write_text(json.dumps(value))
    return path


def test_coco_polygons_are_filled_as_pycocotools_does(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    _save(tmp_path / "images", "a.png", _cells().image)
    polygon = [10.0, 5.0, 60.5, 8.0, 40.0, 50.25]
    (found,) = read_labelled(_coco(tmp_path / "a.json", [polygon]))
    reference = coco.decode(coco.frPyObjects([polygon], 64, 96))[..., 0]
    # Two annotations alike: the later one lies on top.
    assert np.array_equal(found.labels[...], 2 * reference)
    again = read_labelled(tmp_path / "images", tmp_path / "a.json")
    assert np.array_equal(again[0].labels[...], 2 * reference)


def test_coco_errors_say_what_is_wrong(tmp_path: Path) -> None:
    polygon = [[10.0, 5.0, 60.5, 8.0, 40.0, 50.25]]
    path = _coco(tmp_path / "a.json", polygon)
    with pytest.raises(VolumeError, match=r"'a\.png'.*is not in"):
        read_labelled(path)
    _save(tmp_path, "a.png", np.zeros((32, 96), np.uint8))
    with pytest.raises(VolumeError, match="open the image that the annotations"):
        read_labelled(path)
    with pytest.raises(VolumeError, match="marks no object"):
        read_labelled(_coco(tmp_path / "b.json", polygon, iscrowd=1))


def _zarr_group(path: Path) -> Any:
    import zarr

    return zarr.create_group(path)


def _multiscale(group: Any, pixels: np.ndarray, names: str = "zyx") -> None:
    group.create_array("0", data=pixels)
    kinds = {"t": "time", "c": "channel"}
    axes = [{"name": n, "type": kinds.get(n, "space")} for n in names[-pixels.ndim :]]
    scale = {"type": "scale", "scale": [1.0] * pixels.ndim}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    multiscale = {"axes": axes, "datasets": [dataset]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}


@pytest.mark.parametrize("names", [["cells"], ["a", "b"]])
def test_ome_zarr_brings_each_of_its_label_images(
    tmp_path: Path, names: list[str]
) -> None:
    phantom = _cells()
    group = _zarr_group(tmp_path / "x.zarr")
    _multiscale(group, phantom.image)
    with pytest.raises(VolumeError, match="holds no labels"):
        read_labelled(tmp_path / "x.zarr")
    for name in names:
        _multiscale(group.create_group(f"labels/{name}"), phantom.labels)
    found = read_labelled(tmp_path / "x.zarr")
    assert [f.name for f in found] == (["x"] if len(names) == 1 else ["x/a", "x/b"])
    for one in found:
        _same(one, phantom)
    beside = read_labelled(tmp_path / "x.zarr", tmp_path / f"x.zarr/labels/{names[0]}")
    _same(beside[0], phantom)


def test_plain_zarr_array_brings_no_labels(tmp_path: Path) -> None:
    import zarr

    zarr.create_array(tmp_path / "x.zarr", data=_cells().image)
    with pytest.raises(VolumeError, match="holds no labels"):
        read_labelled(tmp_path / "x.zarr")


def test_labels_of_one_channel_fit_an_image_of_several(tmp_path: Path) -> None:
    labels = np.zeros((2, 1, 3, 8, 9), np.uint16)
    labels[1, 0, 2, 2:5, 3:6] = 4
    image = np.zeros((2, 3, 3, 8, 9), np.uint16)
    for name, pixels in (("image", image), ("labels", labels)):
        group = _zarr_group(tmp_path / f"{name}.zarr")
        _multiscale(group, pixels, "tczyx")
    (found,) = read_labelled(tmp_path / "image.zarr", tmp_path / "labels.zarr")
    ((plane, pixels),) = found.planes()
    assert plane.index == (1, 2)
    assert np.array_equal(pixels, labels[1, 0, 2])


def test_labels_written_into_an_ome_zarr_are_read_from_it(tmp_path: Path) -> None:
    phantom = phantom_volume((6, 40, 48), n_objects=2)
    _multiscale(_zarr_group(tmp_path / "x.zarr"), phantom.image)
    session = ns.Session(
        tmp_path / "x.zarr", ToyModel(), embeddings=False, labels=phantom.labels
    )
    session.export(tmp_path / "x.zarr")
    (found,) = read_labelled(tmp_path)
    _same(found, phantom)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        pytest.param("nowhere", None, "no file or folder", id="no-image"),
        pytest.param("images", "nowhere", "of labels", id="no-labels-folder"),
        pytest.param("images/c0.png", None, "brings no labels", id="one-image"),
        pytest.param("images", "empty", "no images", id="empty-folder"),
        pytest.param("empty", None, "labels of the same name", id="nothing"),
        pytest.param("images/c0.png", "other.png", "same size", id="other-size"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, images: str, labels: str | None, message: str
) -> None:
    _two_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    _save(tmp_path, "other.png", np.zeros((64, 95), np.uint8))
    given = None if labels is None else tmp_path / labels
    with pytest.raises(VolumeError, match=message):
        read_labelled(tmp_path / images, given)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        pytest.param(np.zeros((4, 4)), None, "bring no labels", id="array-alone"),
        pytest.param([np.zeros((4, 4))], [], "as many labels; got 0", id="too-few"),
        pytest.param([], None, "empty", id="none"),
    ],
)
def test_arrays_that_do_not_pair_are_refused(
    images: Any, labels: Any, message: str
) -> None:
    with pytest.raises(VolumeError, match=message):
        read_labelled(images, labels)


def test_labels_turned_against_their_image_are_refused(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    pixels = np.zeros((6, 5, 4), np.int16)
    for name, sign in (("image", 1.0), ("same", 1.0), ("turned", -1.0)):
        image = nibabel.Nifti1Image(pixels, np.diag([sign, 1.0, 2.0, 1.0]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / f"{name}.nii")
    read_labelled(tmp_path / "image.nii", tmp_path / "same.nii")
    with pytest.raises(VolumeError, match="turned or mirrored"):
        read_labelled(tmp_path / "image.nii", tmp_path / "turned.nii")


def test_stems_of_formats_with_two_suffixes_are_whole() -> None:
    names = ["a.nii.gz", "a.ome.tif", "a.ome.zarr", "a.png", "a.nsam"]
    assert {stem_of(Path(n)) for n in names} == {"a"}
