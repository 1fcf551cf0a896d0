"""A table of the objects as CSV: no pixels, but who they are, how large and where."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from napari_sam.core.atomic_files import write_whole
from napari_sam.results.table import columns, finite, object_table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results


def write(path: Path, results: Results) -> list[str]:
    """Write the table; see `napari_sam.results.registry.write`."""
    rows = object_table(results)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names := columns(rows))
    writer.writerows([finite(row[name]) for name in names] for row in rows)
    write_whole(path, text.getvalue().encode())
    return []
