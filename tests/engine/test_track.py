"""Objects linked through time: motion, gaps, divisions, merges, and a person's word."""

import numpy as np
import pytest
from time_lapses import Lapse, dividing, drifting, found_edges, merging

from napari_sam.core.tracks import Node, Tracks
from napari_sam.engine.motion import Frame
from napari_sam.engine.track import Fixed, TrackOptions, assign, track
from napari_sam.errors import Cancelled

pytest.importorskip("laptrack")


def linked(labels, fixed=None, **options):
    frames = (Frame.of(f, t) for t, f in enumerate(labels))
    *_, found = track(frames, TrackOptions(**options), fixed=fixed)
    assert isinstance(found, Tracks)
    return found


@pytest.mark.parametrize(
    ("lapse", "options"),
    [
        pytest.param(drifting(), {}, id="small steps"),
        pytest.param(drifting(step=(0, 9)), {}, id="steps of nearly a diameter"),
        pytest.param(drifting(skip={(2, 3)}), {}, id="a gap"),
        pytest.param(drifting(skip={(2, 3), (2, 2)}), {}, id="a longer gap"),
        pytest.param(dividing(), {}, id="a division"),
        pytest.param(merging(), {"merges": True}, id="a merge"),
    ],
)
def test_made_sequences_are_linked_as_they_were_made(lapse, options):
    labels = lapse.labels(seed=1)
    assert found_edges(labels, linked(labels, **options)) == lapse.edges()


def test_a_stage_that_jumps_takes_all_objects_along():
    rng = np.random.default_rng(3)
    places = [(12, 12), (14, 40), (40, 20), (45, 52), (28, 30), (20, 66)]
    jumps = [(0, 0), (0, 0), (9, 15), (9, 15), (2, 15)]
    lapse = Lapse({
        i + 1: {
            t: (y + dy + int(rng.integers(-1, 2)), x + dx + int(rng.integers(-1, 2)), 4)
            for t, (dy, dx) in enumerate(jumps)
        }
        for i, (y, x) in enumerate(places)
    })  # fmt: skip
    labels = lapse.labels(seed=2)
    assert found_edges(labels, linked(labels)) == lapse.edges()


def test_objects_of_volumes_are_linked_in_units_of_the_spacing():
    labels = np.zeros((3, 4, 40, 40), np.uint8)
    for t in range(3):
        labels[t, 1:3, 5 + 4 * t : 13 + 4 * t, 5:13] = 1 + t
        labels[t, 1:3, 5 + 4 * t : 13 + 4 * t, 25:33] = 9 - t
    frames = (Frame.of(f, t, (5.0, 0.5, 0.5)) for t, f in enumerate(labels))
    *_, found = track(frames)
    assert set(found.edges) == {
        (Node(t, first + t * by), Node(t + 1, first + (t + 1) * by))
        for t in range(2)
        for first, by in ((1, 1), (9, -1))
    }


def test_what_may_not_happen_does_not():
    labels = dividing().labels(seed=1)
    assert not linked(labels, divisions=False).divisions
    gap = drifting(skip={(2, 3)}).labels(seed=1)
    assert not linked(gap, max_gap=0).gaps
    assert not linked(merging().labels(seed=1)).merges


def test_a_persons_word_is_kept():
    lapse = drifting(n=2, step=(0, 3))
    labels = lapse.labels()
    wrong = Node(2, 1), Node(3, 2)
    found = linked(labels, Fixed(validated=[wrong]))
    assert wrong in found.edges
    assert (Node(2, 1), Node(3, 1)) not in found.edges
    cut = Node(2, 1), Node(3, 1)
    assert cut not in linked(labels, Fixed(refused=[cut])).edges
    alone = linked(drifting(n=1).labels(), Fixed(refused=[cut]), max_gap=3)
    assert cut not in alone.edges


def test_a_validated_division_is_kept_where_none_would_be_found():
    labels = dividing().labels()
    edges = [(Node(2, 1), Node(3, 2)), (Node(2, 1), Node(3, 3))]
    found = linked(labels, Fixed(validated=edges), divisions=False)
    assert found.divisions == {Node(2, 1): (Node(3, 2), Node(3, 3))}


def test_what_goes_on_as_a_person_said_does_not_divide():
    labels = dividing().labels()
    said = Node(2, 1), Node(3, 2)
    found = linked(labels, Fixed(validated=[said]))
    assert said in found.edges and not found.divisions


def test_frames_without_objects_and_unlike_looks():
    labels = drifting(step=(0, 1)).labels()
    labels[2:4] = 0
    found = linked(labels, max_gap=5)
    assert len(found.gaps) == 4
    assert not linked(np.zeros((3, 8, 8), np.uint8)).nodes

    two = np.zeros((2, 40, 40), np.uint8)
    two[0, 5:15, 5:15] = two[1, 5:15, 11:21] = 1
    two[0, 5:15, 17:27] = two[1, 5:15, 23:33] = 2
    red, blue = np.eye(2)
    frames = [Frame.of(two[0], 0, looks=np.stack([red, blue])),
              Frame.of(two[1], 1, looks=np.stack([blue, red]))]  # fmt: skip
    *_, found = track(frames, TrackOptions(look=0.9))
    assert set(found.edges) == {(Node(0, 1), Node(1, 2)), (Node(0, 2), Node(1, 1))}


def test_it_stops_when_asked():
    frames = (Frame.of(f, t) for t, f in enumerate(drifting().labels()))
    with pytest.raises(Cancelled):
        list(track(frames, cancel=lambda: True))


def test_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs = rng.uniform(0, 1, (4, 5))
        rows, cols = np.nonzero(costs < 0.7)
        found = assign(rows, cols, costs[rows, cols], (4, 5), 0.6)
        got = costs[rows[found], cols[found]].sum() + 0.6 * (4 - len(found))
        assert got == pytest.approx(_best(costs, 0.7, 0.6), abs=1e-4)


def _best(costs, most, alone, row=0, used=()):
    """Try every assignment: each row has a free column, or stays alone."""
    if row == len(costs):
        return 0.0
    rest = alone + _best(costs, most, alone, row + 1, used)
    for col in range(costs.shape[1]):
        if col not in used and costs[row, col] < most:
            more = _best(costs, most, alone, row + 1, (*used, col))
            rest = min(rest, costs[row, col] + more)
    return rest
