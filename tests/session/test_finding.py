"""Finding what a word names, on images with two kinds of made objects."""

from __future__ import annotations

import numpy as np
import pytest
from word_models import InstancesModel, ReadingModel, WordScorer, two_kinds

from napari_sam.core.planes import Plane
from napari_sam.core.proposals import Proposal
from napari_sam.engine.engine import Engine
from napari_sam.engine.propose import propose
from napari_sam.engine.propose_options import ProposeOptions
from napari_sam.errors import DownloadError, PromptError, VolumeError
from napari_sam.models.download import CACHE_VARIABLE, OFFLINE_VARIABLE
from napari_sam.models.protocol import InstanceModel, TextModel, TextScorer
from napari_sam.session import Session
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

FEW = {"points_per_side": 16, "stability_score_thresh": 0.5, "pred_iou_thresh": 0.5,
       "max_area": 2000}  # fmt: skip


def session_of(model: ToyModel, image: np.ndarray | None = None) -> Session:
    session = Session(
        two_kinds()[0] if image is None else image, model, embeddings=False
    )
    session.scorer = WordScorer()
    return session


def kinds(found: list[Proposal], labels: np.ndarray) -> list[int]:
    """Ids of the true objects that proposals are, pixel by pixel."""
    out = []
    for p in found:
        y0, x0, y1, x1 = p.bbox
        (k,) = np.unique(labels[y0:y1, x0:x1][p.mask])
        assert p.area == np.count_nonzero(labels == k)
        out.append(int(k))
    return sorted(out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("round", [1, 2, 3]), ("square", [4, 5, 6]), ("bright", [1, 2, 3])],
)
@pytest.mark.parametrize("side", [256, 64], ids=["whole", "tiles"])
def test_words_choose_among_everything(
    text: str, expected: list[int], side: int
) -> None:
    session = session_of(ToyModel(side))
    found = session.find(text, **FEW)
    assert kinds(found, two_kinds()[1]) == expected
    assert {p.origin for p in found} == {"text"}
    assert all(p.likeness >= 0.5 and p.prompts for p in found)
    assert [p.likeness for p in found] == sorted(p.likeness for p in found)[::-1]
    assert session.reads_words == "rules"
    assert isinstance(session.scorer, TextScorer)


def test_what_is_found_is_accepted_rejected_and_undone_as_any_proposal() -> None:
    session = session_of(ToyModel(256))
    found = session.find("round", **FEW)
    session.proposals.reject(found[:1])
    assert session.proposals.accept() == 2
    assert len(session.find("round", **FEW)) == 0  # one refused, two annotated
    assert len(session.find("square", **FEW)) == 3
    while session.undo():
        pass
    assert not np.asarray(session.labels).any()
    assert len(session.find("round", **FEW)) == 3
    # Words asked for later replace what waits of those before.
    assert len(session.proposals.pending) == 3


def test_a_model_that_reads_is_asked_itself() -> None:
    session = session_of(ReadingModel(64))
    assert isinstance(session.engine.model, TextModel)
    assert session.reads_words == "reading toy"
    assert kinds(session.find("dark"), two_kinds()[1]) == [4, 5, 6]
    assert kinds(session.find("bright"), two_kinds()[1]) == [1, 2, 3]
    assert session.find("bright", min_score=0.99) == []
    assert isinstance(session.scorer, WordScorer) and not session.scorer.asked


def test_all_instances_at_once_are_a_source_of_everything() -> None:
    model = InstancesModel(64)
    assert isinstance(model, InstanceModel)
    session = session_of(model)
    found = session.everything(pred_iou_thresh=0.4, stability_score_thresh=0)
    assert kinds(found, two_kinds()[1]) == [1, 2, 3, 4, 5, 6]
    assert model.n_decoded == 0
    assert kinds(
        session.find("round", pred_iou_thresh=0.4), two_kinds()[1]
    ) == [1, 2, 3]  # fmt: skip
    engine = Engine.of(open_volume(two_kinds()[0]), model, embeddings=False)
    propose(engine, Plane(()), ProposeOptions(points_per_side=4, ask_at="grid"))
    assert model.n_decoded > 0


def test_planes_are_looked_at_in_the_order_given_and_linked() -> None:
    image, labels = two_kinds(4)
    session = session_of(ReadingModel(256), image)
    with pytest.raises(VolumeError, match="many planes"):
        session.find("dark")
    found = session.find("dark", planes=[2, 1])
    assert [p.plane.index for p in found] == [(2,)] * 3 + [(1,)] * 3
    assert len({p.group for p in found}) == 3
    assert kinds(session.find("bright", 3), labels[3]) == [1, 2, 3]
    # Each plane was asked for something else; both wait.
    assert len(session.proposals.pending) == 9


def test_it_stops_when_asked_and_keeps_whole_planes() -> None:
    image, _ = two_kinds(3)
    session = session_of(ToyModel(256), image)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return any(p.plane.index == (0,) for p in session.proposals.pending)

    found = session.find("round", planes=[0, 1, 2], cancel=stop, **FEW)
    assert asked and {p.plane.index for p in found} == {(0,)}


def test_a_region_limits_where_words_are_looked_for() -> None:
    session = session_of(ToyModel(256))
    found = session.find("round", region=(0, 0, 80, 50), **FEW)
    assert kinds(found, two_kinds()[1]) == [1]


def test_what_cannot_be_found_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    session = session_of(ToyModel(256))
    with pytest.raises(PromptError, match="nothing to look for"):
        session.find("  ")
    with pytest.raises(PromptError, match="no option"):
        session.find("round", pionts_per_side=3)
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    pytest.importorskip("transformers")
    session.scorer = "clip_vit_b32"
    with pytest.raises(DownloadError, match="clip_vit_b32 is not here"):
        session.find("round", **FEW)


def test_small_tiles_hide_nothing_from_a_model_that_reads() -> None:
    whole, tiles = (session_of(ReadingModel(side)) for side in (256, 48))
    for text in ("bright", "dark"):
        a, b = (
            {(p.bbox, p.area) for p in s.find(text)} for s in (whole, tiles)
        )  # fmt: skip
        assert a == b and len(a) == 3
