"""The chain of pages of a TIFF file, which may point back at itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_chain(path: str) -> None:
    """Refuse a TIFF whose pages go round in circles: readers would go with them.

    Raises
    ------
    VolumeError
    """
    seen: set[int] = set()
    with open(path, "rb") as file:
        for offset in _offsets(file):
            if offset in seen:
                raise VolumeError(
                    f"page {len(seen)} of {path!r} is followed by an earlier one: the "
                    "file is damaged. Copy it again"
                )
            seen.add(offset)


def _offsets(file: BinaryIO) -> Iterator[int]:
    """Yield where each page begins, as far as the chain can be followed."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number, count = (f"{order}Q", f"{order}Q") if big else (f"{order}I", f"{order}H")
    size, entry, at = (8, 20, 8) if big else (4, 12, 4)
    try:
        (offset,) = struct.unpack(number, head[at : at + size])
        while offset:
            yield offset
            file.seek(offset)
            (tags,) = struct.unpack(count, file.read(struct.calcsize(count)))
            file.seek(offset + struct.calcsize(count) + tags * entry)
            (offset,) = struct.unpack(number, file.read(size))
    except (struct.error, OSError, OverflowError):
        return  # cut off: the reader says so
