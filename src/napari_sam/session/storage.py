"""How a session goes to its folder and comes back."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from napari_sam.errors import SessionError
from napari_sam.session.entries import decode, encode
from napari_sam.session.files import (
    Log,
    SessionFiles,
    read_head,
    read_journal,
    read_labels,
    read_saved,
    resolved,
)

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.objects import Rule
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session.document import Document
    from napari_sam.volume.volume import Volume


def head_of(
    volume: Volume, model: PromptableModel, intensity: IntensityMapping, rule: Rule
) -> dict[str, Any]:
    """What ``session.json`` says: all that is needed to open and to replay."""
    return {
        "volume": {
            "source": _absolute(volume.source),
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


def _absolute(source: Any) -> Any:
    """Keep a file's place right after ``chdir``."""
    if isinstance(source, str) and "://" not in source and os.path.exists(source):
        return os.path.abspath(source)
    return source


class Storage:
    """The folder of a session, if it has one.

    Parameters
    ----------
    document : Document
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.files: SessionFiles | None = None
        self._saving = threading.Lock()

    def save(self, path: str | os.PathLike[str] | None, head: dict[str, Any]) -> None:
        """Write a checkpoint; with another path, all of it, and go on there.

        May run beside changes: what happens meanwhile is in the journal.

        Raises
        ------
        SessionError
            As `Session.save`; the session stays where it was.
        """
        with self._saving:
            files = self.files
            if path is not None and (files is None or resolved(path) != files.path):
                self._save_in(path, head)
            elif files is None:
                raise SessionError("this session has no folder yet: give save() a path")
            else:
                self._checkpoint(files, head)

    def note(self, head: dict[str, Any]) -> None:
        """Replace what ``session.json`` says of model, intensity and rule; soon."""
        if (files := self.files) is not None:
            self.document.journal.writer.put(lambda: files.write_head(head))

    def close(self) -> None:
        """Finish writing and let go of the folder.

        Raises
        ------
        SessionError
            If something could not be written; the folder is let go of all the same.
        """
        writer = self.document.journal.writer
        files, self.files = self.files, None
        try:
            if files is not None:
                writer.flush()
        finally:
            writer.stop()
            writer.logs.clear()
            if files is not None:
                files.log.pending.clear()
                files.close()

    def open(self, path: str | os.PathLike[str]) -> int:
        """Hold a saved session's folder and bring its labels; return their records."""
        self.files = files = SessionFiles(path, create=False)
        try:
            head = read_head(path)
            files.adopt(head)
            labels, records = read_labels(path, head, live=files.live())
        except BaseException:
            files.close()
            raise
        if labels is not None:
            self.document.labels = labels
        return records

    def look(self, path: str | os.PathLike[str]) -> int:
        """Bring a saved session's labels without holding its folder."""
        _, labels, records = read_saved(path)
        if labels is not None:
            self.document.labels = labels
        return records

    def replay(self, path: str | os.PathLike[str], records: int) -> None:
        """Make every saved step again; labels hold the first `records` already."""
        document, number, size = self.document, 0, 0
        for payload, end in read_journal(path):
            number, size = number + 1, end
            step, entry = decode(payload, document.now)
            document.replay(step, entry, pixels=number > records)
        if self.files is not None:
            log = self.files.log = Log(self.files.path / "journal.bin", size)
            log.records = number
            document.journal.writer.logs.append(log)

    def _checkpoint(self, files: SessionFiles, head: dict[str, Any]) -> None:
        journal = self.document.journal
        journal.writer.flush()
        counted: list[int] = []
        with journal.lock:
            wait = journal.writer.submit(lambda: counted.append(files.log.records))
        wait()
        generation = files.write_labels(self.document.labels, counted[0])
        self._commit(files, head, generation)

    def _commit(
        self, files: SessionFiles, head: dict[str, Any], generation: dict[str, Any]
    ) -> None:
        """Make a checkpoint count, once every step that it may show is on the disk."""
        journal = self.document.journal
        with journal.lock:  # a change under way is handed over before it is let go
            wait = journal.writer.submit(lambda: None)
        wait()
        journal.writer.flush()
        journal.writer.do(lambda: files.write_head(head, generation))
        files.clear_older()

    def _save_in(self, path: str | os.PathLike[str], head: dict[str, Any]) -> None:
        document, former = self.document, self.files
        writer, files = document.journal.writer, SessionFiles(path, create=True)

        def write() -> None:
            for step, entry in steps:
                if entry is not None:
                    entry.pack()
                files.log.pending.append(encode(step, entry))
                files.log.write()
            writer.logs.append(files.log)
            counted.append(files.log.records)

        counted: list[int] = []
        try:
            with document.journal.lock:
                steps = document.steps()
                wait = writer.submit(write)
            wait()
            generation = files.write_labels(document.labels, counted[0])
            self._commit(files, head, generation)
        except BaseException as error:
            try:
                writer.do(lambda: _drop(writer.logs, files.log))
            finally:
                files.log.pending.clear()
                files.close()
            if isinstance(error, OSError):
                raise SessionError(
                    f"the session cannot be saved in {files.path} ({error}): free some "
                    "space, or choose another folder"
                ) from error
            raise
        self.files = files
        if former is not None:
            writer.do(lambda: _drop(writer.logs, former.log))
            former.close()


def _drop(logs: list[Log], log: Log) -> None:
    if log in logs:
        logs.remove(log)


def saved_session(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Document]:
    """Read a saved session's head, labels and objects; changes nothing on the disk.

    Raises
    ------
    SessionError
        If it cannot be read.
    """
    from napari_sam.results.label_arrays import grown
    from napari_sam.session.document import Document

    def put(patch: Any) -> None:
        document.labels = grown(document.labels, int(patch.after.max(initial=0)))
        patch.write(document.labels)

    head = read_head(path)
    document = Document(None, put)
    storage = Storage(document)
    storage.replay(path, storage.look(path))
    return head, document


def open_saved_volume(
    head: dict[str, Any], given: Any = None
) -> tuple[Volume, list[str]]:
    """Open the image that a session was made on, or one given in its place.

    Returns
    -------
    volume : Volume
    differing : list of str
        What of an image that was given is not as it was; it is logged, too.

    Raises
    ------
    SessionError
        If the session names none, or the image is another one. One that was given is
        taken as long as its shape is the session's.
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
    if given is None and isinstance(recipe.get("source"), list):
        source = recipe["source"]  # some files of a folder, not all of it
    if isinstance(source, (str, os.PathLike, list)):
        volume: Volume = open_volume(**{**recipe, "source": source})
    else:
        volume = open_volume(source)
    want = head["volume"]["identity"]
    got = json.loads(json.dumps(volume.identity()))
    if want["shape"] != got["shape"]:
        raise SessionError(
            f"this session belongs to an image of shape {want['shape']}; got one of "
            f"{got['shape']}. Give the image it was made with, or another session"
        )
    differing = [
        f"{name} was {want[key]}, is {got[key]}" if key != "sample_sha256" else name
        for key, name in _FACTS.items()
        if want[key] != got[key]
    ]
    if differing and given is None:
        raise SessionError(
            f"{source!r} is not the image this session was made on "
            f"({', '.join(differing)}): give the right one as volume=..., or this one "
            "to go on with it anyway"
        )
    if differing:
        logger.warning(
            "the session goes on with another image than it was made on: %s",
            ", ".join(differing),
        )
    return volume, differing


_FACTS = {
    "axes": "axes", "dtype": "type of pixels", "channels": "channels",
    "sample_sha256": "its pixels have changed",
}  # fmt: skip
"""What an identity says beside the shape, for people."""
