"""What leaves a session: its results, and how they came about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.objects import ObjectRecord, PlaneRecord
from napari_sam.results.label_arrays import OnlyLabels
from napari_sam.results.results import Results

if TYPE_CHECKING:
    from napari_sam.core.objects import ObjectState
    from napari_sam.session.session import Session


def results_of(session: Session, *, reviewed_only: bool = False) -> Results:
    """Return a session's labels, objects and provenance as one value.

    Parameters
    ----------
    session : Session
    reviewed_only : bool
        Leave out objects whose review is not "accepted"; their pixels become 0.
    """
    objects = {
        i: ObjectRecord(i, planes={p: _plane_record(s) for p, s in by_plane.items()})
        for i, by_plane in session.objects.items()
    }
    labels: Any = session.labels
    if reviewed_only:
        objects = {i: o for i, o in objects.items() if o.review == "accepted"}
        labels = OnlyLabels(labels, objects)
    return Results(labels, session.volume, objects, provenance=provenance(session))


def provenance(session: Session) -> dict[str, Any]:
    """Model, checkpoint, intensity mapping and version, as plain values."""
    from napari_sam import __version__

    spec = session.model.spec
    return {
        "software": f"napari-sam {__version__}",
        "model": spec.source or spec.name,
        "checkpoint_sha256": spec.sha256,
        "intensity": session.engine.intensity.to_json(),
        "source": session.volume.source,
    }


def _plane_record(state: ObjectState) -> PlaneRecord:
    prompts = state.prompts
    drawn = prompts.box is not None or prompts.polygon or prompts.mask is not None
    score = state.scores[state.chosen] if state.scores else None
    return PlaneRecord("drawn" if drawn else "clicked", prompts, score)
