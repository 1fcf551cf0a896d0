"""``napari-sam annotate``: many images one after another, each with its session."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson  # noqa: TC001

if TYPE_CHECKING:
    from napari_sam.cli.report import Report
    from napari_sam.session.worklist import WorkImage, Worklist


def annotate(
    images: Annotated[
        list[Path], typer.Argument(help="A folder of images, or the images.")
    ],
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder for sessions and exports; napari-sam beside the images if "
            "left out."
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say how far each image is; no window.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            help="Write what is annotated in this format, a file an image; no window."
        ),
    ] = None,
    reviewed_only: Annotated[
        bool, typer.Option("--reviewed-only", help="Export accepted objects alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go through a folder of images in napari; say how far it is; export all of it."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.results.registry import FORMATS
    from napari_sam.session.worklist import Worklist

    if export is not None:
        arguments.one_of(export, tuple(FORMATS), "--export")
        FORMATS[export].load()
    work = Worklist(images[0] if len(images) == 1 else images, results)
    if not status and export is None:
        from napari_sam._napari.viewing import import_napari, view_images

        napari = import_napari()
        view_images(work)
        napari.run()
        return
    report = Report(as_json)
    report.data = {"results": str(work.results), "at": work.current.name}
    if export is not None:
        _export(work, export, report, reviewed_only=reviewed_only)
    if status:
        _status(work, report)
    report.finish()


def _export(work: Worklist, name: str, report: Report, *, reviewed_only: bool) -> None:
    written = report.data["written"] = []
    for one, path, told in work.export(name, reviewed_only=reviewed_only):
        report.say("; ".join((f"  {one.name:<24}{path}", *told)))
        written.append(str(path))
    if not written:
        report.say("  no image is annotated yet: nothing was written")


def _status(work: Worklist, report: Report) -> None:
    rows = report.data["images"] = [_row(one) for one in work.images]
    for row, one in zip(rows, work.images, strict=True):
        here = "  <- here" if one is work.current else ""
        told = f"{row['objects']} objects, {row['accepted']} accepted"
        report.say(f"  {one.name:<24}{told if row['begun'] else 'not begun'}{here}")
    report.say(f"  {work.begun} of {len(work)} images begun, in {work.results}")


def _row(one: WorkImage) -> dict[str, Any]:
    objects = _reviews(one) if one.begun else []
    return {
        "name": one.name,
        "path": str(one.path),
        "begun": one.begun,
        "objects": len(objects),
        "accepted": objects.count("accepted"),
    }


def _reviews(one: WorkImage) -> list[str]:
    from napari_sam.session.storage import saved_session

    document = saved_session(one.session)[1]
    known = document.about
    ids = {*document.keys, *known}
    return [known[i].review if i in known else "open" for i in ids]
