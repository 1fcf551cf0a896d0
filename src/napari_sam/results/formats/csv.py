"""A table of the objects as CSV: no pixels, but who they are and their measurements."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from napari_sam.core.atomic_files import write_whole
from napari_sam.results.table import object_table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.measure import MeasureOptions
    from napari_sam.results.results import Results


def write(
    path: Path, results: Results, measure: MeasureOptions | None = None
) -> list[str]:
    """Write the table; see `napari_sam.results.registry.write`."""
    table = object_table(results, measure)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    write_whole(path, text.getvalue().encode())
    return []
