"""Files whose reads allocate no more than is left in them."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ShortReads(io.BufferedReader):
    """A file, open for reading, whose reads are cut to what is left of it.

    Python allocates as much as a read asks for, and damaged headers ask for gigabytes.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all that are left if negative."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))
