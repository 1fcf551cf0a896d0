"""Values of DICOM headers that nobody checked: numbers, vectors and times, or None."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

LARGEST = 1e6
"""Millimetres beyond which a place or a distance is taken for damage."""


def get(ds: Any, name: str) -> Any:
    """Return an attribute of a data set; None where it is absent or unreadable."""
    try:
        return ds.get(name)
    except Exception:  # noqa: BLE001 - pydicom fails on damage in many ways
        return None


def first(sequence: Any) -> Any:
    """Return the first item of a sequence; None where there is none."""
    try:
        return sequence[0] if sequence else None
    except (TypeError, IndexError, KeyError):
        return None


def number(value: Any) -> float | None:
    """Read a finite number; the first one where several are written."""
    if value is None or value == "":
        return None
    if not isinstance(value, (str, float, int)):
        value = first(value)
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """Read a whole number."""
    found = number(value)
    return None if found is None or abs(found) > 2**31 else int(found)


def vector(value: Any, count: int) -> tuple[float, ...] | None:
    """Read `count` finite numbers of sensible size."""
    try:
        found = tuple(float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        return None
    good = len(found) == count and all(abs(v) <= LARGEST for v in found)
    return found if good else None


def numbers(value: Any) -> list[float]:
    """Read as many numbers as there are; none where one of them is damaged."""
    if value is None or value == "":
        return []
    if isinstance(value, (str, float, int)):
        value = [value]
    try:
        found = [float(v) for v in value]
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(math.isfinite(v) for v in found) else []


def orientation(value: Any) -> tuple[float, ...] | None:
    """Read ImageOrientationPatient: two directions of length 1, at right angles."""
    found = vector(value, 6)
    if found is None:
        return None
    rows, columns = np.asarray(found[:3]), np.asarray(found[3:])
    lengths = np.linalg.norm(rows), np.linalg.norm(columns)
    if not np.allclose(lengths, 1, atol=0.05) or abs(rows @ columns) > 0.05:
        return None
    return found


def spacing(value: Any) -> tuple[float, float] | None:
    """Read two distances above 0."""
    found = vector(value, 2)
    if found is None or min(found) < 1e-9:
        return None
    return found[0], found[1]


def seconds(value: Any, date: Any = None) -> float | None:
    """Read a TM or DT value as seconds, counted from its date where there is one."""
    text = str(value or "").strip().replace(":", "")
    if not text:
        return None
    digits = text.split(".")[0].split("+")[0].split("-")[0]
    if len(digits) > 8:  # DT: YYYYMMDDHHMMSS.FFFFFF&ZZXX
        date, text = digits[:8], text[8:]
        text = text.split("+")[0].split("-")[0]
    clock = _clock(text)
    if clock is None:
        return None
    day = _day(str(date or "").strip())
    return clock + (0.0 if day is None else day * 86400.0)


def _clock(text: str) -> float | None:
    whole_part, _, fraction = text.partition(".")
    if not whole_part.isdigit() or len(whole_part) not in (2, 4, 6):
        return None
    padded = whole_part.ljust(6, "0")
    h, m, s = (int(padded[i : i + 2]) for i in (0, 2, 4))
    if h > 23 or m > 59 or s > 60:
        return None
    part = float(f"0.{fraction}") if fraction.isdigit() else 0.0
    return h * 3600 + m * 60 + s + part


def _day(text: str) -> int | None:
    import datetime

    try:
        return datetime.date(int(text[:4]), int(text[4:6]), int(text[6:8])).toordinal()
    except ValueError:
        return None
