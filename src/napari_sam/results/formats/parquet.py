"""A table of the objects as Parquet: who they are and their measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.core.atomic_files import whole
from napari_sam.results.table import object_table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.results.measure import MeasureOptions
    from napari_sam.results.results import Results


def write(
    path: Path, results: Results, measure: MeasureOptions | None = None
) -> list[str]:
    """Write the table; see `napari_sam.results.registry.write`."""
    import pyarrow
    from pyarrow import parquet

    with whole(path) as part:
        parquet.write_table(pyarrow.table(object_table(results, measure)), part)
    return []
