"""``napari-sam interpolate``, ``doubtful`` and ``clean``: volumes of saved sessions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson, Axis, Out  # noqa: TC001
from napari_sam.cli.propagate import propagate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.session import Session

Saved = Annotated[Path, typer.Argument(help="Session (.nsam) with objects.")]
Objects = Annotated[
    list[int] | None,
    typer.Option("--object", help="Which object; again for more. All if left out."),
]
Image = Annotated[str | None, typer.Option(help="Its image, where that has moved.")]


def interpolate(
    session: Saved,
    object_ids: Objects = None,
    planes: Annotated[
        str | None, typer.Option(help="Planes to fill, as 10-60; all if left out.")
    ] = None,
    plane: Annotated[
        str | None, typer.Option(help="A plane of the stack, to name the time point.")
    ] = None,
    axis: Axis = "z",
    snap: Annotated[
        bool, typer.Option("--snap", help="Fit the shapes to the image by the model.")
    ] = False,
    image: Image = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Fill the planes between key planes from their shapes; one undo step."""
    propagate(
        session, object_ids, planes=planes, plane=plane, axis=axis, snap=snap,
        method="interpolate", image=image, out=out, no_store=not snap, as_json=as_json,
    )  # fmt: skip


def doubtful(
    session: Saved,
    object_ids: Objects = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Doubt from which on a plane counts.")
    ] = 0.3,
    most: Annotated[
        int, typer.Option("--most", min=1, help="Planes to list; --json lists all.")
    ] = 20,
    image: Image = None,
    as_json: AsJson = False,
) -> None:
    """List planes that deserve a look; nothing is changed."""
    from napari_sam.cli.report import Report
    from napari_sam.session import Session

    report = Report(as_json)
    opened = Session.load(session, volume=image, embeddings=False, read_only=True)
    ids = _known(opened, object_ids)
    found = [w for w in opened.doubtful(least=least) if w[0] in ids]
    apart = [c for c in opened.conflicts() if c.object_id in ids]
    for object_id, where, doubt in found[:most]:
        report.say(f"object {object_id}, {_text(opened, where)}: doubt {doubt:.2f}")
    if len(found) > most:
        report.say(f"and {len(found) - most} more")
    for c in apart:
        a, b = (_text(opened, p) for p in c.planes)
        report.say(
            f"object {c.object_id}: {a} and {b} disagree on {c.voxels} voxels where "
            "they cross"
        )
    if not found and not apart:
        report.say("no plane is doubtful that nobody has reviewed")
    report.data = {
        "doubtful": [
            {"object_id": i, "plane": p.to_json(), "doubt": round(d, 4)}
            for i, p, d in found
        ],
        "conflicts": [
            {
                "object_id": c.object_id,
                "planes": [p.to_json() for p in c.planes],
                "voxels": c.voxels,
                "iou": round(c.iou, 4),
            }
            for c in apart
        ],
    }
    opened.close()
    report.finish()


def clean(
    session: Saved,
    object_ids: Objects = None,
    plane: Annotated[
        str | None, typer.Option(help="Only on this plane (z, or t,z); else in 3-D.")
    ] = None,
    axis: Axis = "z",
    fill_holes: Annotated[
        bool, typer.Option("--fill-holes/--keep-holes", help="Fill closed holes.")
    ] = True,
    largest_hole: Annotated[
        int, typer.Option(min=0, help="Only holes of at most so many voxels; 0: all.")
    ] = 0,
    smooth: Annotated[
        float, typer.Option(min=0, help="Round off by a Gaussian of so many pixels.")
    ] = 0.0,
    smallest_part: Annotated[
        int, typer.Option(min=0, help="Remove parts of fewer voxels than this.")
    ] = 0,
    largest_only: Annotated[
        bool, typer.Option("--largest-only", help="Keep the largest part alone.")
    ] = False,
    image: Image = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Tidy objects: holes, fragments, outline, largest part; an undo step an object."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_results, write
    from napari_sam.core.clean import CleanOptions
    from napari_sam.core.planes import Plane
    from napari_sam.session import Session

    check_results(tuple(out or ()))
    options = CleanOptions(
        fill_holes, largest_hole, smooth, smallest_part, largest_only
    )
    report = Report(as_json)
    opened = Session.load(session, volume=image, embeddings=False)
    try:
        changed: dict[str, Any] = {}
        where = None if plane is None else arguments.plane(plane)
        for object_id in _known(opened, object_ids):
            n = opened.clean(object_id, options, plane=where, axis=arguments.axis(axis))
            changed[str(object_id)] = n
            report.say(f"object {object_id}: changed on {n} plane(s)")
        for path in out or ():
            write(path, opened, Plane.of(opened.volume.shape, 0))
        opened.save()
    finally:
        opened.close()
    report.data = {"changed": changed, "written": [str(p) for p in out or ()]}
    report.finish()


def _known(session: Session, wanted: Sequence[int] | None) -> list[int]:
    """Return the objects asked for, or all there are."""
    from napari_sam.cli.arguments import ArgumentError

    there = sorted(session.objects)
    for object_id in wanted or ():
        if object_id not in there:
            raise ArgumentError(
                f"--object {object_id}: the session has no such object; it has "
                f"{', '.join(map(str, there)) or 'none'}"
            )
    return list(wanted) if wanted else there


def _text(session: Session, plane: Plane) -> str:
    from napari_sam.cli.arguments import plane_text

    return plane_text(session.volume, plane)
