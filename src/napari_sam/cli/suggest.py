"""``napari-sam suggest``: the rest of a saved session, found by its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.cli import arguments
from napari_sam.cli.arguments import ArgumentError
from napari_sam.cli.report import Report, load_with_progress, progress
from napari_sam.cli.results import check_planes, check_results, write

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SuggestOptions:
    """Where to look, and what to do with what is found."""

    session: Path
    image: str | None = None
    planes: str | None = None
    axis: str = "z"
    accept: float | None = None
    max_doubt: float = 0.8
    out: tuple[Path, ...] = ()
    store: str | bool | None = None


def run(
    options: SuggestOptions, *, model: str | None, device: str, as_json: bool
) -> None:
    """Suggest; what is found waits in the session unless it is accepted here."""
    from napari_sam.engine.suggest import SuggestRules
    from napari_sam.session import Session

    check_results(options.out)
    for what, value in (
        ("--accept", options.accept), ("--max-doubt", options.max_doubt)
    ):  # fmt: skip
        if value is not None and not 0 <= value <= 1:
            raise ArgumentError(f"{what} takes a doubt from 0 to 1; got {value:g}")
    planes = options.planes and arguments.ranges(options.planes, "--planes")
    report = Report(as_json)
    network = None if model is None else load_with_progress(model, device)
    session = Session.load(
        options.session, volume=options.image, model=network, embeddings=options.store
    )
    check_planes(options.out, session.volume)
    with report.timed("suggest") as step:
        last = progress(
            session.proposals.find(
                planes or None,
                axis=arguments.axis(options.axis),
                rules=SuggestRules(max_doubt=options.max_doubt),
            ),
            "suggest",
            "steps",
        )
        found = session.proposals.pending
        step["detail"] = f"{len(found)} suggested in {last[1]} steps"
    accepted = 0
    if options.accept is not None:
        accepted = session.proposals.accept(max_doubt=options.accept)
        report.say(f"  accepted {accepted} with a doubt of at most {options.accept:g}")
        session.save()
    for path in options.out:
        with report.timed("write") as step:
            write(path, session)
            step["detail"] = str(path)
    waiting = session.proposals.pending
    report.say(f"  {len(waiting)} wait in {options.session}: review them in napari")
    session.close()
    report.data = {
        "model": session.model.spec.name,
        "suggested": len(found),
        "accepted": accepted,
        "waiting": [
            {
                "plane": s.plane.to_json(),
                "bbox": [int(v) for v in s.bbox],
                "area": s.area,
                "doubt": round(s.doubt, 4),
                "predicted_iou": round(s.predicted_iou, 4),
                "object_id": s.object_id,
            }
            for s in waiting
        ],
        "written": [str(p) for p in options.out],
    }
    report.finish()
