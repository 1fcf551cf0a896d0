"""DICOM headers as values: what a file says of itself and of each of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

COLOUR = ("RGB", "YBR", "PALETTE")
"""Beginnings of the photometric interpretations that are colour."""
PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Tags of pixels: floats, doubles, and the usual ones."""
DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax whose files are packed as a whole."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One 2-D image of a DICOM file and where it lies in the patient."""

    path: str
    number: int
    """Position in the file, from 0."""
    instance_uid: str
    position: tuple[float, ...] | None
    """ImagePositionPatient: (x, y, z) of the first pixel's centre, LPS, in mm."""
    orientation: tuple[float, ...] | None
    """ImageOrientationPatient: directions of increasing column, then row."""
    spacing: tuple[float, float] | None
    """Millimetres between rows and between columns."""
    slope: float
    intercept: float
    window: tuple[float, float] | None
    """(low, high) of the first VOI window, in rescaled values."""
    order: tuple[float, ...]
    """Sorts frames that lie at one place or at none."""
    kind: str = ""
    """"magnitude", "phase", "real", "imaginary"; "" where there is no such thing."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """Values that may tell phases apart, by their names."""
    in_patient: bool = True
    """Whether the position is the patient's, not only one along a stack."""

    @property
    def label(self) -> str:
        """How messages name it."""
        name = Path(self.path).name
        return f"{name}, frame {self.number + 1}" if self.number else name


@dataclass(frozen=True, slots=True)
class Header:
    """What a DICOM file says about all of its frames."""

    path: str
    series_uid: str
    series_number: int | None
    series_description: str
    modality: str
    size: tuple[int, int]
    """(rows, columns)."""
    photometric: str
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    is_float: bool
    has_lut: bool
    """Whether a modality table, not slope and intercept, gives the values."""
    padding: int | None
    """Stored value of pixels outside the image."""
    syntax: str
    """Transfer syntax UID."""
    problem: str
    """Why its pixels cannot be decoded here; "" where they can."""
    frame_time_ms: float | None
    uids: dict[str, str]
    notes: tuple[str, ...]
    """What of the header was not believed."""
    frames: tuple[Frame, ...] = ()

    @property
    def is_colour(self) -> bool:
        """Whether pixels are decoded to RGB."""
        return self.photometric.startswith(COLOUR)
