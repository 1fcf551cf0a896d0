"""Where the pixels of images lie: patient coordinates, and one grid on another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

MILLIMETERS = {
    "picometer": 1e-9, "angstrom": 1e-7, "nanometer": 1e-6, "micrometer": 1e-3,
    "millimeter": 1.0, "centimeter": 10.0, "decimeter": 100.0, "meter": 1e3,
    "kilometer": 1e6, "inch": 25.4, "foot": 304.8, "yard": 914.4, "mile": 1609344.0,
}  # fmt: skip
"""Millimetres in each unit of length."""
SAME_PLACE = 0.1
"""Pixels by which the corners of two grids may differ and still be one grid."""
SAME_SPACING = 0.02
"""Share by which the spacing of files may differ that say no more than that."""


@dataclass(frozen=True, slots=True)
class Turn:
    """How one array is turned onto the grid of another, axis by axis."""

    order: tuple[int | None, ...]
    """Axis of the array for each axis of the grid; None: it has none, of length 1."""
    flips: tuple[bool, ...]
    """Whether it runs the other way, for each axis of the grid."""

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing to turn."""
        return self.order == tuple(range(len(self.order))) and not any(self.flips)


def ras_affine(volume: Volume) -> np.ndarray:
    """(4, 4) affine from (x, y, z) indices to RAS millimetres.

    The world of DICOM images (LPS) is turned; one that names no directions, as of a
    microscope, counts as RAS. Pixels without a unit count as millimetres.
    """
    affine = np.eye(4)
    for i, a in enumerate("xyz"):
        if a not in volume.axes:
            continue
        row = volume.axes.index(a)
        scale = MILLIMETERS.get(volume.units[row], 1.0)
        for j, b in enumerate("xyz"):
            if b in volume.axes:
                affine[i, j] = volume.affine[row, volume.axes.index(b)] * scale
        affine[i, 3] = volume.affine[row, -1] * scale
    if coordinates_of(volume) == "LPS":
        affine[:2] *= -1
    return affine


def lps_affine(volume: Volume) -> np.ndarray:
    """(4, 4) affine from (x, y, z) indices to LPS millimetres, as DICOM and ITK use."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras_affine(volume))


def coordinates_of(volume: Volume) -> str | None:
    """Return "LPS" or "RAS" where the world is a patient's, else None."""
    found = volume.metadata.get("coordinates")
    return found if found in ("LPS", "RAS") else None


def directions(affine: np.ndarray) -> np.ndarray:
    """(n, n) columns of length 1: the way each axis runs in the world."""
    linear = np.asarray(affine, float)[:-1, :-1]
    lengths = np.linalg.norm(linear, axis=0)
    return np.asarray(linear / np.where(lengths > 0, lengths, 1.0))


def is_aligned(affine: np.ndarray) -> bool:
    """Whether each axis of the array runs along its own axis of the world."""
    linear = np.asarray(affine, float)[:-1, :-1]
    off = linear - np.diag(np.diag(linear))
    return bool(np.abs(off).max(initial=0) <= 1e-9 * np.abs(linear).max(initial=1))


def turn_onto(image: Volume, labels: Volume) -> Turn:
    """Find how the pixels of a label image lie on an image's grid.

    Where both say where they lie, labels whose axes are flipped or permuted against
    the image's are turned; labels that say no more than their size and spacing are
    taken as they are stored.

    Raises
    ------
    VolumeError
        If they have another size, or lie elsewhere in the world.
    """
    plain = _same_axes(image, labels)
    ours, theirs = _world(image), _world(labels)
    if ours is None or theirs is None or not _comparable(image, labels):
        _check_shape(image, labels, plain)
        _check_spacing(image, labels, plain)
        return plain
    worst = np.inf
    for mine, variant in product(
        _worlds(image, ours),
        (v for w in _worlds(labels, theirs) for v in _variants(image, labels, w)),
    ):
        turn, error = _signed_permutation(image, labels, mine, variant)
        worst = min(worst, error)
        if turn is not None:
            _check_shape(image, labels, turn)
            return turn
    _check_shape(image, labels, plain)
    raise VolumeError(
        f"the labels {labels.name!r} do not lie on the pixels of {image.name!r}: "
        f"{_turned(ours, theirs)}their corners are up to {_number(worst)} pixels away "
        f"from it (first pixel at "
        f"{_place(labels)} against {_place(image)}, spacing {_spacings(labels)} "
        f"against {_spacings(image)}). Resample them onto the image first"
    )


def _same_axes(image: Volume, labels: Volume) -> Turn:
    """Match axes by name, or by position; an axis of length 1 may be missing."""
    names, theirs = image.axes, labels.axes
    matched: tuple[int | None, ...]
    if set(names) != set(theirs) and len(names) == len(theirs):
        matched = tuple(range(len(names)))
    else:
        matched = tuple(theirs.index(a) if a in theirs else None for a in names)
    unused = set(range(len(theirs))) - set(matched)
    missing = [n for n, j in zip(image.shape, matched, strict=True) if j is None]
    if any(n > 1 for n in missing) or any(labels.shape[j] > 1 for j in unused):
        raise _another_size(image, labels)
    return Turn(matched, (False,) * len(names))


def _spatial(volume: Volume) -> list[int]:
    return [i for i, a in enumerate(volume.axes) if a in "zyx"]


def _world(volume: Volume) -> np.ndarray | None:
    """Index to world of the axes z, y, x, where the volume says where it lies."""
    at = [*_spatial(volume), volume.ndim]
    affine = np.asarray(volume.affine, float)[np.ix_(at, at)]
    bare = (
        is_aligned(affine) and (np.diag(affine) > 0).all() and not affine[:-1, -1].any()
    )
    in_patient = coordinates_of(volume) is not None and "z" in volume.axes
    stated = in_patient or volume.crs is not None
    if volume.metadata.get("placed") is False:
        return None
    if (bare and not stated) or abs(np.linalg.det(affine)) < 1e-30:
        return None
    return affine


def _worlds(volume: Volume, affine: np.ndarray) -> list[np.ndarray]:
    """The affine, and that of NIfTI's qform, by which ITK and its kin place pixels.

    They write labels with the one that they have read as the only one.
    """
    other = volume.metadata.get("nifti_qform")
    names = [volume.axes[i] for i in _spatial(volume)]
    if other is None or names != ["z", "y", "x"]:
        return [affine]
    order = [2, 1, 0, 3]
    qform = np.asarray(other, float)[np.ix_(order, order)]
    if np.allclose(qform, affine, atol=1e-4) or abs(np.linalg.det(qform)) < 1e-30:
        return [affine]
    return [affine, qform]


def _comparable(image: Volume, labels: Volume) -> bool:
    """Whether both worlds have units that can be converted, and one CRS."""
    if image.crs and labels.crs and image.crs != labels.crs:
        raise VolumeError(
            f"the labels {labels.name!r} are in {labels.crs}, and {image.name!r} is in "
            f"{image.crs}: reproject them onto the image first"
        )
    units = dict(zip(labels.axes, labels.units, strict=True))
    for i in _spatial(image):
        ours, theirs = image.units[i], units.get(image.axes[i], "pixel")
        if ours != theirs and not {ours, theirs} <= set(MILLIMETERS):
            return False
    return True


def _variants(image: Volume, labels: Volume, theirs: np.ndarray) -> list[np.ndarray]:
    """The labels' world in the image's directions; both where one does not say."""
    known = coordinates_of(image), coordinates_of(labels)
    turned = theirs.copy()
    for row, a in enumerate(a for a in labels.axes if a in "zyx"):
        if a in "yx":
            turned[row] *= -1
    if known[0] == known[1] or "LPS" not in known:
        return [theirs]
    return [turned] if None not in known else [theirs, turned]


def _signed_permutation(
    image: Volume, labels: Volume, ours: np.ndarray, theirs: np.ndarray
) -> tuple[Turn | None, float]:
    """(how the axes correspond, pixels by which the corners miss): None if they do not.

    A label image may have an axis of length 1 more or less than the image.
    """
    mine, other = _spatial(image), _spatial(labels)
    names = [image.axes[i] for i in mine]
    its = [labels.axes[j] for j in other]
    full, theirs_full = _in_three(ours, names, image), _in_three(theirs, its, labels)
    sizes = np.array([_length(labels, a) for a in "zyx"])
    step = np.linalg.inv(full) @ theirs_full
    best = np.abs(step[:3, :3]).argmax(axis=1)
    if sorted(best) != [0, 1, 2]:
        return None, _corner_error(step, np.eye(4), sizes)
    ideal = np.zeros((4, 4))
    ideal[3, 3] = 1
    for i, j in enumerate(best):
        ideal[i, j] = np.sign(step[i, j])
        ideal[i, 3] = sizes[j] - 1 if step[i, j] < 0 else 0
    error = _corner_error(step, ideal, sizes)
    if error > SAME_PLACE:
        return None, error
    spatial = {"zyx"[i]: ("zyx"[j], bool(ideal[i, j] < 0)) for i, j in enumerate(best)}
    order: list[int | None] = []
    flips = []
    for a in image.axes:
        name, flip = spatial.get(a, (a, False))
        order.append(labels.axes.index(name) if name in labels.axes else None)
        flips.append(flip)
    return Turn(tuple(order), tuple(flips)), error


def _in_three(affine: np.ndarray, names: list[str], volume: Volume) -> np.ndarray:
    """The affine over z, y, x in millimetres; an axis that is missing is a unit one."""
    out = np.eye(4)
    for i, a in enumerate(names):
        unit = volume.units[volume.axes.index(a)]
        row = "zyx".index(a)
        factor = MILLIMETERS.get(unit, 1.0)
        for j, b in enumerate(names):
            out[row, "zyx".index(b)] = affine[i, j] * factor
        out[row, 3] = affine[i, -1] * factor
    return out


def _corner_error(step: np.ndarray, ideal: np.ndarray, sizes: np.ndarray) -> float:
    corners = np.array([[*c, 1.0] for c in product(*((0, n - 1) for n in sizes))]).T
    return float(np.abs((step - ideal) @ corners).max())


def _length(volume: Volume, axis: str) -> int:
    return volume.shape[volume.axes.index(axis)] if axis in volume.axes else 1


def _turned(ours: np.ndarray, theirs: np.ndarray) -> str:
    if ours.shape != theirs.shape:
        return ""
    cosines = (directions(ours) * directions(theirs)).sum(axis=0)
    return "they are turned or mirrored against it, and " * bool(cosines.min() < 0.9)


def _check_shape(image: Volume, labels: Volume, turn: Turn) -> None:
    sizes = tuple(1 if j is None else labels.shape[j] for j in turn.order)
    if sizes != image.shape:
        raise _another_size(image, labels)


def _check_spacing(image: Volume, labels: Volume, turn: Turn) -> None:
    for i, j in enumerate(turn.order):
        if j is None or image.axes[i] not in "zyx":
            continue
        ours, theirs = (
            MILLIMETERS.get(v.units[a]) for v, a in ((image, i), (labels, j))
        )
        if ours is None or theirs is None:
            continue
        a, b = image.spacing[i] * ours, labels.spacing[j] * theirs
        if abs(a - b) > SAME_SPACING * max(a, b):
            raise VolumeError(
                f"the labels {labels.name!r} have another pixel size than "
                f"{image.name!r}: spacing {_spacings(labels)} against "
                f"{_spacings(image)}. Resample them onto the image first, or correct "
                "the spacing in their file"
            )


def _another_size(image: Volume, labels: Volume) -> VolumeError:
    return VolumeError(
        f"labels and image must have the same size: {image.name!r} has "
        f"{_sizes(image)} and its labels {labels.name!r} have {_sizes(labels)}"
    )


def _sizes(volume: Volume) -> str:
    pairs = zip(volume.axes, volume.shape, strict=True)
    return " x ".join(f"{n} ({a})" for a, n in pairs)


def _spacings(volume: Volume) -> str:
    known = [u for u in volume.units if u != "pixel"]
    return " x ".join(_number(s) for s in volume.spacing) + f" {known[-1]}" * bool(
        known
    )


def _place(volume: Volume) -> str:
    values = ", ".join(_number(v) for v in np.asarray(volume.affine)[:-1, -1])
    return f"({', '.join(volume.axes)}) = ({values})"


def _number(value: float) -> str:
    return f"{float(value):.6g}"


def plane_origins_lps(volume: Volume) -> np.ndarray:
    """(n, 3) LPS millimetres (x, y, z) of the first pixel of each plane along z.

    Slices that are unevenly spaced lie where they were measured.
    """
    affine = lps_affine(volume)
    count = volume.shape[volume.axes.index("z")] if "z" in volume.axes else 1
    steps = np.arange(count, dtype=float)
    along = volume.metadata.get("slice_positions_mm")
    if along is not None and len(along) == count > 1:
        steps = np.asarray(along, float) / along[-1] * (count - 1)
    return np.asarray(affine[:3, 3] + steps[:, None] * affine[:3, 2])


def is_uneven(volume: Volume) -> bool:
    """Whether slices lie unevenly, so that no affine says where they are."""
    along = volume.metadata.get("slice_positions_mm")
    if along is None or "z" not in volume.axes:
        return False
    return len(along) == volume.shape[volume.axes.index("z")]
