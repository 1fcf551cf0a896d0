"""``napari-sam compare``: instances against the truth, or one person against one."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson  # noqa: TC001

if TYPE_CHECKING:
    from napari_sam.results.instances import InstanceScores


def compare(
    truth: Annotated[
        Path, typer.Argument(help="Labels of any format, a session, or a folder.")
    ],
    found: Annotated[Path, typer.Argument(help="What is compared with it.")],
    image: Annotated[
        str | None,
        typer.Option(help="The image, where a file of outlines does not say its size."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Least IoU of a match; again for more. 0.5 to 0.95."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Write the curves over IoU here (.svg).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score instances: AP, F1, precision, recall, panoptic quality at each IoU."""
    from napari_sam.cli.report import Report
    from napari_sam.cli.results import check_target
    from napari_sam.core.atomic_files import write_whole
    from napari_sam.errors import PromptError
    from napari_sam.results.instances import THRESHOLDS, score_instances, summed_up
    from napari_sam.results.score_plot import score_plot

    wanted = tuple(threshold or THRESHOLDS)
    if wrong := [t for t in wanted if not 0 < t <= 1]:
        raise PromptError(f"an IoU is above 0 and at most 1; got {wrong[0]:g}")
    if plot is not None:
        check_target(plot)
    images: dict[str, InstanceScores] = {}
    for name, one, other in _pairs(truth, found):
        labels = _both(one, other, image)
        images[name] = score_instances(*labels, thresholds=wanted)
    scores = summed_up(images) if len(images) > 1 else next(iter(images.values()))
    report = Report(as_json, scores.to_dict())
    report.say(scores.table())
    if plot is not None:
        write_whole(plot, score_plot(scores, f"{found.name} / {truth.name}").encode())
        report.say(f"\ncurves: {plot}")
    report.finish()


def _pairs(truth: Path, found: Path) -> list[tuple[str, Path, Path]]:
    """Pair two files, or the files of two folders by their names."""
    from napari_sam.errors import VolumeError

    if not (_is_folder(truth) and _is_folder(found)):
        return [(truth.name, truth, found)]
    sides = [
        {p.name.split(".")[0]: p for p in sorted(f.iterdir()) if p.name[0] != "."}
        for f in (truth, found)
    ]
    if odd := sorted(sides[0].keys() ^ sides[1].keys()):
        raise VolumeError(
            f"the folders do not hold the same names: {', '.join(odd[:8])} "
            f"{'is' if len(odd) == 1 else 'are'} in one only. Move them away, or "
            "compare the files one by one"
        )
    if not sides[0]:
        raise VolumeError(f"there is nothing in {str(truth)!r}: expected label files")
    return [(name, sides[0][name], sides[1][name]) for name in sides[0]]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and path.suffix not in (".zarr", ".nsam")


def _both(truth: Path, found: Path, image: str | None) -> tuple[Any, Any]:
    from napari_sam.results.existing import existing_labels
    from napari_sam.session.looking import look_at
    from napari_sam.volume.opening import open_volume

    sessions = {p: look_at(p, image) for p in (truth, found) if p.suffix == ".nsam"}
    if sessions:
        volume = next(iter(sessions.values())).volume
    else:
        volume = open_volume(image or str(truth), as_labels=image is None)
    one, other = (
        sessions[p].labels if p in sessions else existing_labels(volume, str(p))
        for p in (truth, found)
    )
    return one, other
