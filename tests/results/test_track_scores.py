"""Scores of tracks: worked by hand, and equal to another program's on damaged ones."""

import numpy as np
import pytest
from time_lapses import dividing, drifting

from napari_sam.core.objects import ObjectRecord
from napari_sam.errors import VolumeError
from napari_sam.results.registry import write
from napari_sam.results.results import Results
from napari_sam.results.track_scores import track_scores
from napari_sam.session import Session
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume


def results(labels, parents=()):
    volume = open_volume(np.zeros(labels.shape, np.uint8), axes="tyx")
    objects = {i: ObjectRecord(i, parent=p) for i, p in dict(parents).items()}
    return Results(labels.astype(np.uint16), volume, objects)


def row(*frames):
    """Frames of one line, in which each object has two pixels."""
    return np.repeat(np.array(frames)[:, None, :], 2, axis=2).astype(np.uint16)


TRUE = results(row([1, 0, 9], [1, 0, 9], [2, 3, 9]), {2: 1, 3: 1})
"""Seven nodes; edges 1-1, 1-2 and 1-3 (parent), 9-9, 9-9."""


def test_the_truth_is_perfect():
    s = track_scores(TRUE, TRUE)
    assert (s.tra, s.det, s.seg, s.edge_f1) == (1, 1, 1, 1)
    assert (s.divisions, s.divisions_found, s.divisions_reported) == (1, 1, 1)


def test_corrections_are_counted_as_by_hand():
    # The division is missed, one daughter being the mother still, and 9 is lost in the
    # last frame, where something else is.
    found = results(row([1, 0, 9], [1, 0, 9], [1, 3, 0]))
    s = track_scores(found, TRUE)
    assert (s.splits, s.missed, s.extra) == (0, 1, 0)
    # Added: 1-3, and 9-9 with the lost one; 1-2 is a link of the wrong kind.
    assert (s.links_removed, s.links_added, s.links_changed) == (0, 2, 1)
    assert s.det == pytest.approx(1 - 10 / 70)
    assert s.tra == pytest.approx(1 - (10 + 2 * 1.5 + 1) / (70 + 5 * 1.5))
    assert s.seg == pytest.approx(6 / 7)
    assert (s.edge_precision, s.edge_recall) == (1, pytest.approx(3 / 5))
    assert (s.divisions_found, s.divisions_reported) == (0, 0)


def test_objects_in_one_and_links_too_many_are_counted():
    found = results(row([1, 0, 9], [1, 0, 9], [5, 5, 9]), {5: 1})
    s = track_scores(found, TRUE)
    assert (s.splits, s.missed, s.extra) == (1, 0, 0)
    wrong = results(row([1, 0, 9], [9, 0, 1], [2, 3, 1]), {2: 9, 3: 9})
    s = track_scores(wrong, TRUE)
    assert (s.links_removed, s.links_added) == (2, 2)
    assert s.divisions_found == 1


def test_a_division_a_frame_late_is_found_and_two_late_is_not():
    lapse = dividing()
    true = results(lapse.labels(), {2: 1, 3: 1})
    for late, found in ((1, 1), (2, 0)):
        labels = lapse.labels()
        labels[3 : 3 + late][labels[3 : 3 + late] == 2] = 1
        labels[3 : 3 + late][labels[3 : 3 + late] == 3] = 0
        s = track_scores(results(labels, {2: 1, 3: 1}), true)
        assert (s.divisions_found, s.divisions_reported) == (found, 1)


def damaged(labels, parents, seed):
    """Cut, swap, erase, shift and join at random."""
    rng = np.random.default_rng(seed)
    out, parents = labels.copy(), dict(parents)
    for _ in range(5):
        t = int(rng.integers(1, len(out)))
        ids = np.unique(out[t])[1:]
        if len(ids) < 2:
            continue
        a, b = rng.choice(ids, 2, replace=False)
        kind = rng.integers(5)
        if kind == 0:
            new = out.max() + 1
            out[t:][out[t:] == a] = new
        elif kind == 1:
            here = out[t:].copy()
            out[t:][here == a], out[t:][here == b] = b, a
        elif kind == 2:
            out[t][out[t] == a] = 0
        elif kind == 3:
            out[t] = np.roll(out[t], int(rng.integers(-4, 5)), axis=1)
        else:
            out[t][out[t] == a] = b
    there = set(np.unique(out).tolist())
    return out, {i: p for i, p in parents.items() if {i, p} <= there}


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_those_of_py_ctcmetrics(seed, tmp_path):
    metrics = pytest.importorskip("ctc_metrics")
    lapse, parents = (dividing(), {2: 1, 3: 1}) if seed % 2 else (drifting(), {})
    true = results(lapse.labels(), parents)
    found = results(*damaged(lapse.labels(), parents, seed))
    (tmp_path / "GT").mkdir()
    write(tmp_path / "GT" / "TRA", true, "ctc", truth=True)
    write(tmp_path / "GT" / "SEG", true, "ctc", truth=True)
    for path in (tmp_path / "GT" / "SEG").glob("man_track*.tif"):
        path.rename(path.with_name(path.name.replace("man_track", "man_seg")))
    write(tmp_path / "RES", found, "ctc")
    theirs = metrics.evaluate_sequence(
        str(tmp_path / "RES"), str(tmp_path / "GT"), ["Valid", "TRA", "DET", "SEG"],
        threads=1,
    )  # fmt: skip
    ours = track_scores(found, true)
    assert theirs["Valid"] == 1
    counts = ("splits", "missed", "extra", "links_removed", "links_added",
              "links_changed")  # fmt: skip
    names = ("NS", "FN", "FP", "ED", "EA", "EC")
    assert {n: getattr(ours, c) for n, c in zip(names, counts, strict=True)} == {
        n: theirs[f"AOGM_{n}"] for n in names
    }
    for name in ("TRA", "DET", "SEG"):
        assert getattr(ours, name.lower()) == pytest.approx(theirs[name], abs=1e-9)


def test_a_session_scores_itself_by_a_file(tmp_path):
    write(tmp_path / "true.ctc", TRUE, truth=True)
    session = Session(
        np.zeros(TRUE.labels.shape, np.uint8), ToyModel(64), embeddings=False,
        labels=np.asarray(TRUE.labels),
    )  # fmt: skip
    assert session.tracks.score(tmp_path / "true.ctc").links_added == 2
    session.tracks.divide((1, 1), [(2, 2), (2, 3)])
    assert session.tracks.score(tmp_path / "true.ctc").tra == 1
    with pytest.raises(VolumeError, match="cannot be compared"):
        session.tracks.score(results(np.ones((2, 2, 2))))
    with pytest.raises(VolumeError, match="no object in the truth"):
        session.tracks.score(results(np.zeros(TRUE.labels.shape)))
