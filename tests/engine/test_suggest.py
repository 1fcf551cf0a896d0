import numpy as np
import pytest

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.masks import crops_overlap
from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.exemplars import Exemplars, look_of
from napari_sam.engine.suggest import PlaneSuggestions, SuggestRules
from napari_sam.errors import Cancelled, ModelError, PromptError
from napari_sam.models.protocol import ModelSpec
from napari_sam.testing import ToyModel, phantom_image
from napari_sam.volume.opening import open_volume

HERE = Plane(())


@pytest.fixture(scope="module")
def cells():
    return phantom_image((72, 108), n_objects=6, noise=0)


def _search(image, labels, *, side=40, rules=None, **options):
    engine = Engine.of(open_volume(image), ToyModel(side))
    known = [(HERE, MaskPrompt.of(labels == k)) for k in np.unique(labels) if k]
    return PlaneSuggestions(
        engine, HERE,
        lambda b, step: labels[b[0] : b[2] : step, b[1] : b[3] : step] > 0,
        rules or SuggestRules(points_per_batch=8), Exemplars.of(engine, known),
        **options,
    )  # fmt: skip


def _all(search):
    found = []
    for news in search.run():
        found = [p for p in found if p not in news.withdrawn] + list(news.found)
    return found


def _iou(suggestion, mask):
    return suggestion.overlap(*_crop(mask))


def _crop(mask):
    prompt = MaskPrompt.of(mask)
    return prompt.bbox, prompt.mask


@pytest.mark.parametrize("side", [40, 128])
def test_objects_like_the_known_ones_are_found_once_each_whatever_the_tiles(
    cells, side
):
    labels = np.where(cells.labels <= 2, cells.labels, 0)
    found = _all(_search(cells.image, labels, side=side))
    assert len(found) == 4
    for k in range(3, 7):
        assert max(_iou(s, cells.labels == k) for s in found) > 0.9
    for i, a in enumerate(found):
        for b in found[:i]:
            assert crops_overlap(a.bbox, a.mask, b.bbox, b.mask) == 0


def test_the_ground_is_suggested_only_while_nothing_says_how_large_objects_are(cells):
    ground = cells.labels == 0
    one = np.where(cells.labels == 1, 1, 0).astype(np.uint16)
    assert not any(_iou(s, ground) > 0.5 for s in _all(_search(cells.image, one)))
    wide = SuggestRules(0.5, 0.5, max_area=10**6, points_per_side=10)
    search = _search(cells.image, np.zeros_like(one), side=128, rules=wide)
    assert any(_iou(s, ground) > 0.5 for s in _all(search))


def test_what_differs_in_size_and_look_is_more_doubtful():
    image = np.full((50, 130), 30, np.uint8)
    labels = np.zeros(image.shape, np.uint16)
    yy, xx = np.mgrid[:50, :130]
    for x, value in ((25, 200), (65, 200), (105, 110)):
        image[(yy - 25) ** 2 + (xx - x) ** 2 <= 100] = value
    labels[(yy - 25) ** 2 + (xx - 25) ** 2 <= 100] = 1
    search = _search(image, labels, side=130, rules=SuggestRules(max_doubt=1))
    twin, other = sorted(_all(search), key=lambda s: s.bbox[1])
    assert twin.doubt < 0.05 < 0.3 < other.doubt


def test_refused_and_annotated_places_stay_empty(cells):
    labels = np.where(cells.labels <= 2, cells.labels, 0)
    first = _all(_search(cells.image, labels))
    refused = first[:2]
    again = _all(_search(cells.image, labels, refused=refused))
    assert len(again) == len(first) - 2
    for s in refused:
        assert all(t.overlap(s.bbox, s.mask) == 0 for t in again)


def test_a_region_keeps_the_search_inside(cells):
    labels = np.where(cells.labels <= 2, cells.labels, 0)
    search = _search(cells.image, labels, region=(36, 0, 72, 54))
    found = _all(search)
    assert found and len(found) < 4
    assert all(s.bbox[2] > 36 and s.bbox[1] < 54 for s in found)
    assert len(search.looks) < len(_search(cells.image, labels).looks)


def test_points_in_what_is_found_already_are_not_asked_again(cells):
    labels = np.where(cells.labels <= 2, cells.labels, 0)
    search = _search(cells.image, labels, side=128)
    model = search.engine.model
    before = model.n_decoded
    _all(search)
    assert model.n_decoded - before < sum(
        look.points.size // 2 for look in search.looks
    )


def test_large_objects_are_looked_for_on_a_coarse_level_and_drawn_sharply():
    image = np.full((120, 240), 30, np.uint8)
    yy, xx = np.mgrid[:120, :240]
    truth = [(yy - 60) ** 2 + (xx - x) ** 2 <= 45**2 for x in (58, 176)]
    for mask in truth:
        image[mask] = 200
    labels = truth[0].astype(np.uint16)
    search = _search(image, labels, side=48)
    assert {look.window.level for look in search.looks} == {2}
    (found,) = _all(search)
    assert _iou(found, truth[1]) > 0.97


def test_cancelling_stops_between_batches(cells):
    labels = np.where(cells.labels <= 2, cells.labels, 0)
    search = _search(cells.image, labels, cancel=lambda: True)
    with pytest.raises(Cancelled, match="is kept"):
        _all(search)


def test_the_look_is_what_the_model_sees_and_how_it_stands_out(cells):
    engine = Engine.of(open_volume(cells.image), ToyModel(64))
    seen = engine.intensity.apply(cells.image)
    look = look_of(engine, HERE, MaskPrompt.of(cells.labels == 3))
    np.testing.assert_allclose(look[:3], seen[cells.labels == 3].mean(0))
    np.testing.assert_allclose(look[3:], look[:3] - seen[0, 0], atol=1e-6)


def test_a_model_of_boxes_finds_no_new_objects_and_says_so(cells):
    class Boxes(ToyModel):
        @property
        def spec(self):
            spec = super().spec
            kept = {f: getattr(spec, f) for f in ModelSpec.__dataclass_fields__}
            return ModelSpec(**{**kept, "prompts": frozenset({"box"})})

    engine = Engine.of(open_volume(cells.image), Boxes(64))
    with pytest.raises(ModelError, match="takes no points"):
        PlaneSuggestions(engine, HERE, lambda b, step: np.zeros((1, 1)), SuggestRules())


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"points_per_side": 0}, id="no points"),
        pytest.param({"points_per_batch": 0}, id="no batch"),
        pytest.param({"neighbours": False, "grid": False}, id="nothing"),
    ],
)
def test_rules_that_suggest_nothing_are_refused(wrong):
    with pytest.raises(PromptError):
        SuggestRules(**wrong)
