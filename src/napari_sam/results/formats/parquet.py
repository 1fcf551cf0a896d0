"""A table of the objects as Parquet: no pixels, but who they are, how large, where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.core.atomic_files import whole
from napari_sam.results.table import columns, finite, object_table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.results import Results


def write(path: Path, results: Results) -> list[str]:
    """Write the table; see `napari_sam.results.registry.write`."""
    import pyarrow
    from pyarrow import parquet

    rows = object_table(results)
    cells = {name: [finite(row[name]) for row in rows] for name in columns(rows)}
    with whole(path) as part:
        parquet.write_table(pyarrow.table(cells), part)
    return []
