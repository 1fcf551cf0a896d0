"""Text of the command line to values; what cannot be read is one clear error."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.errors import NapariSamError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.volume.volume import Volume

_AXES = {"0": 0, "1": 1, "2": 2, "z": 0, "y": 1, "x": 2}


class ArgumentError(NapariSamError):
    """A value on the command line that cannot be read."""


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What to open, and how."""

    source: str
    axes: str | None = None
    channels: str | None = None
    series: str | None = None
    intensity: str | None = None
    spacing: str | None = None

    def open(self) -> Volume:
        """Open the volume, with the intensity asked for."""
        from napari_sam.volume.opening import open_volume

        volume = open_volume(
            self.source,
            axes=self.axes,
            channels=channels(self.channels),
            series=self.series,
            spacing=self.spacing,
        )
        return self.with_intensity(volume)

    def with_intensity(self, volume: Volume) -> Volume:
        """Return a volume with the intensity asked for."""
        if self.intensity is None:
            return volume
        return volume.with_intensity(window(self.intensity))


def numbers(
    text: str, count: int | None = None, *, what: str, form: str = "1,2,3"
) -> tuple[float, ...]:
    """Read numbers between commas.

    Raises
    ------
    ArgumentError
        If they are none, or not `count` many.
    """
    try:
        values = tuple(float(v) for v in text.replace(" ", "").split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        raise ArgumentError(f"{what} takes numbers as {form}; got {text!r}")
    return values


def whole_numbers(text: str, what: str, form: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    values = numbers(text, what=what, form=form)
    if not all(v.is_integer() for v in values):
        raise ArgumentError(f"{what} takes whole numbers as {form}; got {text!r}")
    return tuple(int(v) for v in values)


def point(text: str, what: str = "--point") -> tuple[float, float]:
    """Read "y,x"."""
    y, x = numbers(text, 2, what=what, form="y,x")
    return y, x


def places(text: str, what: str) -> list[tuple[float, float]]:
    """Read places "y,x" with spaces between them.

    Examples
    --------
    >>> places("1,2 3.5,4", "--path")
    [(1.0, 2.0), (3.5, 4.0)]
    """
    form = '"y,x y,x y,x"'
    found = [numbers(part, 2, what=what, form=form) for part in text.split()]
    if not found:
        raise ArgumentError(f"{what} takes places as {form}; got {text!r}")
    return [(y, x) for y, x in found]


def box(text: str) -> tuple[float, float, float, float]:
    """Read "y0,x0,y1,x1"."""
    y0, x0, y1, x1 = numbers(text, 4, what="--box", form="y0,x0,y1,x1")
    return y0, x0, y1, x1


def region(text: str | None) -> tuple[int, int, int, int] | None:
    """Read "y0,x0,y1,x1", whole pixels, half-open."""
    if text is None:
        return None
    form = "y0,x0,y1,x1"
    values = whole_numbers(text, "--region", form)
    if len(values) != 4:
        raise ArgumentError(f"--region takes four numbers, {form}; got {text!r}")
    y0, x0, y1, x1 = values
    return y0, x0, y1, x1


def channels(text: str | None) -> list[int] | None:
    """Read "0" or "0,2"."""
    return None if text is None else list(whole_numbers(text, "--channels", "0 or 0,2"))


def window(text: str) -> tuple[float, float]:
    """Read "low,high" or the name of a CT preset."""
    from napari_sam.core.intensity import CT_PRESETS

    if text.lower() in CT_PRESETS:
        return CT_PRESETS[text.lower()]
    form = f"low,high or one of {', '.join(CT_PRESETS)}{did_you_mean(text, CT_PRESETS)}"
    low, high = numbers(text, 2, what="--intensity", form=form)
    return low, high


def axis(text: str) -> int:
    """Read z, y, x or 0, 1, 2."""
    if text.lower() not in _AXES:
        raise ArgumentError(f"--axis takes z, y or x (or 0, 1, 2); got {text!r}")
    return _AXES[text.lower()]


def plane(text: str) -> int | tuple[int, ...]:
    """Read "30" or "2,30"."""
    values = whole_numbers(text, "--plane", "z or t,z")
    return values[0] if len(values) == 1 else values


def plane_of(
    volume: Volume, given: int | Sequence[int] | None, axis: int, what: str = "--plane"
) -> Plane:
    """Return the plane that is meant; of a volume it has to be said.

    Raises
    ------
    ArgumentError
        If the image has several planes and none is named.
    """
    from napari_sam.core.planes import Plane

    shape = volume.shape
    sliced = [*range(len(shape) - 3), len(shape) - 3 + axis] if len(shape) > 2 else []
    if given is None and math.prod(shape[a] for a in sliced) > 1:
        names = ",".join(volume.axes[a] for a in sliced)
        most = " and ".join(
            f"{volume.axes[a]} from 0 to {shape[a] - 1}" for a in sliced
        )
        raise ArgumentError(
            f"{volume.name} has many planes: say which with {what} {names} ({most}; "
            "napari-sam view shows them)"
        )
    return Plane.of(shape, 0 if given is None else given, axis=axis)


def plane_text(volume: Volume, plane: Plane) -> str:
    """Say which plane, as "plane z=30"; "" for a single image."""
    if not plane.index:
        return ""
    ndim = len(volume.shape)
    sliced = [*range(ndim - 3), ndim - 3 + plane.axis]
    named = (f"{volume.axes[a]}={i}" for a, i in zip(sliced, plane.index, strict=True))
    return f"plane {', '.join(named)}"


def ranges(text: str, what: str) -> list[int]:
    """Read "3", "10-40" or "1,5-7,9"; both ends of a range count.

    Examples
    --------
    >>> ranges("1,5-7", "--planes")
    [1, 5, 6, 7]
    """
    out: list[int] = []
    for part in text.replace(" ", "").split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not found:
            raise ArgumentError(f"{what} takes numbers as 1,5-7; got {text!r}")
        first = int(found[1])
        last = int(found[2] or first)
        if last < first:
            raise ArgumentError(
                f"{what} takes ranges from low to high, such as {last}-{first}; got "
                f"{part!r}"
            )
        out += range(first, last + 1)
    return out


def shard(text: str) -> tuple[int, int]:
    """Read "i/n", the i-th of n parts, counted from 0.

    Examples
    --------
    >>> shard("0/8")
    (0, 8)
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or int(found[1]) >= int(found[2]):
        raise ArgumentError(
            f"--shard takes i/n with i from 0 to n - 1, such as 0/8; got {text!r}"
        )
    return int(found[1]), int(found[2])


def one_of(value: str, allowed: Sequence[str], what: str) -> str:
    """Check a value against the few that there are."""
    if value not in allowed:
        raise ArgumentError(
            f"{what} takes {', '.join(allowed)}; got {value!r}"
            f"{did_you_mean(value, allowed)}"
        )
    return value
