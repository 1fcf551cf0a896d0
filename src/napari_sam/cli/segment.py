"""``napari-sam segment``: prompts to masks to files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.cli import arguments
from napari_sam.cli.arguments import ArgumentError
from napari_sam.cli.report import Report, progress
from napari_sam.cli.results import check_results, check_target
from napari_sam.cli.work import load, open_image, session_of, write_all
from napari_sam.core.prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_sam.cli.arguments import VolumeOptions
    from napari_sam.core.planes import Plane
    from napari_sam.results.detections import Detection
    from napari_sam.session import Session
    from napari_sam.session.many import Answer
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """Prompts and results, as the command line gives them."""

    out: tuple[Path, ...] = ()
    points: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    box: str | None = None
    polygon: str | None = None
    scribbles: tuple[str, ...] = ()
    negative_scribbles: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    plane: str | None = None
    axis: str = "z"
    object_id: int = 1
    prompts: Path | None = None
    many: Path | None = None
    candidate: int = 0
    store: str | bool | None = None
    session: Path | None = None
    picture: Path | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts for one object on one plane."""

    object_id: int
    plane: int | tuple[int, ...] | None
    axis: int
    prompts: Prompts
    candidate: int = 0
    named: str = "--plane"
    """What names the plane, for messages."""

    def where(self, volume: Volume) -> Plane:
        """Plane of a volume."""
        return arguments.plane_of(volume, self.plane, self.axis, self.named)


def run(
    source: VolumeOptions,
    options: SegmentOptions,
    *,
    model: str,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Segment, and write what was asked for."""
    check_results(options.out, options.format)
    if options.picture is not None:
        suffix = options.picture.suffix.lower()
        arguments.one_of(suffix, (".png",), "the suffix of --picture")
        check_target(options.picture)
    tasks = [] if options.many is not None else _tasks(options)
    report = Report(as_json)
    volume = open_image(report, source)
    detected, where = _many(options, volume)
    for task in tasks:  # loading a model takes longer than finding out
        task.prompts.check(task.where(volume).shape(volume.shape))
    network = load(report, model, device, precision)
    asked = None if source.intensity is None else volume.intensity
    session = session_of(
        volume, network, path=options.session, store=options.store, intensity=asked
    )
    report.data = {"volume": repr(volume), "model": network.spec.name, "objects": []}
    for task in tasks:
        _segment(session, task, report)
        where = task.where(volume)
    assert where is not None
    if detected:
        _segment_many(session, detected, where, report)
    write_all(report, session, where, options.out, options.format)
    if options.picture is not None:
        _draw(options.picture, session, where)
        report.say(f"  picture            {options.picture}")
    session.close()
    if not (options.out or options.picture or options.session):
        report.say("  nothing was written: -o cells.json, .tif, .zarr ... keeps it")
    report.data["written"] = [str(p) for p in (*options.out, options.picture) if p]
    report.finish()


def _many(
    options: SegmentOptions, volume: Volume
) -> tuple[list[Detection], Plane | None]:
    """Read the boxes of a file, and on which plane they lie unless it says so."""
    from napari_sam.results.detections import read_detections

    if options.many is None:
        return [], None
    if options.prompts is not None or any(_flags(options)):
        raise ArgumentError("--many takes the place of all other prompts")
    asked = read_detections(options.many, volume.shape)
    axis = arguments.axis(options.axis)
    given = None if options.plane is None else arguments.plane(options.plane)
    if all(d.plane is not None for d in asked):
        given = asked[-1].plane
    return asked, arguments.plane_of(volume, given, axis)


def _segment_many(
    session: Session, asked: list[Detection], where: Plane, report: Report
) -> None:
    task = session.set_many(asked, where, axis=where.axis)
    answers: list[Answer] = []

    def steps() -> Iterator[tuple[int, int]]:
        yield 0, len(asked)
        for answer in task.run():
            answers.append(answer)
            yield len(answers), len(asked)

    with report.timed("segment") as step:
        progress(steps(), "segment", "objects")
        ids = session.accept_many(task, answers)
        step["detail"] = f"{sum(map(bool, ids))} objects of {len(asked)} prompts"
    known = {a.number: a for a in answers}
    report.data["objects"] += [
        {
            "object_id": object_id or None,
            "plane": task.planes[k].to_json(),
            "class_name": asked[k].class_name,
            "bbox": list(known[k].bbox),
            "predicted_iou": round(float(known[k].scores[known[k].choices[-1]]), 6),
        }
        for k, object_id in enumerate(ids)
    ]
    report.data["seconds"] = step["seconds"]


def read_prompts(path: Path) -> list[Task]:
    """Read a prompt file: a list of objects, or ``{"objects": [...]}``.

    Each has `object_id` (1 when left out), `plane` (may be left out for single images
    alone), `axis`, `candidate`, and prompts as `Prompts.to_json` writes them.

    Raises
    ------
    ArgumentError
        If the file cannot be read or says something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"cannot read prompts from {path}: {error}") from error
    entries = content.get("objects") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise ArgumentError(
            f'{path} must hold a list of objects, or {{"objects": [...]}}, each with '
            '"points", "box" or "polygon"'
        )
    tasks = []
    for number, entry in enumerate(entries, 1):
        try:
            tasks.append(_task(entry))
        except (ValueError, TypeError, KeyError) as error:
            raise ArgumentError(
                f"object {number} of {path} cannot be understood: {error}"
            ) from error
    return tasks


def _task(entry: Any) -> Task:
    if not isinstance(entry, dict):
        raise ArgumentError(f"expected a JSON object; got {entry!r}")
    rest = dict(entry)
    plane, axis = rest.pop("plane", None), rest.pop("axis", 0)
    if isinstance(plane, dict):
        plane, axis = plane["index"], plane["axis"]
    if plane is not None:
        plane = tuple(plane) if isinstance(plane, list) else int(plane)
    return Task(
        object_id=int(rest.pop("object_id", 1)),
        plane=plane,
        named='"plane":',
        axis=arguments.axis(str(axis)),
        candidate=int(rest.pop("candidate", 0)),
        prompts=Prompts.from_json(rest),
    )


def _flags(options: SegmentOptions) -> tuple[Any, ...]:
    return (
        options.points, options.negatives, options.box, options.polygon,
        options.scribbles, options.negative_scribbles, options.paths,
    )  # fmt: skip


def _tasks(options: SegmentOptions) -> list[Task]:
    if (options.prompts is None) == (not any(_flags(options))):
        raise ArgumentError(
            "give prompts with --point, --negative, --box, --polygon, --scribble or "
            "--path, or a file with --prompts or --many"
        )
    if options.prompts is not None:
        return read_prompts(options.prompts)
    points = [arguments.point(p) for p in options.points]
    negatives = [arguments.point(p, "--negative") for p in options.negatives]
    polygon = options.polygon
    strokes = [arguments.places(s, "--scribble") for s in options.scribbles]
    against = [
        arguments.places(s, "--negative-scribble") for s in options.negative_scribbles
    ]
    prompts = Prompts.of(
        points=points + negatives,
        point_labels=[1] * len(points) + [0] * len(negatives),
        box=None if options.box is None else arguments.box(options.box),
        polygon=None if polygon is None else arguments.places(polygon, "--polygon"),
        scribbles=strokes + against,
        scribble_labels=[1] * len(strokes) + [0] * len(against),
        paths=[arguments.places(p, "--path") for p in options.paths],
    )
    return [
        Task(
            options.object_id,
            None if options.plane is None else arguments.plane(options.plane),
            arguments.axis(options.axis),
            prompts,
            options.candidate,
        )
    ]


def _segment(session: Session, task: Task, report: Report) -> None:
    where = task.where(session.volume)
    with report.timed("segment") as step:
        request = session.set_prompts(task.object_id, where, task.prompts)
        session.accept(session.run(request))
        if task.candidate:
            session.choose(task.candidate, task.object_id, where)
        candidates = session.candidates(task.object_id, where)
        chosen = candidates[task.candidate]
        y0, x0, y1, x1 = chosen.bbox
        hidden = session.left_out(task.object_id, where)
        told = (
            f"object {task.object_id}",
            arguments.plane_text(session.volume, where),
            f"{chosen.area} pixels in ({y0}, {x0}, {y1}, {x1})",
            f"predicted IoU {chosen.predicted_iou:.2f}",
            f"{hidden:.0%} left out, in other objects" if hidden >= 0.005 else "",
        )
        step["detail"] = ", ".join(filter(None, told))
    report.data["objects"].append(
        {
            "object_id": task.object_id,
            "plane": where.to_json(),
            "bbox": list(chosen.bbox),
            "area": chosen.area,
            "predicted_iou": round(float(chosen.predicted_iou), 6),
            "left_out": round(hidden, 4),
            "stability_score": round(float(chosen.stability_score), 6),
            "candidates": len(candidates),
            "seconds": step["seconds"],
        }
    )


def _draw(path: Path, session: Session, plane: Plane) -> None:
    from napari_sam.core.atomic_files import whole
    from napari_sam.session.notebook import draw_session

    with whole(path) as part:
        draw_session(session, plane, side=1024).save(part, "PNG")
