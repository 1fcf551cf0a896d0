"""``napari-sam split``, ``merge``, ``refine``: objects of a saved session made anew."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson, Axis, Device, NoStore, Out  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_sam.core.planes import Plane
    from napari_sam.session import Session

Work = Annotated[Path, typer.Argument(help="Session (.nsam) with objects.")]
Which = Annotated[int, typer.Option("--object", help="Which object.")]
OnPlane = Annotated[
    str | None, typer.Option("--plane", help="Which plane of a volume: z, or t,z.")
]
Moved = Annotated[
    str | None, typer.Option("--image", help="Its image, where that has moved.")
]
OtherModel = Annotated[
    str | None, typer.Option("--model", "-m", help="The session's if left out.")
]


def split(
    session: Work,
    point: Annotated[
        list[str], typer.Option(help="y,x of a point in each part; two or more.")
    ],
    object_id: Which = 1,
    plane: OnPlane = None,
    axis: Axis = "z",
    image: Moved = None,
    model: OtherModel = None,
    device: Device = "auto",
    out: Out = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Divide an object on a plane among points; every pixel stays in one part."""
    from napari_sam.cli import arguments

    points = [arguments.point(p) for p in point]
    with _opened(session, image, model, device, no_store, out, as_json) as do:
        where = do.where(plane, axis)
        ids = do.timed("split", lambda s: s.split(object_id, points, where))
        do.tell({"parts": ids}, f"object {object_id} became {_named(ids)}")


def merge(
    session: Work,
    object_ids: Annotated[
        list[int],
        typer.Option("--object", help="Two or more; the first one stays."),
    ],
    image: Moved = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Make several objects one, on all planes."""
    with _opened(session, image, None, "auto", True, out, as_json) as do:
        stayed = do.timed("merge", lambda s: s.merge(object_ids))
        gone = [i for i in object_ids if i != stayed]
        told = f"{_named(gone)} became part of object {stayed}"
        do.tell({"object_id": stayed, "merged": gone}, told)


def refine(
    session: Work,
    object_id: Which = 1,
    plane: OnPlane = None,
    axis: Axis = "z",
    image: Moved = None,
    model: OtherModel = None,
    device: Device = "auto",
    out: Out = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Let the model draw an object again, from the pixels it has on a plane."""
    with _opened(session, image, model, device, no_store, out, as_json) as do:
        where = do.where(plane, axis)
        best = do.timed("refine", lambda s: s.refine(object_id, where))[0]
        said = {
            "object_id": object_id,
            "plane": where.to_json(),
            "bbox": list(best.bbox),
            "area": best.area,
            "predicted_iou": round(float(best.predicted_iou), 6),
        }
        do.tell(said, f"object {object_id}: {best.area} pixels")


class _Work:
    """An open session and what is told of it."""

    def __init__(self, session: Session, report: Any) -> None:
        self.session = session
        self.report = report

    def where(self, plane: str | None, axis: str) -> Plane:
        """Plane that is meant."""
        from napari_sam.cli import arguments

        given = None if plane is None else arguments.plane(plane)
        return arguments.plane_of(self.session.volume, given, arguments.axis(axis))

    def timed(self, what: str, work: Any) -> Any:
        """Do it, and tell how long it took."""
        with self.report.timed(what):
            return work(self.session)

    def tell(self, data: dict[str, Any], text: str) -> None:
        """Say what was done."""
        self.report.data = {"model": self.session.model.spec.name, **data}
        self.report.say(f"  {text}")


@contextmanager
def _opened(
    path: Path, image: str | None, model: str | None, device: str, no_store: bool,
    out: Sequence[Path] | None, as_json: bool,
) -> Iterator[_Work]:  # fmt: skip
    """Open a session; save it, and write what was asked for, when all went well."""
    from napari_sam.cli.report import Report, load_with_progress
    from napari_sam.cli.results import check_planes, check_results, write
    from napari_sam.session import Session

    check_results(tuple(out or ()))
    report = Report(as_json)
    network = None if model is None else load_with_progress(model, device)
    opened = Session.load(
        path, volume=image, model=network, embeddings=False if no_store else None
    )
    try:
        check_planes(out or (), opened.volume)
        yield _Work(opened, report)
        for target in out or ():
            with report.timed("write") as step:
                write(target, opened)
                step["detail"] = str(target)
        opened.save()
    finally:
        opened.close()
    report.data["written"] = [str(p) for p in out or ()]
    report.finish()


def _named(ids: Sequence[int]) -> str:
    what = "object" if len(ids) == 1 else "objects"
    return f"{what} {', '.join(str(i) for i in ids)}"
