"""Sessions on disk: every change is there soon, whole, and nobody else harms it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from napari_sam.core.intensity import IntensityMapping
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.engine import stores
from napari_sam.errors import SessionError, SessionLockedError
from napari_sam.session import Session
from napari_sam.session.files import SessionFiles, read_journal
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.volume.opening import open_volume

PHANTOM = phantom_image()
PLANE = Plane(())


@pytest.fixture
def session() -> Session:
    return Session(PHANTOM.image, ToyModel())


def load(path, **options):
    return Session.load(path, volume=PHANTOM.image, model=ToyModel(), **options)


def test_a_saved_session_continues_with_its_whole_history(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    for k in (1, 2, 3):
        session.segment(k, points=[PHANTOM.center(k)])
    session.undo()
    session.choose(1, 2)
    expected = session.labels.copy()
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    assert np.array_equal(again.labels, expected)
    assert set(again.objects) == {1, 2} and again.object(2, PLANE).chosen == 1
    assert [c.area for c in again.candidates(2)] == [
        c.area for c in session.candidates(2)
    ]
    for _ in range(3):
        assert again.undo()
    assert not again.labels.any()
    assert again.redo() and set(np.unique(again.labels)) == {0, 1}
    again.close()


def test_loading_gives_the_same_with_and_without_a_checkpoint(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])
    session.save()
    session.segment(2, points=[PHANTOM.center(2)])
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    again.close()
    assert np.array_equal(again.labels, session.labels)


def test_save_as_keeps_the_history(session, tmp_path):
    session.segment(1, points=[PHANTOM.center(1)])
    session.save(tmp_path / "b.nsam")
    session.segment(2, points=[PHANTOM.center(2)])
    session.close()
    again = Session.load(tmp_path / "b.nsam", volume=PHANTOM.image, model=ToyModel())
    assert np.array_equal(again.labels, session.labels)
    assert again.undo() and again.undo() and not again.labels.any()
    again.close()


def test_changes_made_while_another_thread_saves_are_kept(tmp_path, monkeypatch):
    session = Session(PHANTOM.image, ToyModel())
    session.segment(1, points=[PHANTOM.center(1)])
    real = SessionFiles.write_labels

    def slow(self: SessionFiles, labels: object, records: int) -> dict:
        session.segment(2, points=[PHANTOM.center(2)])
        written = real(self, labels, records)
        session.segment(3, points=[PHANTOM.center(3)])
        session.undo()
        session.segment(4, points=[PHANTOM.center(4)])
        return written

    monkeypatch.setattr(SessionFiles, "write_labels", slow)
    session.save(tmp_path / "a.nsam")
    monkeypatch.undo()
    session.segment(5, points=[PHANTOM.center(5)])
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    again.close()
    assert np.array_equal(again.labels, session.labels)
    assert set(again.objects) == {1, 2, 4, 5}
    for _ in range(4):
        assert again.undo()
    assert not again.undo() and not again.labels.any()


def test_a_torn_last_record_is_dropped_and_the_session_goes_on(tmp_path, caplog):
    path = tmp_path / "a.nsam"
    session = Session(PHANTOM.image, ToyModel(), path=path)
    session.segment(1, points=[PHANTOM.center(1)])
    expected = session.labels.copy()
    session.segment(2, points=[PHANTOM.center(2)])
    session.close()
    journal = path / "journal.bin"
    journal.write_bytes(journal.read_bytes()[:-40])
    again = Session.load(path, volume=PHANTOM.image, model=ToyModel())
    assert "torn" in caplog.text
    assert np.array_equal(again.labels, expected)
    again.segment(2, points=[PHANTOM.center(2)])
    again.close()
    last = Session.load(path, volume=PHANTOM.image, model=ToyModel())
    assert np.array_equal(last.labels, session.labels)
    last.close()


def test_a_second_opener_is_told_and_may_read(tmp_path):
    path = tmp_path / "a.nsam"
    session = Session(PHANTOM.image, ToyModel(), path=path)
    session.segment(1, points=[PHANTOM.center(1)])
    with pytest.raises(SessionLockedError, match="read_only"):
        Session.load(path, volume=PHANTOM.image, model=ToyModel())
    reader = Session.load(path, volume=PHANTOM.image, model=ToyModel(), read_only=True)
    assert np.array_equal(reader.labels, session.labels)
    session.close()


def test_loading_with_another_image_is_refused(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    session.close()
    with pytest.raises(SessionError, match="shape"):
        Session.load(
            tmp_path / "a.nsam", volume=np.zeros((9, 99), np.uint8), model=ToyModel()
        )


def _a_channel_of_many(folder):
    """A file of twelve channels, too many to open them all, and a session on one."""
    pixels = np.zeros((12, *PHANTOM.image.shape), np.uint8)
    pixels[7] = PHANTOM.image
    np.save(folder / "many.npy", pixels)
    volume = open_volume(folder / "many.npy", axes="cyx", channels=np.int64(7))
    session = Session(volume, ToyModel(), embeddings=False, path=folder / "a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])
    session.close()
    return session


def test_channels_and_axes_come_back_with_a_session(tmp_path):
    session = _a_channel_of_many(tmp_path)
    again = Session.load(tmp_path / "a.nsam", model=ToyModel(), embeddings=False)
    assert again.volume.channels == (7,)
    again.segment(2, points=[PHANTOM.center(2)])
    assert np.array_equal(again.labels == 2, PHANTOM.labels == 2)
    again.close()
    moved = (tmp_path / "many.npy").rename(tmp_path / "moved.npy")
    again = Session.load(tmp_path / "a.nsam", volume=moved, model=ToyModel())
    assert again.volume.channels == (7,)
    assert np.array_equal(again.labels == 1, session.labels == 1)
    again.close()


def test_a_full_disk_leaves_the_change_in_memory(tmp_path, monkeypatch):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    told: list[SessionError] = []
    session.write_failed.connect(told.append)
    session.flush()
    monkeypatch.setattr("napari_sam.session.files.os.write", full)
    session.segment(2, points=[PHANTOM.center(2)])
    with pytest.raises(SessionError, match="not saved"):
        session.flush()
    assert told and session.write_error is told[-1]
    monkeypatch.undo()
    assert (session.labels == 2).any()
    session.segment(3, points=[PHANTOM.center(3)])
    session.flush()
    assert session.write_error is None
    session.close()
    again = Session.load(tmp_path / "a.nsam", volume=PHANTOM.image, model=ToyModel())
    again.close()
    assert np.array_equal(again.labels, session.labels)
    assert set(again.objects) == {1, 2, 3}


def test_existing_folder_is_not_overwritten(session, tmp_path):
    session.save(tmp_path / "a.nsam")
    session.close()
    with pytest.raises(SessionError, match="already"):
        Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_sigkill_loses_no_accepted_mask(tmp_path):
    code = textwrap.dedent(
        """
        import sys
        from napari_sam.session import Session
        from napari_sam.testing import ToyModel, phantom_image
        phantom = phantom_image()
        session = Session(phantom.image, ToyModel(), path=sys.argv[1])
        for k in range(1, 7):
            session.segment(k, points=[phantom.center(k)])
            session.flush()
            print(k, flush=True)
        import time
        time.sleep(60)
        """
    )
    path = tmp_path / "a.nsam"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    accepted = 0
    while accepted < 4:
        accepted = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    again = Session.load(path, volume=PHANTOM.image, model=ToyModel())
    for k in range(1, accepted + 1):
        assert np.array_equal(again.labels == k, PHANTOM.labels == k)
    again.close()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("written", [False, True])
def test_sigkill_while_pixels_are_written_leaves_the_state_before(tmp_path, written):
    code = textwrap.dedent(
        """
        import os, signal, sys
        from napari_sam.results import label_arrays
        from napari_sam.session import Session
        from napari_sam.testing import ToyModel, phantom_image
        label_arrays.MEMORY_BYTES = 0  # labels on the disk, as of huge images
        phantom = phantom_image()
        session = Session(phantom.image, ToyModel(), path=sys.argv[1])
        session.segment(1, points=[phantom.center(1)])
        session.flush()
        write = session.writer
        def kill(patch):
            if sys.argv[2] == "True":
                write(patch)
            os.kill(os.getpid(), signal.SIGKILL)
        session.writer = kill
        session.segment(2, points=[phantom.center(2)])
        """
    )
    path = tmp_path / "a.nsam"
    subprocess.run([sys.executable, "-c", code, str(path), str(written)], check=False)
    again = Session.load(path, volume=PHANTOM.image, model=ToyModel())
    expected = np.where(PHANTOM.labels == 1, 1, 0)
    assert np.array_equal(np.asarray(again.labels), expected)
    assert again.undo() and not np.asarray(again.labels).any()
    again.close()


def test_history_reaches_the_disk_within_a_second(tmp_path, monkeypatch):
    synced: list[float] = []
    real = os.fsync
    monkeypatch.setattr(
        "napari_sam.session.files.os.fsync",
        lambda fd: (real(fd), synced.append(time.monotonic())),
    )
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    synced.clear()
    session.segment(1, points=[PHANTOM.center(1)])
    for _ in range(100):
        if synced:
            break
        time.sleep(0.05)
    assert synced
    assert Path(session.path, "journal.bin").stat().st_size > 0
    session.close()


def test_one_folder_has_one_name_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(PHANTOM.image, ToyModel(), path="a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])
    session.save(tmp_path / "a.nsam")
    session.save("./a.nsam/")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    session.segment(2, points=[PHANTOM.center(2)])
    session.save()
    session.close()
    assert not list(Path().iterdir())
    again = load(tmp_path / "a.nsam")
    again.close()
    assert np.array_equal(again.labels, session.labels)


def test_a_former_format_is_refused_in_one_sentence(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    session.close()
    head = tmp_path / "a.nsam" / "session.json"
    head.write_text(json.dumps(json.loads(head.read_text()) | {"format": 1}))
    before = sorted((tmp_path / "a.nsam").iterdir())
    with pytest.raises(SessionError, match="former format"):
        load(tmp_path / "a.nsam")
    assert sorted((tmp_path / "a.nsam").iterdir()) == before


def test_damage_before_the_end_is_told_and_nothing_is_cut(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    for k in (1, 2, 3):
        session.segment(k, points=[PHANTOM.center(k)])
    session.close()
    journal = tmp_path / "a.nsam" / "journal.bin"
    ends = [end for _, end in read_journal(tmp_path / "a.nsam")]
    data = bytearray(journal.read_bytes())
    data[ends[0] + 20] ^= 255
    journal.write_bytes(data)
    with pytest.raises(SessionError, match=f"record 2 .* byte {ends[0]}"):
        load(tmp_path / "a.nsam")
    assert journal.read_bytes() == data
    load_again = tmp_path / "a.nsam"
    os.truncate(journal, ends[0])
    again = load(load_again)
    again.close()
    assert set(again.objects) == {1}


def test_a_reader_leaves_the_record_alone_that_is_being_written(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    for k in (1, 2):
        session.segment(k, points=[PHANTOM.center(k)])
    session.flush()
    journal = tmp_path / "a.nsam" / "journal.bin"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-10])  # as it is in the middle of a write
    reader = load(tmp_path / "a.nsam", read_only=True)
    assert set(reader.objects) == {1}
    assert journal.read_bytes() == whole[:-10]
    session.close()


@pytest.mark.skipif(os.name == "nt", reason="another process holds the folder")
def test_readers_beside_a_writer_see_whole_states_and_harm_nothing(tmp_path):
    code = textwrap.dedent(
        """
        import sys, numpy as np
        from napari_sam.core.masks import LabelPatch
        from napari_sam.core.planes import Plane
        from napari_sam.session import Session
        from napari_sam.testing import ToyModel
        session = Session(np.zeros((96, 96), np.uint8), ToyModel(), path=sys.argv[1],
                          embeddings=False)
        print("ready", flush=True)
        for i in range(1, 121):
            before = session.labels.copy()
            session.labels[:] = after = np.full((96, 96), i, np.uint16)
            session.record_paint(LabelPatch(Plane(()), (0, 0, 96, 96), before, after))
            if i % 20 == 0:
                session.save()
        session.close()
        """
    )
    path = tmp_path / "a.nsam"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "ready\n"
    seen = []
    while writer.poll() is None:
        reader = Session.load(
            path, volume=np.zeros((96, 96), np.uint8), model=ToyModel(),
            embeddings=False, read_only=True,
        )  # fmt: skip
        (value,) = np.unique(reader.labels)
        seen.append(int(value))
    writer.stdout.close()
    assert writer.returncode == 0
    assert seen == sorted(seen) and len(seen) > 1
    assert len(list(read_journal(path))) == 120


def test_what_can_be_redone_survives_a_reload_and_a_move(tmp_path):
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    for k in (1, 2, 3):
        session.segment(k, points=[PHANTOM.center(k)])
    expected = session.labels.copy()
    session.undo(), session.undo()
    session.save(tmp_path / "b.nsam")
    session.close()
    for name in ("a.nsam", "b.nsam"):
        again = load(tmp_path / name)
        assert np.array_equal(np.unique(again.labels), [0, 1])
        assert again.redo() and again.redo() and not again.redo()
        assert np.array_equal(again.labels, expected)
        again.close()


@pytest.fixture
def on_file(tmp_path):
    """A session of an image file, closed."""
    path = tmp_path / "image.npy"
    np.save(path, PHANTOM.image)
    session = Session(path, ToyModel(), embeddings=False, path=tmp_path / "a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])
    session.close()
    return path


def test_a_session_does_not_open_on_another_image_of_the_same_size(
    tmp_path, on_file, caplog
):
    changed = PHANTOM.image.copy()
    changed[-1, -1] += 1
    np.save(on_file, changed)
    with pytest.raises(SessionError, match=r"pixels have changed.*volume=.*anyway"):
        Session.load(tmp_path / "a.nsam", model=ToyModel())
    np.save(on_file, PHANTOM.image.astype(np.float32))
    with pytest.raises(SessionError, match="type of pixels was uint8, is float32"):
        Session.load(tmp_path / "a.nsam", model=ToyModel())
    again = Session.load(tmp_path / "a.nsam", volume=on_file, model=ToyModel())
    assert list(again.objects) == [1]
    again.close()
    assert "goes on with another image" in caplog.text


def test_a_session_opens_on_its_image_that_was_moved(tmp_path, on_file, caplog):
    moved = on_file.rename(tmp_path / "renamed.npy")
    again = Session.load(tmp_path / "a.nsam", volume=moved, model=ToyModel())
    assert list(again.objects) == [1]
    again.close()
    assert "another image" not in caplog.text


def test_no_store_is_opened_by_the_thread_that_owns_a_session(monkeypatch, tmp_path):
    opened = []
    real = stores.open_store

    def spy(*args, **options):
        opened.append(threading.current_thread())
        return real(*args, **options)

    monkeypatch.setattr(stores, "open_store", spy)
    path = tmp_path / "emb"
    session = Session(PHANTOM.image, ToyModel(), embeddings=path)
    window = IntensityMapping.grey(0, 99)
    for _ in range(2):
        request = session.set_prompts(
            1, Plane(()), Prompts.of(points=[PHANTOM.center(1)])
        )
        with ThreadPoolExecutor(1) as worker:
            found = worker.submit(session.run, request).result()
        session.accept(found)
        session.use(intensity=window)
        assert session.accept(found) is None
    assert len(opened) == 2 and threading.main_thread() not in opened
    assert len(EmbeddingStore.list(path)) == 2
