"""What verbs that segment share: open image and model, go on with a session, write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.cli.arguments import ArgumentError, VolumeOptions
from napari_sam.cli.report import Report, load_with_progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session import Session
    from napari_sam.volume.volume import Volume


def open_image(report: Report, source: VolumeOptions) -> Volume:
    """Open the image, and say how long it took."""
    with report.timed("open") as step:
        volume = source.open()
        step["detail"] = repr(volume)
    return volume


def load(report: Report, model: str, device: str, precision: str) -> PromptableModel:
    """Load the model, and say where it runs."""
    with report.timed("model") as step:
        network = load_with_progress(model, device, precision)
        step["detail"] = f"{network.spec.name} on {network.device}"
    return network


def session_of(
    volume: Volume,
    network: PromptableModel,
    *,
    path: Path | None,
    store: str | bool | None,
    intensity: IntensityMapping | None = None,
    labels: Any = None,
) -> Session:
    """Begin a session, or go on with the one that is kept at `path`.

    Parameters
    ----------
    intensity : IntensityMapping, optional
        As asked for on the command line; from here on, in a session that is kept.
    labels : path-like, optional
        Objects of a new session.

    Raises
    ------
    ArgumentError
        If labels are given to a session that is kept: it has its own.
    """
    from napari_sam.session import Session

    if path is None or not path.exists():
        return Session(volume, network, embeddings=store, path=path, labels=labels)
    if labels is not None:
        raise ArgumentError(
            f"{path} is kept already and has objects of its own: leave --labels out, "
            "or name another --session"
        )
    session = Session.load(path, volume=volume, model=network, embeddings=store)
    if intensity is not None and intensity != session.engine.intensity:
        session.use(intensity=intensity)
    return session


def write_all(
    report: Report,
    session: Session,
    plane: Plane,
    out: Iterable[Path],
    format: str | None,  # noqa: A002
) -> None:
    """Write the objects to every file asked for."""
    from napari_sam.cli.results import write

    for path in out:
        with report.timed("write") as step:
            told = write(path, session, plane, name=format)
            step["detail"] = "; ".join((str(path), *told))


def hand_on(
    report: Report,
    session: Session,
    plane: Plane,
    n_found: int,
    *,
    path: Path | None,
    out: tuple[Path, ...],
    format: str | None,  # noqa: A002
) -> None:
    """End a search: write what was accepted, or say where proposals wait."""
    write_all(report, session, plane, out, format)
    session.close()
    if path is not None:
        report.say(f"  {n_found} wait in {path}: review them in napari")
    elif not out:
        report.say("  nothing was written: -o cells.json, .tif, .zarr ... keeps it")
    report.finish()
