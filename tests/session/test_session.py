"""Session: prompts to labels, with undo that is exact, and files that survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam.core.masks import LabelPatch, mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError, SessionError, SessionLockedError
from napari_sam.session import Session
from napari_sam.session.files import SessionFiles
from napari_sam.testing import ToyModel, phantom_image, phantom_volume
from napari_sam.volume.opening import open_volume

PHANTOM = phantom_image()
PLANE = Plane(())


@pytest.fixture
def session() -> Session:
    return Session(PHANTOM.image, ToyModel())


def test_one_point_labels_the_object_under_it(session):
    candidates = session.segment(3, points=[PHANTOM.center(3)])
    assert len(candidates) == 3
    assert np.array_equal(session.labels == 3, PHANTOM.labels == 3)


def test_labels_are_small_unsigned_integers_of_the_volumes_shape(session):
    assert session.labels.shape == PHANTOM.image.shape
    assert session.labels.dtype == np.uint16


def test_undo_and_redo_walk_through_every_state(session):
    seen = [session.labels.copy()]
    for k in (1, 2, 3):
        session.segment(k, points=[PHANTOM.center(k)])
        seen.append(session.labels.copy())
    for expected in seen[-2::-1]:
        assert session.undo()
        assert np.array_equal(session.labels, expected)
    assert not session.undo()
    assert session.objects == {}
    for expected in seen[1:]:
        assert session.redo()
        assert np.array_equal(session.labels, expected)
    assert not session.redo()


def test_undo_brings_back_an_older_object_underneath(session):
    session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.rule = "overwrite"
    y, x = PHANTOM.center(1)
    session.segment(2, points=[(y, x)])
    assert not (session.labels == 1).any()
    session.undo()
    assert np.array_equal(session.labels, first)


def test_refining_a_mask_uncovers_what_it_had_overwritten(session):
    session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.rule = "overwrite"
    session.segment(2, points=[PHANTOM.center(1)])
    session.segment(2, points=[PHANTOM.center(4)])
    assert np.array_equal(session.labels == 1, first == 1)
    assert np.array_equal(session.labels == 2, PHANTOM.labels == 4)


def test_keep_protects_other_objects(session):
    session.segment(1, points=[PHANTOM.center(1)])
    session.segment(2, points=[PHANTOM.center(1)])
    assert not (session.labels == 2).any()


def test_a_negative_point_refines_its_own_object_only(session):
    session.segment(1, points=[PHANTOM.center(1)])
    other = session.segment(2, points=[PHANTOM.center(2)])[0].area
    y, x = PHANTOM.center(1)
    session.segment(1, points=[(y, x), (y + 12, x)], point_labels=[1, 0])
    one = np.count_nonzero(session.labels == 1)
    assert 0 < one < np.count_nonzero(PHANTOM.labels == 1)
    assert np.count_nonzero(session.labels == 2) == other


def test_clicks_one_by_one_and_all_at_once_give_the_same_mask():
    y, x = PHANTOM.center(1)
    clicks, signs = [(y, x), (y + 12, x), (y - 9, x + 2)], [1, 0, 1]
    slow, fast = (Session(PHANTOM.image, ToyModel()) for _ in range(2))
    for n in (1, 2, 3):
        slow.segment(1, points=clicks[:n], point_labels=signs[:n])
    fast.segment(1, points=clicks, point_labels=signs)
    assert np.array_equal(slow.labels, fast.labels)


def test_painting_by_hand_survives_refinement_and_enters_the_history(session):
    session.segment(1, points=[PHANTOM.center(1)])
    before = session.labels[:4, :4].copy()
    session.labels[:4, :4] = 1
    session.record_paint(LabelPatch(PLANE, (0, 0, 4, 4), before, before * 0 + 1), 1)
    session.segment(1, points=[PHANTOM.center(2)])
    assert (session.labels[:4, :4] == 1).all()
    session.undo()
    session.undo()
    assert not session.labels[:4, :4].any()


def test_choose_applies_another_candidate_and_can_be_undone(session):
    candidates = session.segment(1, points=[PHANTOM.center(1)])
    first = session.labels.copy()
    session.choose(2)
    assert np.array_equal(session.labels > 0, candidates[2].full(first.shape))
    assert session.object(1, PLANE).chosen == 2
    session.undo()
    assert np.array_equal(session.labels, first)
    with pytest.raises(PromptError, match="3 candidate"):
        session.choose(3)


def test_delete_object_removes_it_everywhere_and_undo_brings_it_back():
    phantom = phantom_volume()
    session = Session(phantom.image, ToyModel())
    z, y, x = phantom.center(1)
    session.segment(1, z, points=[(y, x)])
    session.segment(1, y, points=[(z, x)], axis=1)
    before = session.labels.copy()
    session.delete_object(1)
    assert not session.labels.any() and session.objects == {}
    session.undo()
    assert np.array_equal(session.labels, before)
    assert len(session.objects[1]) == 2


def test_a_late_answer_is_dropped(session):
    first = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    late = session.run(first)
    second = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(2)]))
    assert session.accept(late) is None
    assert session.accept(session.run(second)) is not None
    assert np.array_equal(session.labels == 1, PHANTOM.labels == 2)


def test_undo_makes_pending_answers_stale(session):
    session.segment(1, points=[PHANTOM.center(1)])
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(2)]))
    session.undo()
    assert session.accept(session.run(request)) is None


def test_a_sharper_answer_takes_the_coarse_ones_place():
    y, x = np.ogrid[:600, :500]
    truth = (y - 300) ** 2 + (x - 260) ** 2 <= 190**2
    image = np.where(truth, 200, 40).astype(np.uint8)
    session = Session(image, ToyModel(input_side=128))
    request = session.set_prompts(1, PLANE, Prompts.of(points=[(300, 260)]))
    seen = []
    for result in session.iter_run(request):
        session.accept(result)
        seen.append(mask_iou(session.labels == 1, truth))
    assert len(seen) > 1 and seen[-1] > 0.999 > seen[0]
    assert session.undo() and not session.labels.any() and not session.can_undo
    again = Session(image, ToyModel(input_side=128))
    again.segment(1, points=[(300, 260)])
    assert mask_iou(again.labels == 1, truth) == seen[-1]


@pytest.mark.parametrize("reload", [False, True], ids=["at-once", "after-a-reload"])
def test_another_candidate_is_sharpened_too_and_is_one_undo_step(reload, tmp_path):
    y, x = np.ogrid[:600, :500]
    halo, core = ((y - 300) ** 2 + (x - 260) ** 2 <= r**2 for r in (190, 8))
    image = np.where(halo, 178, 40).astype(np.uint8)
    image[core] = 200  # found first, at its finest level
    session = Session(image, ToyModel(input_side=128))
    session.segment(1, points=[(300, 260)])
    first = session.labels.copy()
    if reload:
        session.save(tmp_path / "a.nsam")
        session.close()
        session = Session.load(
            tmp_path / "a.nsam", volume=image, model=ToyModel(input_side=128)
        )
    seen = []
    for result in session.iter_run(session.set_choice(2)):
        session.accept(result)
        seen.append(mask_iou(session.labels == 1, halo))
    assert len(seen) > 1 and seen[-1] > 0.999 > seen[0]
    assert session.object(1, PLANE).chosen == 2
    assert session.undo()
    np.testing.assert_array_equal(session.labels, first)
    session.choose(2)
    assert mask_iou(session.labels == 1, halo) == seen[-1]


def test_a_choice_gives_way_to_a_newer_click(session):
    session.segment(1, points=[PHANTOM.center(1)])
    choice = session.set_choice(2)
    session.segment(1, points=[PHANTOM.center(1), PHANTOM.center(2)])
    labels = session.labels.copy()
    assert session.accept(session.run(choice)) is None
    np.testing.assert_array_equal(session.labels, labels)


def test_run_changes_nothing(session):
    request = session.set_prompts(1, PLANE, Prompts.of(points=[PHANTOM.center(1)]))
    session.run(request)
    assert not session.labels.any()
    assert session.objects == {} and not session.can_undo


def test_two_sessions_do_not_meet():
    one, two = (Session(PHANTOM.image, ToyModel()) for _ in range(2))
    one.segment(1, points=[PHANTOM.center(1)])
    assert not two.labels.any() and not two.can_undo


def test_new_object_is_free_also_beside_given_labels():
    labels = np.zeros(PHANTOM.image.shape, np.uint16)
    labels[:3, :3] = 7
    session = Session(PHANTOM.image, ToyModel(), labels=labels)
    assert session.new_object() == 8
    session.segment(8, points=[PHANTOM.center(1)])
    assert (labels[:3, :3] == 7).all() and session.new_object() == 9


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        pytest.param({}, "no prompt", id="nothing"),
        pytest.param(
            {"points": [(5, 5)], "point_labels": [0]}, "negative", id="negative-only"
        ),
        pytest.param({"points": [(500, 5)]}, "outside", id="outside"),
        pytest.param({"points": [(np.nan, 5)]}, "finite", id="nan"),
        pytest.param({"box": (9, 9, 9, 20)}, "empty", id="empty-box"),
        pytest.param({"box": (900, 900, 950, 950)}, "outside", id="far-box"),
        pytest.param({"points": [(5, 5)], "point_labels": []}, "label", id="labels"),
    ],
)
def test_bad_prompts_say_why_and_lose_nothing(session, prompts, message):
    session.segment(1, points=[PHANTOM.center(1)])
    before, state = session.labels.copy(), session.object(1, PLANE)
    with pytest.raises(PromptError, match=message):
        session.segment(1, **prompts)
    assert np.array_equal(session.labels, before)
    assert session.object(1, PLANE) is state


def test_object_id_must_be_a_label_value(session):
    for wrong in (0, -1, 2**32):
        with pytest.raises(PromptError, match="1 to 4294967295"):
            session.segment(wrong, points=[(5, 5)])


def test_object_id_must_fit_labels_that_cannot_grow(tmp_path):
    labels = zarr.create_array(
        tmp_path / "l.zarr", shape=PHANTOM.image.shape, dtype="uint8", fill_value=0
    )
    session = Session(PHANTOM.image, ToyModel(), labels=labels)
    with pytest.raises(PromptError, match="1 to 255"):
        session.segment(256, points=[(5, 5)])


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

    def slow(self: SessionFiles, labels: object) -> None:
        session.segment(2, points=[PHANTOM.center(2)])
        real(self, labels)
        session.segment(3, points=[PHANTOM.center(3)])
        session.undo()
        session.segment(4, points=[PHANTOM.center(4)])

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


def test_a_torn_last_line_is_dropped_and_the_session_goes_on(tmp_path, caplog):
    path = tmp_path / "a.nsam"
    session = Session(PHANTOM.image, ToyModel(), path=path)
    session.segment(1, points=[PHANTOM.center(1)])
    expected = session.labels.copy()
    session.segment(2, points=[PHANTOM.center(2)])
    session.close()
    history = path / "history.jsonl"
    history.write_bytes(history.read_bytes()[:-40])
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

    monkeypatch.setattr("napari_sam.session.files.os.write", full)
    with pytest.raises(SessionError, match="not saved"):
        session.segment(2, points=[PHANTOM.center(2)])
    monkeypatch.undo()
    assert (session.labels == 2).any()
    session.segment(3, points=[PHANTOM.center(3)])
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
def test_sigkill_while_pixels_are_written_leaves_an_undo_step(tmp_path, written):
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
    for k in (1, 2):
        assert np.array_equal(np.asarray(again.labels) == k, PHANTOM.labels == k)
    assert again.undo()
    assert np.array_equal(np.unique(np.asarray(again.labels)), [0, 1])
    again.close()


def test_history_reaches_the_disk_within_a_second(tmp_path, monkeypatch):
    synced: list[float] = []
    real = os.fsync
    monkeypatch.setattr(
        "napari_sam.session.files.os.fsync",
        lambda fd: (real(fd), synced.append(time.monotonic())),
    )
    session = Session(PHANTOM.image, ToyModel(), path=tmp_path / "a.nsam")
    session.segment(1, points=[PHANTOM.center(1)])
    for _ in range(100):
        if synced:
            break
        time.sleep(0.05)
    assert synced
    assert Path(session.path, "history.jsonl").stat().st_size > 0
    session.close()
