"""The metadata of OME-TIFF: sizes, units and channels, from XML that is not trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from napari_sam.errors import VolumeError
from napari_sam.volume.geometry import MILLIMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

OME_UNITS = {
    "µm": "micrometer", "μm": "micrometer", "um": "micrometer", "nm": "nanometer",
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "Å": "angstrom",
    "s": "second", "ms": "millisecond", "min": "minute", "h": "hour",
    "pm": "picometer", "dm": "decimeter", "km": "kilometer", "in": "inch", "ft": "foot",
    "yd": "yard", "mi": "mile", "ns": "nanosecond", "µs": "microsecond", "d": "day",
    "pixel": "pixel", "micron": "micrometer", "\\u00B5m": "micrometer",
}  # fmt: skip
"""Unit symbols of OME-XML and ImageJ, and the names used here."""
LABELS = "Labels: each value is an object, 0 is background"
"""What our label images say of themselves."""
MOST_PLANES = 10_000_000
"""Planes of one image; tifffile makes a list of them before it looks for any."""
_LONGEST = 256 << 20
_COUNTS = ("IFD", "NumPlanes", "PlaneCount", "FirstZ", "FirstC", "FirstT")


@dataclass(frozen=True, slots=True)
class OmeImage:
    """What OME-XML says of one image."""

    name: str = ""
    spacing: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    origin: dict[str, float] = field(default_factory=dict)
    """Position of the first plane's first pixel, in `units`."""
    channel_names: tuple[str, ...] = ()
    labels: bool = False
    """Whether it is one of our label images."""
    files: frozenset[str] = frozenset()
    """Names of the files that its planes lie in, as they are written."""


@dataclass(frozen=True, slots=True)
class Ome:
    """What one OME-XML document says."""

    images: tuple[OmeImage, ...] = ()
    companion: str | None = None
    """File that holds the metadata instead ("BinaryOnly"); "" if it is not named."""


def read_ome(text: str, path: str) -> Ome:
    """Read OME-XML.

    Parameters
    ----------
    text : str
    path : str
        Of the file that it stands in, for messages.

    Raises
    ------
    VolumeError
        If it is not XML, declares entities, or names absurd numbers of planes or
        files in other folders.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise VolumeError(
            f"the OME-XML of {path!r} declares entities, which OME-XML never does and "
            "which can fill the memory or reach other files: it was refused"
        )
    if len(text) > _LONGEST:
        raise VolumeError(f"the OME-XML of {path!r} is longer than {_LONGEST} letters")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise VolumeError(
            f"the OME-XML of {path!r} cannot be read ({error}): save the image again "
            "with the program that it comes from"
        ) from error
    images = tuple(_image(e, path) for e in root if _name(e) == "Image")
    binary = next((e for e in root if _name(e) == "BinaryOnly"), None)
    companion = None if binary is None else binary.get("MetadataFile", "")
    return Ome(images, companion)


def _name(element: Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _image(element: Element, path: str) -> OmeImage:
    pixels = next((e for e in element if _name(e) == "Pixels"), None)
    name = element.get("Name", "")
    if pixels is None:
        return OmeImage(name)
    planes = math.prod(_whole(pixels.get(f"Size{a}")) for a in "TCZ")
    named = [e.get(a) for e in pixels if _name(e) == "TiffData" for a in _COUNTS]
    planes = max([planes, *map(_whole, named)])
    if planes > MOST_PLANES:
        raise VolumeError(
            f"the OME-XML of {path!r} names {planes} planes, more than any image has: "
            "it is damaged"
        )
    spacing, units = {}, {}
    for axis in "xyz":
        value = pixels.get(f"PhysicalSize{axis.upper()}")
        unit = pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")
        if value:
            spacing[axis], units[axis] = _number(value), OME_UNITS.get(unit, unit)
    if value := pixels.get("TimeIncrement"):
        unit = pixels.get("TimeIncrementUnit", "s")
        spacing["t"], units["t"] = _number(value), OME_UNITS.get(unit, unit)
    channels = [e for e in pixels if _name(e) == "Channel"]
    names = tuple(c.get("Name", str(i)) for i, c in enumerate(channels))
    origin = _origin(pixels, units)
    about = next((e.text or "" for e in element if _name(e) == "Description"), "")
    labels, files = about.startswith(LABELS), frozenset(_files(pixels, path))
    return OmeImage(name, spacing, units, origin, names, labels, files)


def _origin(pixels: Element, units: dict[str, str]) -> dict[str, float]:
    """Where the first plane lies, of the axes whose pixel size has the same unit.

    OME-XML counts in a "reference frame" of nobody's where no unit is given.
    """
    plane = next((e for e in pixels if _name(e) == "Plane"), None)
    out: dict[str, float] = {}
    for axis in "xyz":
        value = None if plane is None else plane.get(f"Position{axis.upper()}")
        if plane is None or not value:
            continue
        given = plane.get(f"Position{axis.upper()}Unit", "")
        unit = OME_UNITS.get(given, given)
        ours = units.get(axis, "pixel")
        factor = 1.0
        if unit != ours:
            if not {unit, ours} <= set(MILLIMETERS):
                continue
            factor = MILLIMETERS[unit] / MILLIMETERS[ours]
        if math.isfinite(number := _number(value) * factor):
            out[axis] = number
    return out


def _files(pixels: Element, path: str) -> Iterator[str]:
    for data in pixels:
        for uuid in data:
            name = uuid.get("FileName")
            if _name(data) != "TiffData" or not name:
                continue
            if "/" in name or "\\" in name or ":" in name or name in ("..", "."):
                raise VolumeError(
                    f"the OME-XML of {path!r} places planes in {name!r}, outside its "
                    "own folder: it was refused. Put the files of an image side by side"
                )
            yield name


def _whole(text: str | None) -> int:
    try:
        return max(1, int(text or 1))
    except ValueError:
        return 1


def _number(text: str) -> float:
    """Read a number; one that is none counts as unknown, and is told as such."""
    try:
        return float(text)
    except ValueError:
        return math.nan
