"""Pictures in a folder that may be slices of one stack, in their natural order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (
    ".tif", ".tiff", ".btf", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm",
)  # fmt: skip
"""Suffixes of files that are taken for slices."""


def slices_in(folder: Path) -> list[Path]:
    """List the pictures right in a folder, "s2" before "s10"."""
    files = [
        p for p in folder.iterdir()
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]  # fmt: skip
    return sorted(files, key=lambda p: natural(p.name))


def natural(name: str) -> list[tuple[int, Any]]:
    """Key that sorts "s2" before "s10"."""
    parts = re.split(r"(\d+)", name.lower())
    return [(1, int(p)) if p.isdecimal() else (0, p) for p in parts if p]
