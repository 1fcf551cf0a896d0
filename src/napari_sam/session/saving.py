"""How a session goes to its folder and comes back."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_sam.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import LabelPatch
    from napari_sam.core.objects import Rule
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session.files import SessionFiles
    from napari_sam.session.ledger import Ledger
    from napari_sam.volume.volume import Volume


def head(
    volume: Volume, model: PromptableModel, intensity: IntensityMapping, rule: Rule
) -> dict[str, Any]:
    """What ``session.json`` says: all that is needed to open and to replay."""
    return {
        "volume": {
            "source": volume.source,
            "recipe": volume.recipe,
            "identity": volume.identity(),
        },
        "model": model.spec.source or model.spec.name,
        "checkpoint_sha256": model.spec.sha256,
        "intensity": intensity.to_json(),
        "spacing": list(volume.spacing),
        "axes": list(volume.axes),
        "rule": rule,
    }


class Recorder:
    """Writes a session's changes to its folder as they happen, if it has one.

    A session may be saved by one thread while another goes on changing it: what
    happens meanwhile is kept and written after the rest.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held while a change enters the history and is recorded."""
        self.files: SessionFiles | None = None
        self._meanwhile: list[tuple[str, bytes | None]] | None = None

    def record(self, kind: str, line: bytes | None = None) -> None:
        """Write one line; where that fails, SessionError, and the next call retries."""
        with self.lock:
            if self._meanwhile is not None:
                self._meanwhile.append((kind, line))
            if self.files is not None:
                self.files.append(kind, line)

    def start(
        self,
        path: str | os.PathLike[str],
        head: dict[str, Any],
        ledger: Ledger,
        labels: Any,
    ) -> None:
        """Write the session into a new folder, history and all, and go on there.

        Raises
        ------
        SessionError
            If the folder holds a session already or cannot be written; the session
            stays where it was.
        """
        from napari_sam.session.files import SessionFiles

        files = SessionFiles(path, create=True)
        with self.lock:
            self._meanwhile = []
            lines = ledger.history.lines()
        try:
            files.write_head(head)
            for line in lines:
                files.append(json.loads(line)["kind"], line)
            files.write_labels(labels)
            with self.lock:
                for kind, later in self._meanwhile:
                    files.append(kind, later)
                self.close()
                self.files = files
        except BaseException:
            files.close()
            raise
        finally:
            self._meanwhile = None

    def close(self) -> None:
        """Finish writing and let go of the folder."""
        with self.lock:
            if self.files is not None:
                self.files.close()
                self.files = None


@contextmanager
def opened(
    path: str | os.PathLike[str], *, read_only: bool
) -> Iterator[tuple[dict[str, Any], SessionFiles | None]]:
    """Hold a saved session's folder while it is loaded; let go of it on any error."""
    from napari_sam.session.files import SessionFiles, read_head

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
    from napari_sam.session.files import read_labels

    return read_labels(path, read_only=read_only) or (None, 0)


def replay(
    path: str | os.PathLike[str],
    files: SessionFiles | None,
    ledger: Ledger,
    done: int,
) -> Iterator[tuple[LabelPatch, ...]]:
    """Bring back the ledger; yield the patches that come after the change `done`."""
    from napari_sam.session.files import read_history

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
    from napari_sam.volume.opening import open_volume

    source = head["volume"]["source"] if given is None else given
    if source is None:
        raise SessionError(
            "this session was made from an array in memory: pass it again as volume=..."
        )
    recipe = head["volume"].get("recipe") or {}
    if isinstance(source, (str, os.PathLike)):
        volume: Volume = open_volume(**{**recipe, "source": source})
    else:
        volume = open_volume(source)
    want, got = head["volume"]["identity"], volume.identity()
    if want["shape"] != json.loads(json.dumps(got["shape"])):
        raise SessionError(
            f"this session belongs to an image of shape {want['shape']}; got one of "
            f"{got['shape']}. Give the image it was made with, or another session"
        )
    return volume
