"""What the table of objects shows, from the session's records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam._napari.state import ObjectRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.session import Session


def object_rows(session: Session, color: Callable[[int], str]) -> tuple[ObjectRow, ...]:
    """List the objects that something is known of, by id."""
    rows = []
    for object_id, one in sorted(session.objects.items()):
        planes = one.planes
        scores = [r.score for r in planes.values() if r.score is not None]
        best = max(scores, default=None)
        rows.append(
            ObjectRow(object_id, color(object_id), planes=len(planes), score=best)
        )
    return tuple(rows)
