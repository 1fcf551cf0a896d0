"""Classes guessed from the nearest known objects, and how far they are doubted."""

import numpy as np
import pytest

from napari_sam.engine.classify import ClassGuess, ClassGuesses, guess_classes


def clouds(n, spread, seed=0, size=24):
    """n features of each of three classes around three directions."""
    rng = np.random.default_rng(seed)
    middle = np.eye(3, size)
    values = np.repeat(middle, n, 0) + spread * rng.normal(size=(3 * n, size))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    kinds = np.repeat(["a", "b", "c"], n)
    return values.astype(np.float32), kinds


def test_the_nearest_known_objects_say_the_class():
    values, kinds = clouds(12, 0.15)
    known = {i: values[i] for i in range(0, 36, 2)}
    asked = {i: values[i] for i in range(1, 36, 2)}
    found = guess_classes(known, dict(enumerate(kinds)), asked)
    assert {i: g.name for i, g in found.guesses.items()} == {i: kinds[i] for i in asked}
    assert found.accuracy == 1 and found.known == {"a": 6, "b": 6, "c": 6}
    for i, guess in found.guesses.items():
        likeness = {k: float(v @ values[i]) for k, v in known.items()}
        best = sorted(likeness, key=likeness.get, reverse=True)[:5]
        assert list(guess.nearest) == best


def test_what_lies_between_classes_or_far_from_all_is_doubted():
    values, kinds = clouds(8, 0.05)
    known = dict(enumerate(values))
    between = (values[0] + values[8]) / np.linalg.norm(values[0] + values[8])
    strange = np.eye(1, 24, 20, dtype=np.float32)[0]
    asked = {100: values[3], 101: between, 102: strange}
    found = guess_classes(known, dict(enumerate(kinds)), asked).guesses
    assert found[100].doubt < 0.05 < 0.2 < found[101].doubt
    assert found[102].doubt > 0.9


def test_the_frequent_class_does_not_win_by_its_number():
    values, kinds = clouds(60, 0.5, seed=2)
    names = dict(enumerate(kinds))
    few = [i for i in names if kinds[i] == "a" or i % 60 < 4]
    asked = {i: values[i] for i in names if i not in few and kinds[i] != "a"}
    found = guess_classes({i: values[i] for i in few}, names, asked)
    right = np.mean([found.guesses[i].name == kinds[i] for i in asked])
    votes = []
    for i in asked:
        near = sorted(few, key=lambda k: -float(values[k] @ values[i]))[:5]
        nearest = [str(kinds[k]) for k in near]
        votes.append(max(set(nearest), key=nearest.count) == kinds[i])
    assert right > np.mean(votes) + 0.05


def test_surer_guesses_are_right_more_often_and_accuracy_foretells_it():
    values, kinds = clouds(80, 0.45, seed=4)
    names = dict(enumerate(kinds))
    known = {i: values[i] for i in names if i % 4 == 0}
    asked = {i: values[i] for i in names if i % 4}
    found = guess_classes(known, names, asked)
    order = sorted(asked, key=lambda i: found.guesses[i].doubt)
    right = [found.guesses[i].name == kinds[i] for i in order]
    half = len(right) // 2
    assert np.mean(right[:half]) > np.mean(right[half:]) + 0.1
    assert found.accuracy == pytest.approx(np.mean(right), abs=0.1)


def test_one_object_of_a_class_is_enough_to_guess_but_not_to_judge():
    values, _ = clouds(2, 0.05)
    known = {1: values[0], 2: values[2]}
    found = guess_classes(known, {1: "a", 2: "b"}, {7: values[1]})
    assert found.guesses[7].name == "a" and found.accuracy is None
    assert guess_classes({}, {}, {7: values[1]}) == ClassGuesses({}, None, {})
    guesses = {1: ClassGuess("a", 0.2, ()), 2: ClassGuess("b", 0.6, ())}
    assert ClassGuesses(guesses, None, {}).below(0.5) == {1: "a"}
