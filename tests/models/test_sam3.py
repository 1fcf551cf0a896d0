"""SAM 3 against transformers' own forward pass, on pixels and on stored features."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from sam2_reference import window
from sam3_reference import GRID, ROI_BOXES, ROI_FEATURES, SIDE, folder, theirs

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.errors import (
    CheckpointError,
    DownloadError,
    ModelError,
    PromptError,
)
from napari_sam.models import registry
from napari_sam.models.download import CACHE_VARIABLE
from napari_sam.models.protocol import TextModel
from napari_sam.models.sam2.network import _as_remembered
from napari_sam.models.sam3.roi_align import StandIn, roi_align, supply
from napari_sam.models.sam3.sam3 import Sam3, stretched_frame
from napari_sam.testing import ModelContract
from napari_sam.volume.opening import open_volume

EVERYTHING = -1.0
BOXES = [(10.0, 5.0, 40.0, 30.0), (50.0, 20.0, 85.0, 60.0)]


@pytest.fixture(scope="module")
def reference() -> Any:
    return theirs()


@pytest.fixture(scope="module")
def file(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("sam3"), reference)


@pytest.fixture(scope="module")
def model(file: Path) -> Sam3:
    found = registry.load_model(file, device="cpu")
    assert isinstance(found, Sam3)
    return found


@pytest.fixture(scope="module")
def embedding(model: Sam3) -> Embedding:
    return model.encode(window()[None])[0]


class TestSam3(ModelContract):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, file: Path) -> Any:
        return registry.load_model(file, device="cpu")


def frame() -> torch.Tensor:
    return stretched_frame(window(), SIDE)[None]


def asked(text: str, boxes: Any = (), labels: Any = ()) -> dict[str, Any]:
    """The same question in transformers' words."""
    known = {"visual": 2, "cell": 4, "bright": 6, "nucleus": 5}
    ids = [0, *(known[w] for w in text.split()), 299]
    mask = [1] * len(ids) + [0] * (32 - len(ids))
    given = {
        "input_ids": torch.tensor([ids + [299] * (32 - len(ids))]),
        "attention_mask": torch.tensor([mask]),
    }
    if len(boxes):
        y0, x0, y1, x1 = (np.array(boxes) / (90, 70, 90, 70)).T
        centres = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)
        given["input_boxes"] = torch.tensor(centres[None], dtype=torch.float32)
        given["input_boxes_labels"] = torch.tensor([labels])
    return given


QUESTIONS = {
    "word": ("cell", [], []),
    "words": ("bright nucleus", [], []),
    "word_and_boxes": ("cell", BOXES, [1, 0]),
    "box_alone": ("", BOXES[:1], [1]),
}


@pytest.mark.parametrize("question", QUESTIONS)
@torch.inference_mode()
def test_what_words_and_boxes_find_is_exactly_what_transformers_finds(
    model: Sam3, embedding: Embedding, reference: Any, question: str
) -> None:
    text, boxes, labels = QUESTIONS[question]
    found = model.instances_of(
        embedding, text, boxes=boxes, box_labels=labels, min_score=EVERYTHING
    )
    given = asked(text or "visual", boxes, labels)
    expected = reference.detector_model(pixel_values=frame(), **given)
    compare(found, expected)


def compare(found: list[Any], expected: Any) -> None:
    scores = expected.pred_logits.sigmoid() * expected.presence_logits.sigmoid()
    order = scores[0].argsort(descending=True, stable=True)
    masks = expected.pred_masks[0][order].numpy()
    filled = [k for k in range(len(masks)) if (masks[k] > 0).any()]
    assert len(found) >= 10 and len(found) <= len(filled)
    by_score = {float(s): m for s, m in zip(scores[0][order], masks, strict=True)}
    assert len(by_score) == 20
    for candidate in found:
        theirs = by_score[candidate.predicted_iou]
        np.testing.assert_array_equal(candidate.low_res_logits, theirs)
    given = [c.predicted_iou for c in found]
    assert given == sorted(given, reverse=True)


@torch.inference_mode()
def test_features_of_the_store_give_exactly_what_transformers_makes_of_them(
    model: Sam3, reference: Any, tmp_path: Path
) -> None:
    from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

    volume = open_volume(window()[..., 0])
    store = open_store(volume, model, tmp_path / "store")
    list(encode_volume(volume, model, store))
    tile = next(iter(store.grid.tiles()))
    stored = store.get(0, tile)
    assert stored is not None
    assert stored.features["backbone"].dtype == np.float16
    features = torch.from_numpy(stored.features["backbone"].astype(np.float32))[None]
    neck = reference.detector_model.vision_encoder.neck
    rows = features.permute(0, 2, 3, 1).contiguous()
    maps, positions = neck(rows.permute(0, 3, 1, 2))
    injected = Sam3VisionEncoderOutput(
        fpn_hidden_states=maps, fpn_position_encoding=positions
    )
    expected = reference.detector_model(vision_embeds=injected, **asked("cell"))
    compare(model.instances_of(stored, "cell", min_score=EVERYTHING), expected)


def test_the_store_keeps_the_encoder_s_map_alone(model: Sam3) -> None:
    assert model.spec.feature_shapes == {"backbone": (48, GRID, GRID)}
    assert isinstance(model, TextModel) and "text" in model.spec.prompts


def as_tracker(reference: Any) -> dict[str, torch.Tensor]:
    """Weights by the names that a tracker with an encoder of its own has."""
    return {
        k.replace("detector_model.vision_encoder.backbone", "vision_encoder.backbone")
        .replace("tracker_neck", "vision_encoder.neck")
        .removeprefix("tracker_model."): v
        for k, v in reference.state_dict().items()
    }


@torch.inference_mode()
def test_clicks_give_exactly_what_transformers_tracker_gives(
    model: Sam3, embedding: Embedding, reference: Any
) -> None:
    from transformers import Sam3TrackerConfig, Sam3TrackerModel

    # It marks the last map of its neck as one without a past; the fourth map, which
    # nobody reads, is left out so that it marks the one that is decoded.
    sizes = reference.config.tracker_config
    three = {**sizes.vision_config.to_dict(), "scale_factors": [4.0, 2.0, 1.0]}
    tracker = Sam3TrackerModel(
        Sam3TrackerConfig(
            vision_config=three,
            prompt_encoder_config=sizes.prompt_encoder_config.to_dict(),
            mask_decoder_config=sizes.mask_decoder_config.to_dict(),
        )
    ).eval()
    renamed = as_tracker(reference)
    missing = tracker.load_state_dict(renamed, strict=False).missing_keys
    assert not missing
    points = np.array([[40.0, 30.0], [20.0, 50.0]])
    xy = points[:, ::-1] * (SIDE / 70, SIDE / 90)
    expected = tracker(
        pixel_values=frame(),
        input_points=torch.tensor(xy[None, None].copy(), dtype=torch.float32),
        input_labels=torch.tensor([[[1, 0]]]),
        multimask_output=True,
    )
    found = model.decode(embedding, WindowPrompts(points, np.array([1, 0])))
    order = expected.iou_scores[0, 0].argsort(descending=True)
    for candidate, k in zip(found, order, strict=True):
        assert candidate.predicted_iou == float(expected.iou_scores[0, 0, k])
        logits = expected.pred_masks[0, 0, k].numpy()
        assert np.abs(candidate.low_res_logits - logits).max() == 0


@torch.inference_mode()
def test_following_on_features_gives_exactly_what_pixels_give(
    model: Sam3, reference: Any
) -> None:
    from transformers import Sam3TrackerVideoInferenceSession, Sam3TrackerVideoModel

    planes = [window()[: 80 + 2 * i] for i in range(3)]
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:80, 32:96] = True
    embeddings = [model.encode(p[None])[0] for p in planes]
    following = model.tracker(embeddings.__getitem__, 3, (90, 70))
    following.condition(0, mask)
    found = [following.follow(i).low_res_logits for i in (1, 2)]

    pixels = torch.stack([stretched_frame(p, SIDE) for p in planes])
    whole = Sam3TrackerVideoModel(reference.config.tracker_config).eval()
    renamed = as_tracker(reference)
    assert not whole.load_state_dict(renamed, strict=False).missing_keys
    # As SAM 2's authors remember a key mask; see `TrackingNetwork`.
    whole._single_frame_forward = partial(
        whole._single_frame_forward, multimask_output=False
    )
    whole._use_mask_as_output = partial(_as_remembered, whole._use_mask_as_output)
    state = Sam3TrackerVideoInferenceSession(video=pixels, dtype=torch.float32)
    index = state.obj_id_to_idx(1)
    state.add_mask_inputs(index, 0, torch.from_numpy(mask)[None, None])
    state.obj_with_new_inputs = [1]
    whole(inference_session=state, frame_idx=0)
    for i, logits in zip((1, 2), found, strict=True):
        expected = whole(inference_session=state, frame_idx=i).pred_masks[0, 0]
        np.testing.assert_array_equal(logits, expected.numpy())


def test_words_are_read_once(model: Sam3, embedding: Embedding) -> None:
    reads = []
    network = SimpleNamespace(
        detector=model.network.detector,
        read=lambda *given: reads.append(1) or model.network.read(*given),
        find=model.network.find,
    )
    again = Sam3.__new__(Sam3)
    again.__dict__ = {**model.__dict__, "network": network, "_texts": {}}
    for text in ("cell", "bright cell", "cell", " cell "):
        again.instances_of(embedding, text)
    assert len(reads) == 2


def test_frame_is_what_pillow_makes_of_it_but_for_rounding() -> None:
    from PIL import Image

    image = window(1, 300, 410)
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    expected = (np.asarray(resized) / 255 - 0.5) / 0.5
    found = stretched_frame(image, SIDE).permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1.01 / 127.5


def test_roi_align_equals_torchvision_s_definition() -> None:
    golden = np.load(Path(__file__).with_name("roi_align_golden.npz"))["out"]
    found = roi_align(ROI_FEATURES, ROI_BOXES, 7)
    np.testing.assert_allclose(found.numpy(), golden, atol=5e-6)
    assert roi_align(ROI_FEATURES, [torch.zeros(0, 4)] * 2, 7).shape == (0, 3, 7, 7)


def test_torchvision_is_left_alone_where_it_is_installed() -> None:
    with_it, without = SimpleNamespace(torchvision="theirs"), SimpleNamespace()
    supply(with_it)
    supply(without)
    assert with_it.torchvision == "theirs" and without.torchvision is StandIn


@pytest.mark.parametrize(
    ("text", "boxes", "labels", "message"),
    [
        (" ", [], None, "nothing to look for"),
        ("", BOXES, [0, 0], "nothing to look for"),
        ("cell", BOXES, [1, 2], "label 1"),
        ("cell", [(5, 5, 5, 9)], None, "y0 < y1"),
        ("cell " * 31, [], None, "fewer words"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(
    model: Sam3, embedding: Embedding, text: str, boxes: Any, labels: Any, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        model.instances_of(embedding, text, boxes=boxes, box_labels=labels)


def test_clicks_work_without_the_file_of_words(file: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((file.parent / name).read_bytes())
    model = registry.load_model(tmp_path / "model.safetensors", device="cpu")
    assert isinstance(model, Sam3)
    embedding = model.encode(window()[None])[0]
    click = WindowPrompts(np.array([[40.0, 30.0]]), np.array([1]))
    assert len(model.decode(embedding, click)) == 3
    with pytest.raises(ModelError, match=r"tokenizer\.json.*missing"):
        model.instances_of(embedding, "cell")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="no list of word pieces"):
        model.instances_of(embedding, "cell")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="does not describe a SAM 3"):
        registry.load_model(tmp_path / "model.safetensors", device="cpu")


def test_terms_are_told_and_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(
        registry._download, "iter_download", lambda *_: pytest.fail("fetched")
    )
    with caplog.at_level(logging.WARNING), pytest.raises(DownloadError) as told:
        registry.load_model("sam3")
    message = str(told.value)
    assert (
        "no military" in message and "https://huggingface.co/facebook/sam3" in message
    )
    assert f"--local-dir {tmp_path / 'sam3'}" in message
    assert "SAM License" in registry.find_model("sam3").notice


def test_masks_are_found_whatever_the_window_s_shape(model: Sam3) -> None:
    image = window()
    wide = np.concatenate([image, image], 1)
    embedding = model.encode(wide[None])[0]
    found = model.instances_of(embedding, "cell", min_score=EVERYTHING)
    assert {c.full((90, 140)).shape for c in found} == {(90, 140)}
    again = model.instances_of(embedding, "cell", min_score=EVERYTHING)
    assert mask_iou(found[0].full((90, 140)), again[0].full((90, 140))) == 1
