"""``napari-sam export``: what a saved session holds, in the format of the next tool."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import Annotated

import typer

from napari_sam.cli.options import AsJson, Format  # noqa: TC001


def export(
    session: Annotated[Path, typer.Argument(help="Session (.nsam).")],
    out: Annotated[
        list[Path],
        typer.Argument(help="Files to write; their suffixes name the formats."),
    ],
    format: Format = None,  # noqa: A002
    image: Annotated[
        str | None, typer.Option(help="Its image, where that has moved.")
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option(help="Only this plane (z, or t,z), for formats of one image."),
    ] = None,
    view: Annotated[
        str,
        typer.Option(
            help="What a value says: instance (which object), semantic (of which "
            "class) or panoptic (both)."
        ),
    ] = "instance",
    reviewed_only: Annotated[
        bool, typer.Option("--reviewed-only", help="Only objects that were accepted.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace folders that are there.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the objects of a session to files."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_results
    from napari_sam.results.views import view_of
    from napari_sam.session.looking import look_at

    check_results(out, format, overwrite=overwrite)
    seen = view_of(view)
    where = None if plane is None else arguments.plane(plane)
    report = Report(as_json)
    opened = look_at(session, image)
    report.data = {"written": [], "notes": []}
    for path in out:
        with report.timed("write") as step:
            told = opened.export(
                path, format, plane=where, view=seen,
                reviewed_only=reviewed_only, overwrite=overwrite,
            )  # fmt: skip
            step["detail"] = "; ".join((str(path), *told))
        report.data["written"].append(str(path))
        report.data["notes"] += told
    opened.close()
    report.finish()
