"""Finding what is like examples: of one session, of others, and from files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from word_models import WordScorer, two_kinds

from napari_sam.core.proposals import Proposal
from napari_sam.engine.example_bank import ExampleBank
from napari_sam.errors import ModelError, PromptError
from napari_sam.session import Session
from napari_sam.testing import ToyModel

FEW = {"points_per_side": 16, "stability_score_thresh": 0.5, "pred_iou_thresh": 0.5,
       "max_area": 2000}  # fmt: skip
CENTRES = {1: (20, 20), 2: (20, 70), 3: (60, 110), 4: (60, 25), 5: (60, 65)}


def colored(n_planes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Red disks and blue squares on grey, and labels."""
    labels = two_kinds(n_planes)[1]
    colors = np.array([(60, 60, 60), *[(220, 70, 60)] * 3, *[(70, 80, 210)] * 3])
    return colors.astype(np.uint8)[labels], labels


def annotated(ids: tuple[int, ...], image: np.ndarray | None = None) -> Session:
    """A session in which some of the true objects are made, by a click each."""
    given = colored()[0] if image is None else image
    session = Session(given, ToyModel(64), embeddings=False)
    for i in ids:
        session.segment(object_id=i, points=[CENTRES[i]])
    return session


def kinds(found: list[Proposal], labels: np.ndarray | None = None) -> list[int]:
    labels = two_kinds()[1] if labels is None else labels
    out = []
    for p in found:
        y0, x0, y1, x1 = p.bbox
        (k,) = np.unique(labels[y0:y1, x0:x1][p.mask])
        out.append(int(k))
    return sorted(out)


@pytest.mark.parametrize(
    ("like", "unlike", "expected"), [(1, 4, [2, 3]), (4, 1, [5, 6])]
)
def test_objects_like_some_and_unlike_others_are_found(
    like: int, unlike: int, expected: list[int]
) -> None:
    session = annotated((1, 4))
    found = session.find(like=[like], unlike=[unlike], **FEW)
    assert kinds(found) == expected
    assert {p.origin for p in found} == {"like"}
    assert all(0.5 <= p.likeness <= 1 for p in found)
    assert session.proposals.accept(found) == 2
    assert (
        session.undo() and len(session.find(like=[like], unlike=[unlike], **FEW)) == 2
    )
    assert len(session.proposals.waiting) == 2  # in place of those that waited


def test_examples_of_one_image_find_objects_on_others(tmp_path: Path) -> None:
    a, b = annotated((1, 4)), annotated((2, 5))
    bank = a.examples([1], unlike=[4], name="a") + b.examples([2], [5], name="b")
    assert len(bank) == 4 and bank.names == ("a", "a", "b", "b")
    assert repr(bank).endswith("2 wanted, 2 not, from 2 images>")
    file = bank.save(tmp_path / "disks")
    assert file.name == "disks.safetensors"

    mirrored, labels = (v[::-1, ::-1].copy() for v in colored())
    fresh = annotated((), mirrored)
    for given in (bank, file, str(file)):
        assert kinds(fresh.find(examples=given, **FEW), labels) == [1, 2, 3]
    again = ExampleBank.load(file)
    for name in ("features", "wanted", "areas"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bank, name))
    assert (again.names, again.model) == (bank.names, bank.model)
    # Objects of this image count besides.
    fresh.segment(object_id=9, points=[(79 - 60, 139 - 25)])
    assert kinds(fresh.find(unlike=[9], examples=file, **FEW), labels) == [1, 2, 3]


def test_examples_and_words_both_have_to_fit() -> None:
    session = annotated((1,))
    session.scorer = WordScorer()
    assert kinds(session.find("round", like=[1], **FEW)) == [2, 3]
    assert session.find("square", like=[1], unlike=(), min_likeness=0.9, **FEW) == []


def test_examples_of_a_volume_find_objects_on_other_planes() -> None:
    image, _ = colored(3)
    session = Session(image, ToyModel(64), embeddings=False)
    session.segment(object_id=1, plane=0, points=[CENTRES[1]])
    session.segment(object_id=4, plane=0, points=[CENTRES[4]])
    found = session.find(like=[1], unlike=[4], planes=[1, 2], **FEW)
    assert [p.plane.index for p in found] == [(1,)] * 3 + [(2,)] * 3
    assert kinds(found) == [1, 1, 2, 2, 3, 3]


def test_size_counts() -> None:
    large = colored()[0].repeat(6, 0).repeat(6, 1)
    session = annotated((1,))
    bank = session.examples([1])
    other = Session(large, ToyModel(512), embeddings=False)
    other_bank = ExampleBank(
        bank.features, bank.wanted, bank.areas, bank.names, bank.model,
        ExampleBank.of(other.engine, [], name="").weights,
    )  # fmt: skip
    options = {**FEW, "max_area": 50_000}
    assert other.find(examples=other_bank, min_likeness=0.3, **options) == []


def test_what_cannot_be_an_example_is_refused(tmp_path: Path) -> None:
    session = annotated((1, 4))
    with pytest.raises(PromptError, match="nothing to look for"):
        session.find()
    with pytest.raises(PromptError, match="object 77 has no mask"):
        session.find(like=[1, 77])
    with pytest.raises(PromptError, match="at least one of what is"):
        session.find(unlike=[4])
    other = Session(colored()[0], ToyModel(48), embeddings=False)
    bank = session.examples([1])
    with pytest.raises(ModelError, match="make the examples again"):
        other.find(examples=bank)
    other.segment(object_id=1, points=[CENTRES[1]])
    with pytest.raises(ModelError, match="seen by toy"):
        bank + other.examples([1])
    with pytest.raises(PromptError, match="no examples at"):
        ExampleBank.load(tmp_path / "nothing.safetensors")


def test_odd_files_are_refused_and_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(pickle.dumps(Path))
    with pytest.raises(PromptError, match="holds no examples"):
        ExampleBank.load(path)
    save_file({"features": np.zeros((1, 2), np.float32)}, path)
    with pytest.raises(PromptError, match="another kind"):
        ExampleBank.load(path)
    bank = annotated((1,)).examples([1])
    for broken in (
        ExampleBank(bank.features, bank.wanted, bank.areas, (), "m", "w"),
        ExampleBank(bank.features * np.nan, bank.wanted, bank.areas, ("a",), "m", "w"),
        ExampleBank(bank.features, bank.wanted, -bank.areas, ("a",), "m", "w"),
    ):
        broken.save(path)
        with pytest.raises(PromptError, match="holds no examples"):
            ExampleBank.load(path)
