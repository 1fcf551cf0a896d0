"""Which way the axes of an image run through a patient, and how to show it head up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

System = Literal["LPS", "RAS"]
"""Which way the world's x, y and z grow: DICOM's LPS or NIfTI's RAS."""

OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "H": "F", "F": "H"}
"""Letters as on films: left, right, posterior, anterior, head, foot."""

_GROWING = {"LPS": ("H", "P", "L"), "RAS": ("H", "A", "R")}
_VERTICAL = {"axial": "A", "coronal": "H", "sagittal": "H"}
_HORIZONTAL = {"axial": "R", "coronal": "R", "sagittal": "A"}
_PLANES = {"H": "axial", "A": "coronal", "L": "sagittal"}


@dataclass(frozen=True, slots=True)
class PlaneView:
    """How a plane lies in the patient, and how it is shown as films are.

    The letters belong to the plane as stored; `shown` gives them after the flips.
    """

    name: str
    """"axial", "coronal" or "sagittal": the nearest, for oblique ones."""
    top: str
    left: str
    bottom: str
    right: str
    transpose: bool
    """Whether rows and columns change places, before the flips."""
    flip_rows: bool
    """Whether the plane is turned upside down to be shown with the head up."""
    flip_columns: bool
    """Whether the plane is mirrored to be shown with the patient's right at the left,
    or, for sagittal planes, with the face to the left."""

    @property
    def shown(self) -> tuple[str, str, str, str]:
        """Letters (top, left, bottom, right) as the plane is shown."""
        rows, columns = (self.top, self.bottom), (self.left, self.right)
        if self.transpose:
            rows, columns = columns, rows
        rows = rows[::-1] if self.flip_rows else rows
        columns = columns[::-1] if self.flip_columns else columns
        return rows[0], columns[0], rows[1], columns[1]

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Show a plane, (h, w) or (h, w, C), as films are shown; a view of it."""
        out = pixels.swapaxes(0, 1) if self.transpose else pixels
        out = out[::-1] if self.flip_rows else out
        return out[:, ::-1] if self.flip_columns else out


def axis_letters(affine: np.ndarray, system: System = "LPS") -> tuple[str, str, str]:
    """Letter that each of the last three index axes runs towards.

    Parameters
    ----------
    affine : ndarray, (n + 1, n + 1)
        Index to world, both in (..., z, y, x) order, as `Volume.affine`.
    system : {"LPS", "RAS"}
        Which way the world's axes grow.

    Returns
    -------
    tuple of str
        For (z, y, x): "H" or "F", "A" or "P", "R" or "L", each direction once.

    Raises
    ------
    ValueError
        If the affine has fewer than three axes, or is not finite and invertible.

    Examples
    --------
    >>> axis_letters(np.diag([2.0, 0.5, 0.5, 1.0]))
    ('H', 'P', 'L')
    """
    linear = np.asarray(affine, float)[-4:-1, -4:-1]
    if linear.shape != (3, 3) or not np.isfinite(linear).all():
        raise ValueError("axis letters need a finite affine of three or more axes")
    length = np.linalg.norm(linear, axis=0)
    if not (length > 0).all():
        raise ValueError("axis letters need an affine without columns of zeros")
    # The rotation nearest to the affine, as nibabel's io_orientation takes it.
    p, s, q = np.linalg.svd(linear / length, full_matrices=False)
    if s.min() <= s.max() * 3 * np.finfo(float).eps:
        raise ValueError("axis letters need an invertible affine")
    turned = p @ q
    best = max(
        permutations(range(3)),
        key=lambda rows: sum(abs(turned[r, c]) for c, r in enumerate(rows)),
    )
    growing = _GROWING[system]
    z, y, x = (
        growing[r] if turned[r, c] > 0 else OPPOSITE[growing[r]]
        for c, r in enumerate(best)
    )
    return z, y, x


def plane_view(affine: np.ndarray, axis: int = 0, system: System = "LPS") -> PlaneView:
    """Tell how the planes across an axis lie in the patient.

    Parameters
    ----------
    affine : ndarray, (n + 1, n + 1)
        As for `axis_letters`.
    axis : int
        Sliced axis among the last three: 0, 1 or 2.
    system : {"LPS", "RAS"}

    Raises
    ------
    ValueError
        As for `axis_letters`.

    Examples
    --------
    >>> view = plane_view(np.diag([2.0, 0.5, 0.5, 1.0]), axis=1)
    >>> view.name, view.shown
    ('coronal', ('H', 'R', 'F', 'L'))
    """
    letters = axis_letters(affine, system)
    down, right = (letter for i, letter in enumerate(letters) if i != axis)
    name = _PLANES[_head(letters[axis])]
    transpose = _head(down) != _head(_VERTICAL[name])
    rows, columns = (right, down) if transpose else (down, right)
    return PlaneView(
        name=name,
        top=OPPOSITE[down],
        bottom=down,
        left=OPPOSITE[right],
        right=right,
        transpose=transpose,
        flip_rows=OPPOSITE[rows] != _VERTICAL[name],
        flip_columns=OPPOSITE[columns] != _HORIZONTAL[name],
    )


def _head(letter: str) -> str:
    """Return the letter of a direction's pair: H, A or L."""
    return letter if letter in _PLANES else OPPOSITE[letter]


def describe(letters: Sequence[str]) -> str:
    """Say where index axes run to: "z towards H, y towards P, x towards L"."""
    pairs = zip("zyx", letters, strict=True)
    return ", ".join(f"{axis} towards {letter}" for axis, letter in pairs)
