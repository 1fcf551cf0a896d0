"""Classes of objects, guessed from those that a person named."""

import numpy as np
import pytest

from napari_sam.errors import Cancelled, SessionError
from napari_sam.models.registry import load_model
from napari_sam.session import Session
from napari_sam.testing import ToyModel


def dots_and_bars(seed=0):
    """Textured discs and plain bright bars, by turns, and their labels."""
    rng = np.random.default_rng(seed)
    image = rng.normal(60, 6, (256, 256))
    labels = np.zeros(image.shape, np.uint16)
    yy, xx = np.mgrid[:32, :32]
    disc = (yy - 16) ** 2 + (xx - 16) ** 2 < 11**2
    bar = (abs(yy - 16) < 5) & (abs(xx - 16) < 14)
    for n in range(36):
        y, x = 40 * (n // 6) + 6, 40 * (n % 6) + 6
        inside = disc if n % 2 else bar
        texture = 110 + 70 * ((yy // 3 + xx // 3) % 2) if n % 2 else 200 + 0 * yy
        here = image[y : y + 32, x : x + 32]
        here[inside] = (texture + rng.normal(0, 6, (32, 32)))[inside]
        labels[y : y + 32, x : x + 32][inside] = n + 1
    return image.clip(0, 255).astype(np.uint8), labels


def kind(i):
    return "bar" if i % 2 else "disc"


def test_nano_tells_discs_from_bars_after_two_of_each():
    image, labels = dots_and_bars()
    session = Session(image, load_model("nano"), embeddings=False, labels=labels)
    for i in (1, 2, 15, 16):
        session.objects[i].class_name = kind(i)
    seen = []
    found = session.guess_classes(progress=lambda *at: seen.append(at))
    assert seen[-1] == (36, 36) and len(found.guesses) == 32
    right = [found.guesses[i].name == kind(i) for i in found.guesses]
    assert np.mean(right) > 0.95 and found.accuracy == 1
    assert session.objects[3].class_name is None, "nothing is changed by guessing"
    n = session.accept_classes(found.below(0.5))
    assert n >= 16
    assert sum(o.class_name is not None for o in session.objects.values()) == n + 4
    session.undo()
    assert session.objects[3].class_name is None


def test_only_what_is_asked_for_is_looked_at():
    image, labels = dots_and_bars()
    session = Session(image, ToyModel(), embeddings=False, labels=labels)
    with pytest.raises(SessionError, match="give some objects of each class"):
        session.guess_classes()
    session.describe([1, 2], class_name="bar")
    assert set(session.guess_classes([5, 7]).guesses) == {5, 7}
    again = session.guess_classes([1])
    assert again.known == {"bar": 1} and again.guesses[1].name == "bar"
    with pytest.raises(Cancelled):
        session.guess_classes(cancel=lambda: True)
    assert session.accept_classes({5: "disc", 99: "bar"}) == 1
    assert [c.name for c in session.classes.classes] == ["bar", "disc"]


def test_objects_of_volumes_are_seen_where_they_are_largest():
    image, labels = dots_and_bars()
    volume, in_3d = np.stack([image * 0, image]), np.stack([labels * 0, labels])
    in_3d[0, 10:12, 10:12] = 1
    flat = Session(image, ToyModel(), embeddings=False, labels=labels)
    deep = Session(volume, ToyModel(), embeddings=False, labels=in_3d)
    for session in (flat, deep):
        session.describe([1, 3], class_name="bar")
        session.describe([2, 4], class_name="disc")
    want, got = (s.guess_classes([1, 8]).guesses for s in (flat, deep))
    assert {i: g.name for i, g in want.items()} == {i: g.name for i, g in got.items()}
