"""``napari-sam combine``: two people's sessions of one image made one."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import Annotated

import typer

from napari_sam.cli.options import AsJson, Out  # noqa: TC001


def combine(
    session: Annotated[Path, typer.Argument(help="Session (.nsam) that is changed.")],
    other: Annotated[
        str, typer.Argument(help="Session of the same image, or a file of objects.")
    ],
    agree: Annotated[
        float, typer.Option(help="Least IoU of an object on which both agree.")
    ] = 0.75,
    consensus: Annotated[
        str,
        typer.Option(help="Pixels where both agree: ours, union or intersection."),
    ] = "ours",
    prefer: Annotated[
        str, typer.Option(help="Whose shape stays where they differ: ours or theirs.")
    ] = "ours",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compare only; nothing is changed.")
    ] = False,
    image: Annotated[
        str | None, typer.Option(help="Its image, where that has moved.")
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Join another session, as one undo step; what they differ in is flagged."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_results, write
    from napari_sam.core.planes import Plane
    from napari_sam.session import Session
    from napari_sam.session.combining import CombineOptions
    from napari_sam.session.looking import look_at

    arguments.one_of(consensus, ("ours", "union", "intersection"), "--consensus")
    arguments.one_of(prefer, ("ours", "theirs"), "--prefer")
    options = CombineOptions(agree, consensus, prefer)  # type: ignore[arg-type]
    check_results(tuple(out or ()))
    report = Report(as_json)
    if dry_run:
        opened = look_at(session, image)
    else:
        opened = Session.load(session, volume=image, embeddings=False)
    try:
        if dry_run:
            found = opened.compare(other, agree=agree)
        else:
            found = opened.combine(other, options)
            for path in out or ():
                write(path, opened, Plane.of(opened.volume.shape, 0))
            opened.save()
    finally:
        opened.close()
    report.say(found.table())
    for match in found.conflicts[:20]:
        where = f"object {match.ours}: " if match.ours else ""
        report.say(f"  {where}{match.told}")
    if more := len(found.conflicts) - 20:
        report.say(f"  and {more} more" if more > 0 else "")
    report.data = {**found.to_dict(), "written": [str(p) for p in out or ()]}
    report.finish()
