"""Where OME-Zarr of every version places an image, or why it is refused."""

import numpy as np
import pytest
import zarr

from napari_sam.errors import VolumeError
from napari_sam.volume.opening import open_volume


def axis(name):
    kind = {"c": "channel", "t": "time"}.get(name, "space")
    return {"name": name, "type": kind, "unit": "micrometer"}


def write(path, axes, transform, *, version="0.6", shape=None, whole=None, levels=1):
    group = zarr.open_group(path, mode="w")
    shape = shape or tuple(3 if a == "c" else 8 for a in axes)
    for n in range(levels):
        side = tuple(max(2, s >> n) if a in "yx" else s
                     for a, s in zip(axes, shape, strict=True))  # fmt: skip
        group.create_array(f"s{n}", shape=side, dtype="u2", chunks=side)
    entry = {
        "name": "im",
        "datasets": [
            {"path": f"s{n}", "coordinateTransformations": transform}
            for n in range(levels)
        ],
    }
    if version == "0.6":
        entry["coordinateSystems"] = [
            {"name": "intrinsic", "axes": list(map(axis, axes))}
        ]
    else:
        entry["axes"] = list(map(axis, axes))
        if whole:
            entry["coordinateTransformations"] = whole
    group.attrs["ome"] = {"version": version, "multiscales": [entry]}
    return path


def scale(*values):
    return {"type": "scale", "scale": list(values)}


def shift(*values):
    return {"type": "translation", "translation": list(values)}


def between(step):
    return {**step, "input": "s0", "output": "intrinsic"}


TURN = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
PLACED = {
    "scale": (scale(2, 0.5, 0.25), np.diag([2, 0.5, 0.25]), (0, 0, 0)),
    "identity": ({"type": "identity"}, np.eye(3), (0, 0, 0)),
    "sequence": (
        {"type": "sequence", "transformations": [scale(2, 0.5, 0.25), shift(1, 2, 3)]},
        np.diag([2, 0.5, 0.25]), (1, 2, 3),
    ),
    "shift before scale": (
        {"type": "sequence", "transformations": [shift(1, 2, 3), scale(2, 0.5, 0.25)]},
        np.diag([2, 0.5, 0.25]), (2, 1, 0.75),
    ),
    "affine": (
        {"type": "affine", "affine": [[1, 0, 0, 5], [0, 2, 0.5, 6], [0, 0, 3, 7]]},
        np.array([[1, 0, 0], [0, 2, 0.5], [0, 0, 3]]), (5, 6, 7),
    ),
    "rotation": ({"type": "rotation", "rotation": TURN}, np.array(TURN), (0, 0, 0)),
    "mapAxis": (
        {"type": "mapAxis", "mapAxis": [0, 2, 1]}, np.eye(3)[[0, 2, 1]], (0, 0, 0),
    ),
    "bijection": (
        {"type": "bijection", "forward": scale(2, 2, 2), "inverse": scale(1, 1, 1)},
        np.diag([2, 2, 2]), (0, 0, 0),
    ),
    "byDimension": (
        {
            "type": "byDimension",
            "transformations": [
                {"transformation": scale(4), "input_axes": ["z"], "output_axes": ["z"]},
                {"transformation": shift(5, 6), "input_axes": [1, 2],
                 "output_axes": [1, 2]},
            ],
        },
        np.diag([4, 1, 1]), (0, 5, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("step", "linear", "origin"), PLACED.values(), ids=PLACED)
def test_transformations_of_0_6_place_the_image(tmp_path, step, linear, origin):
    volume = open_volume(write(tmp_path / "a.zarr", "zyx", [between(step)]))
    np.testing.assert_allclose(volume.affine[:-1, :-1], linear)
    np.testing.assert_allclose(volume.affine[:-1, -1], origin)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(linear, axis=0))
    assert volume.units == ("micrometer",) * 3


def test_channels_have_no_place(tmp_path):
    step = {"type": "sequence", "transformations": [scale(1, 0.5, 2), shift(0, 3, 4)]}
    volume = open_volume(write(tmp_path / "a.zarr", "cyx", [between(step)]))
    assert (volume.axes, volume.n_channels) == (("y", "x"), 3)
    np.testing.assert_allclose(volume.affine, [[0.5, 0, 3], [0, 2, 4], [0, 0, 1]])


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "displacements", "path": "d"}, "'displacements'"),
        ({"type": "coordinates", "path": "d"}, "'coordinates'"),
        ({"type": "scale", "path": "d"}, "'scale'"),
        ({"type": "scale", "scale": [1, 2]}, "does not fit the axes"),
        ({"type": "scale", "scale": "abc"}, "does not fit the axes"),
        ({"type": "mapAxis", "mapAxis": [0, 0, 1]}, "'mapAxis'"),
        ({"type": "sequence", "transformations": 7}, "no list"),
        (
            {"type": "byDimension", "transformations": [{"input_axes": [9]}]},
            "not there",
        ),
        ("scale", "None"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["0.5", "0.6"])
def test_what_no_affine_holds_is_refused_in_one_sentence(
    tmp_path, version, step, message
):
    with pytest.raises(VolumeError, match=message):
        open_volume(write(tmp_path / "a.zarr", "zyx", [step], version=version))


def test_further_systems_of_0_6_are_told(tmp_path):
    path = write(tmp_path / "a.zarr", "yx", [between(scale(2, 2))])
    group = zarr.open_group(path)
    ome = dict(group.attrs)["ome"]
    world = {"name": "world", "axes": [axis("y"), axis("x")]}
    ome["multiscales"][0]["coordinateSystems"].insert(0, world)
    group.attrs["ome"] = ome
    volume = open_volume(path)
    assert volume.spacing == (2.0, 2.0)
    assert "world" in volume.metadata["notes"][0]


def test_negative_scales_keep_their_sign(tmp_path):
    steps = [scale(2, -0.5, 0.25), shift(0, 10, 20)]
    volume = open_volume(write(tmp_path / "a.zarr", "zyx", steps, version="0.5"))
    assert volume.spacing == (2.0, 0.5, 0.25)
    np.testing.assert_allclose(volume.affine @ [1, 2, 4, 1], [2, 9, 21, 1])


def test_transformations_of_the_whole_image_come_last(tmp_path):
    path = write(
        tmp_path / "a.zarr", "yx", [scale(2, 3), shift(1, 1)], version="0.5",
        whole=[scale(10, 10)],
    )  # fmt: skip
    np.testing.assert_allclose(
        open_volume(path).affine, [[20, 0, 10], [0, 30, 10], [0, 0, 1]]
    )


@pytest.mark.parametrize("wrong", [0.0, "NaN", "Infinity"])
def test_sizes_that_cannot_be_are_unknown(tmp_path, wrong):
    values = (float(wrong), 0.5)
    volume = open_volume(write(tmp_path / "a.zarr", "yx", [scale(*values)]))
    assert volume.spacing == (1.0, 0.5)
    assert np.isfinite(volume.affine).all()
    assert "pixel size" in volume.metadata["notes"][0]


def test_levels_that_shrink_no_further_are_left_out(tmp_path):
    path = write(tmp_path / "a.zarr", "yx", [scale(1, 1)], levels=6)
    volume = open_volume(path)
    assert [level.shape for level in volume.levels] == [(8, 8), (4, 4), (2, 2)]
    assert "3 of its 6 levels" in volume.metadata["notes"][0]


@pytest.mark.parametrize(
    "axes", [None, 7, [1, 2], ["y"], [{"type": "space"}] * 2, ["y", "y"], ["c", "x"]]
)
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    path = write(tmp_path / "a.zarr", "yx", [scale(1, 1)], version="0.5")
    group = zarr.open_group(path)
    ome = dict(group.attrs)["ome"]
    ome["multiscales"][0]["axes"] = axes
    group.attrs["ome"] = ome
    if axes is None:
        assert open_volume(path).axes == ("y", "x")
        return
    with pytest.raises(VolumeError):
        open_volume(path)
