"""How a session goes to its folder and comes back."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_sam.errors import SessionError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from napari_sam.core.history import Rule
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import LabelPatch
    from napari_sam.io.session_files import SessionFiles
    from napari_sam.io.volume import Volume
    from napari_sam.models.base import PromptableModel
    from napari_sam.session.ledger import Ledger


def head(
    volume: Volume, model: PromptableModel, intensity: IntensityMapping, rule: Rule
) -> dict[str, Any]:
    """What ``session.json`` says: all that is needed to open and to replay."""
    return {
        "volume": {"source": volume.source, "identity": volume.identity()},
        "model": model.spec.source or model.spec.name,
        "checkpoint_sha256": model.spec.sha256,
        "intensity": intensity.to_json(),
        "spacing": list(volume.spacing),
        "axes": list(volume.axes),
        "rule": rule,
    }


def start(
    path: str | os.PathLike[str], head: dict[str, Any], ledger: Ledger, labels: Any
) -> SessionFiles:
    """Write a session into a new folder, with its whole history.

    Raises
    ------
    SessionError
        If the folder holds a session already or cannot be written.
    """
    from napari_sam.io.session_files import SessionFiles

    files = SessionFiles(path, create=True)
    try:
        files.write_head(head)
        for line in ledger.history.lines():
            files.append(json.loads(line)["kind"], line)
        files.write_labels(labels)
    except BaseException:
        files.close()
        raise
    return files


@contextmanager
def opened(
    path: str | os.PathLike[str], *, read_only: bool
) -> Iterator[tuple[dict[str, Any], SessionFiles | None]]:
    """Hold a saved session's folder while it is loaded; let go of it on any error."""
    from napari_sam.io.session_files import SessionFiles, read_head

    head = read_head(path)
    files = None if read_only else SessionFiles(path, create=False)
    try:
        yield head, files
    except BaseException:
        if files is not None:
            files.close()
        raise


def labels_of(path: str | os.PathLike[str], *, read_only: bool) -> tuple[Any, int]:
    """Return the saved labels and the number of changes they hold; (None, 0): none."""
    from napari_sam.io.session_files import read_labels

    return read_labels(path, read_only=read_only) or (None, 0)


def replay(
    path: str | os.PathLike[str],
    files: SessionFiles | None,
    ledger: Ledger,
    done: int,
) -> Iterator[tuple[LabelPatch, ...]]:
    """Bring back the ledger; yield the patches that come after the change `done`."""
    from napari_sam.io.session_files import read_history

    for number, (kind, line) in enumerate(read_history(path), 1):
        change = ledger.replay(kind, line)
        if change is not None and number > done:
            yield change.patches
        if files is not None:
            files.changes = number


def open_saved_volume(head: dict[str, Any], given: Any = None) -> Volume:
    """Open the image that a session was made on, or one given in its place.

    Raises
    ------
    SessionError
        If the session names none, or the shape is not the session's.
    VolumeError
        If it cannot be opened.
    """
    from napari_sam.io.volume import open_volume

    source = head["volume"]["source"] if given is None else given
    if source is None:
        raise SessionError(
            "this session was made from an array in memory: pass it again as volume=..."
        )
    volume: Volume = open_volume(source)
    want, got = head["volume"]["identity"], volume.identity()
    if want["shape"] != json.loads(json.dumps(got["shape"])):
        raise SessionError(
            f"this session belongs to an image of shape {want['shape']}; got one of "
            f"{got['shape']}"
        )
    return volume
