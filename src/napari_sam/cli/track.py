"""``napari-sam track``: the objects of a time-lapse, linked from frame to frame."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import (  # noqa: TC001
    AsJson,
    Axes,
    Channels,
    Device,
    Format,
    Out,
    Series,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.cli.arguments import VolumeOptions
    from napari_sam.core.tracks import Tracks
    from napari_sam.session import Session
    from napari_sam.session.tracking import Tracking


def track(
    source: Annotated[
        str, typer.Argument(help="Session (.nsam), or a time-lapse with --labels.")
    ],
    labels: Annotated[
        str | None,
        typer.Option(help="Labels of the objects in each frame, of any format."),
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="Frames to link, as 10-60; all if left out.")
    ] = None,
    max_distance: Annotated[
        float,
        typer.Option(help="How far off an object may be, in diameters.", min=0.1),
    ] = 1.5,
    max_gap: Annotated[
        int, typer.Option(help="Frames in which an object may be missing.", min=0)
    ] = 2,
    divisions: Annotated[
        bool, typer.Option("--divisions/--no-divisions", help="Objects may divide.")
    ] = True,
    merges: Annotated[
        bool, typer.Option("--merges", help="Objects may become one.")
    ] = False,
    look: Annotated[
        float,
        typer.Option(help="Weight of what the model sees, 0 to 1.", min=0, max=1),
    ] = 0.0,
    image: Annotated[
        str | None, typer.Option(help="The session's image, where that has moved.")
    ] = None,
    session: Annotated[
        Path | None, typer.Option(help="Keep a new session here (.nsam).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="For --look; the session's if left out."),
    ] = None,
    device: Device = "auto",
    axes: Axes = None,
    channels: Channels = None,
    series: Series = None,
    truth: Annotated[
        str | None,
        typer.Option(help="True tracks (.ctc, .geff, ...) to score these by."),
    ] = None,
    out: Out = None,
    format: Format = None,  # noqa: A002
    as_json: AsJson = False,
) -> None:
    """Link objects from frame to frame: an id becomes a track; one undo step."""
    from napari_sam.cli import arguments
    from napari_sam.cli.report import Report, progress
    from napari_sam.cli.results import check_results, write
    from napari_sam.engine.track import TrackOptions

    check_results(tuple(out or ()), format)
    numbers = frames and arguments.ranges(frames, "--frames")
    report = Report(as_json)
    options = TrackOptions(
        max_distance, max_gap, divisions=divisions, merges=merges, look=look
    )
    opened = _open(
        arguments.VolumeOptions(source, axes, channels, series),
        labels, image, session, model if model or look else None, device, look=look,
    )  # fmt: skip
    span = (min(numbers), max(numbers)) if numbers else None
    task = opened.set_tracking(options, frames=span)
    found: list[Tracks] = []
    with report.timed("track") as step:
        progress(_steps(task, found), "track", "frames")
        count = opened.accept_tracking(task, opened.plan_tracking(task, found[0]))
        lineage = opened.lineage()
        step["detail"] = (
            f"{len(task.frames)} frames, {count} tracks, "
            f"{len(lineage.divisions)} divisions, {len(lineage.gaps)} gaps"
        )
    for a, b in lineage.doubtful()[:10]:
        report.say(
            f"  doubtful: object {a.object_id} in frame {a.frame} to object "
            f"{b.object_id} in frame {b.frame}, {lineage.edges[a, b]:.2f}"
        )
    scores = None
    if truth is not None:
        name = "ctc" if (Path(truth) / "man_track.txt").exists() else None
        scores = opened.tracks.score(truth, name)
        report.say(
            f"  TRA {scores.tra:.4f}, DET {scores.det:.4f}, SEG {scores.seg:.4f}; "
            f"edges F1 {scores.edge_f1:.4f}; {scores.divisions_found} of "
            f"{scores.divisions} divisions found, {scores.divisions_reported} reported"
        )
    for path in out or ():
        with report.timed("write") as step:
            told = write(path, opened, name=format)
            step["detail"] = "; ".join((str(path), *told))
    if opened.path is not None:
        opened.save()
    opened.close()
    if not (out or opened.path or session or truth):
        report.say("  nothing was written: -o tracks.tif, .geff ... keeps it")
    report.data = {**_facts(lineage), "written": [str(p) for p in out or ()]}
    if scores is not None:
        report.data["scores"] = asdict(scores)
    report.finish()


def _open(
    source: VolumeOptions, labels: str | None, image: str | None,
    path: Path | None, model: str | None, device: str, *, look: float,
) -> Session:  # fmt: skip
    """Open a session, or begin one on a time-lapse with labels."""
    from napari_sam.cli.arguments import ArgumentError
    from napari_sam.cli.report import load_with_progress
    from napari_sam.models.unloaded import UnloadedModel
    from napari_sam.session import Session
    from napari_sam.session.files import read_head

    network: Any = None if model is None else load_with_progress(model, device)
    kept: dict[str, Any] = {"embeddings": None if look else False}
    if (Path(source.source).expanduser() / "session.json").exists():
        if labels is not None or path is not None:
            raise ArgumentError(
                "--labels and --session begin a session on an image; "
                f"{source.source!r} is one already"
            )
        if network is None and not look:
            head = read_head(source.source)
            checksum = str(head.get("checkpoint_sha256", ""))
            network = UnloadedModel(str(head["model"]), checksum)
        return Session.load(source.source, volume=image, model=network, **kept)
    if labels is None:
        raise ArgumentError(
            f"{source.source!r} is no session: give --labels with the objects of each "
            "frame, or a session that has some"
        )
    if network is None and look:
        network = load_with_progress("nano", device)
    return Session(
        source.open(), network or UnloadedModel("nano", ""),
        labels=labels, path=path, **kept,
    )  # fmt: skip


def _steps(task: Tracking, found: list[Any]) -> Iterator[tuple[int, int]]:
    yield 0, len(task.frames)
    for one in task.run():
        if isinstance(one, int):
            yield one, len(task.frames)
        else:
            found.append(one)


def _facts(lineage: Tracks) -> dict[str, Any]:
    """What there is, for machines."""
    parents = {a.object_id: b.object_id for a, b in lineage.parents().items()}
    return {
        "tracks": [
            {
                "object_id": line[0].object_id,
                "first": line[0].frame,
                "last": line[-1].frame,
                "frames": len(line),
                "parent": parents.get(line[0].object_id),
            }
            for line in lineage.lines()
        ],
        "divisions": len(lineage.divisions),
        "gaps": len(lineage.gaps),
        "doubtful": [
            {"from": list(a), "to": list(b), "doubt": round(lineage.edges[a, b], 4)}
            for a, b in lineage.doubtful()
        ],
    }
