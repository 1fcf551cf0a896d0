"""A kill at any step of writing leaves the state before or the one after."""

from __future__ import annotations

import gc
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.proposals import Proposal
from napari_sam.results import label_arrays
from napari_sam.session import Session
from napari_sam.session.files import SessionFiles
from napari_sam.session.search import Found
from napari_sam.testing import ToyModel

PLANE = Plane(())
IMAGE = np.full((64, 64), 20, np.uint8)
IMAGE[4:60, 4:60] = 200
STEPS = (
    "write", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "link",
    "ftruncate",
)  # fmt: skip


class Killed(BaseException):
    """The process is gone: nothing that comes after this happens."""


class Kill:
    """Lets so many steps on the file system happen, and none after."""

    def __init__(self, after: int, *, torn: bool) -> None:
        self.left, self.torn, self.dead = after, torn, False
        self._lock = threading.Lock()

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts, and in the end does nothing more."""

        def step(*args: Any, **options: Any) -> Any:
            with self._lock:
                if self.left <= 0 or self.dead:
                    if not self.dead and self.torn and name == "write":
                        data = bytes(args[1])
                        real(args[0], data[: len(data) // 2])
                    self.dead = True
                    raise Killed
                self.left -= 1
            return real(*args, **options)

        return step


@contextmanager
def killing(after: int, *, torn: bool = False) -> Iterator[Kill]:
    """Kill this process, as far as its files are concerned, after so many steps."""
    kill = Kill(after, torn=torn)
    hook, threading.excepthook = threading.excepthook, lambda _: None
    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, kill.around(name, getattr(os, name)))
        real = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if kill.dead and set(mode) & set("wax+"):
                raise Killed
            return real(file, mode, *args, **options)

        patch.setattr(io, "open", opened)
        try:
            yield kill
        finally:
            threading.excepthook = hook


def dies(act: Callable[[], object], after: int, *, torn: bool) -> bool:
    """Do something, killed after so many steps; whether the kill came in time."""
    with killing(after, torn=torn) as kill, suppress(Killed, Exception):
        act()
    return kill.dead


def let_go() -> None:
    """Free what the system frees when a process is gone: its locks."""
    for held in gc.get_objects():
        if type(held) is SessionFiles and hasattr(held, "_lock"):
            held._lock.release(force=True)


def made(path: Path) -> Session:
    session = Session(IMAGE, ToyModel(64), embeddings=False, path=path)
    session.segment(1, points=[(30, 30)])
    session.proposals.add(Found(1, 1, (proposed(0), proposed(32))))
    session.flush()
    return session


def proposed(x: int) -> Proposal:
    return Proposal(PLANE, (0, x, 4, x + 4), np.eye(4, dtype=bool), 0.9, 0.9)


def seen(path: Path) -> tuple[object, ...]:
    """What somebody finds who opens a session: pixels, objects, history, proposals."""
    session = Session.load(path, volume=IMAGE, model=ToyModel(64), embeddings=False)
    try:
        labels = np.asarray(session.labels, np.uint32).tobytes()
        found = (
            labels,
            sorted(session.objects),
            session.can_undo,
            session.can_redo,
            [p.number for p in session.proposals.pending],
            [p.number for p in session.proposals.rejected],
        )
        while session.undo():
            pass
        assert not np.asarray(session.labels).any()
        while session.redo():
            pass
        return found
    finally:
        session.close()


def save(session: Session) -> None:
    session.save()


def undo(session: Session) -> None:
    session.undo()
    session.flush()


def segment_and_save(session: Session) -> None:
    session.segment(2, box=(10, 10, 30, 30))
    session.save()


def sharpen(session: Session) -> None:
    """Accept an answer and a sharper one in its place."""
    request = session.set_prompts(2, PLANE, Prompts.of(box=(5, 5, 40, 40)))
    session.rule = "overwrite"
    first = session.run(request)
    session.accept(first)
    session.flush()
    session.accept(first)
    session.flush()


def change_class(session: Session) -> None:
    session.objects[1].class_name = "nucleus"
    session.flush()


def find_more(session: Session) -> None:
    session.proposals.add(Found(1, 1, (proposed(40), proposed(44))))
    session.flush()


def accept_proposals(session: Session) -> None:
    assert session.proposals.accept() == 2
    session.flush()


def reject_a_proposal(session: Session) -> None:
    session.proposals.reject(session.proposals.pending[:1])
    session.flush()


ACTS = [
    save, undo, segment_and_save, sharpen, change_class,
    find_more, accept_proposals, reject_a_proposal,
]  # fmt: skip


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("act", ACTS, ids=lambda a: a.__name__)
def test_a_kill_at_any_step_leaves_a_whole_state(act, on_disk, tmp_path, monkeypatch):
    if on_disk:
        monkeypatch.setattr(label_arrays, "MEMORY_BYTES", 0)
    session = made(tmp_path / "whole.nsam")
    session.close()
    allowed = [seen(tmp_path / "whole.nsam")]
    session = made(tmp_path / "after.nsam")
    act(session)
    session.close()
    if act is sharpen:
        session = made(tmp_path / "between.nsam")
        session.rule = "overwrite"
        session.segment(2, box=(5, 5, 40, 40))
        session.close()
        allowed.append(seen(tmp_path / "between.nsam"))
    if act is segment_and_save:
        session = made(tmp_path / "between.nsam")
        session.segment(2, box=(10, 10, 30, 30))
        session.close()
        allowed.append(seen(tmp_path / "between.nsam"))
    allowed.append(seen(tmp_path / "after.nsam"))
    for after in range(200):
        path = tmp_path / f"{after}.nsam"
        session = made(path)
        died = dies(lambda s=session: act(s), after, torn=after % 2 == 0)
        let_go()
        found = seen(path)
        assert found in allowed, f"killed after {after} steps"
        if not died:
            break
    else:
        pytest.fail("it never came to its end")
    assert after > 0 and found == allowed[-1]


def test_a_kill_while_a_session_is_saved_elsewhere_harms_neither(tmp_path):
    session = made(tmp_path / "first.nsam")
    session.close()
    expected = seen(tmp_path / "first.nsam")
    for after in range(200):
        one, other = tmp_path / f"{after}.nsam", tmp_path / f"{after} copy.nsam"
        session = made(one)
        died = dies(lambda s=session, p=other: s.save(p), after, torn=False)
        let_go()
        assert seen(one) == expected
        if (other / "session.json").exists():
            assert seen(other) == expected
        else:
            assert died
            again = made(other)  # the name is as free as it was
            again.close()
        if not died:
            break


@pytest.mark.parametrize("name", ["a.json", "a.png"])
def test_a_kill_while_exporting_leaves_the_former_file(name, tmp_path):
    session = Session(IMAGE, ToyModel(64), embeddings=False)
    session.segment(1, points=[(30, 30)])
    session.export(tmp_path / name)
    former = (tmp_path / name).read_bytes()
    session.segment(2, box=(10, 10, 30, 30))
    session.delete_object(1)
    session.export(tmp_path / f"new-{name}")
    new = (tmp_path / f"new-{name}").read_bytes()
    for after in range(50):
        died = dies(lambda: session.export(tmp_path / name), after, torn=True)
        found = (tmp_path / name).read_bytes()
        assert found in (former, new) or (not died and len(found) == len(new))
        if not died:
            break
