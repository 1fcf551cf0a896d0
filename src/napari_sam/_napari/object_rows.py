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
    for object_id, states in sorted(session.objects.items()):
        scores = [s.scores[s.chosen] for s in states.values() if s.scores]
        best = max(scores, default=None)
        rows.append(
            ObjectRow(object_id, color(object_id), planes=len(states), score=best)
        )
    return tuple(rows)
