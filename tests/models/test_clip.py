"""Scoring words on pictures against transformers' own CLIP and SigLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from safetensors.torch import save_file
from sam3_reference import word_pieces

from napari_sam.errors import (
    CheckpointError,
    DownloadError,
    ModelError,
    PromptError,
)
from napari_sam.models import user_models
from napari_sam.models.clip import catalogue
from napari_sam.models.clip.clip import OTHERS, ClipScorer, load_scorer
from napari_sam.models.download import CACHE_VARIABLE, OFFLINE_VARIABLE
from napari_sam.models.protocol import TextScorer

SIDE = 32
KNOWN = {"a": 3, "cell": 4, "nucleus": 5}
"""Ids of the words asked for; any other is 1."""


def crops(n: int = 20, side: int = SIDE) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (n, side, side, 3)).astype(np.uint8)


def made(kind: str) -> Any:
    """Transformers' small model with seeded weights, not the tiny ones it draws."""
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    layers = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }  # fmt: skip
    text = {**layers, "vocab_size": 300, "max_position_embeddings": 16}
    vision = {**layers, "image_size": SIDE, "patch_size": 8}
    if kind == "clip":
        text |= {"eos_token_id": 299, "bos_token_id": 0, "pad_token_id": 299}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        model = CLIPModel(config).eval()
    else:
        config = SiglipConfig(text_config=text, vision_config=vision)
        model = SiglipModel(config).eval()
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                drawn = torch.randn(value.shape, generator=random)
                value.copy_(drawn * value[0].numel() ** -0.5)
            elif name.endswith("logit_bias"):
                value.fill_(-0.5)
    return model


def saved(model: Any, folder: Path, kind: str = "safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    word_pieces(folder / "tokenizer.json")
    state = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    # What older files hold besides, and newer ones do not.
    state["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    if kind == "safetensors":
        save_file(state, folder / "model.safetensors")
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module", params=["clip", "siglip"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def theirs(kind: str) -> Any:
    return made(kind)


@pytest.fixture(scope="module")
def folder(theirs: Any, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(theirs, tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ClipScorer:
    return load_scorer(folder, device="cpu")


def pixels(kind: str, given: np.ndarray) -> torch.Tensor:
    """What transformers' processor without torchvision makes of pictures."""
    from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

    if kind == "clip":
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        )
    else:
        processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return processor(list(given), return_tensors="pt")["pixel_values"]


@torch.inference_mode()
def fits(theirs: Any, kind: str, text: str, given: torch.Tensor) -> np.ndarray:
    """The same score by transformers' forward pass."""
    texts = [text, *OTHERS] if kind == "clip" else [text]
    rows = [[0, *(KNOWN.get(w, 1) for w in t.split()), 299] for t in texts]
    ids = torch.tensor([r + [299] * (16 - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (16 - len(r)) for r in rows])
    more = {"attention_mask": mask} if kind == "clip" else {}
    logits = theirs(input_ids=ids, pixel_values=given, **more).logits_per_image
    found = logits.softmax(1) if kind == "clip" else logits.sigmoid()
    return found[:, 0].double().numpy()


@pytest.mark.parametrize("text", ["a cell", "nucleus"])
def test_scores_are_those_of_transformers(
    scorer: ClipScorer, theirs: Any, kind: str, text: str
) -> None:
    given = crops()
    expected = fits(theirs, kind, text, pixels(kind, given))
    found = scorer.score(text, given)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert found.std() > 1e-3 and ((found > 0) & (found < 1)).all()


def test_pictures_of_another_size_are_resized_as_transformers_does(
    scorer: ClipScorer, kind: str
) -> None:
    given = crops(1, 48)
    found = scorer._frame(given[0])
    assert (found - pixels(kind, given)[0]).abs().max() <= 1e-5


def test_old_files_are_read_without_running_them(
    scorer: ClipScorer, theirs: Any, tmp_path: Path
) -> None:
    again = load_scorer(saved(theirs, tmp_path, "bin"), device="cpu")
    same = again.score("a cell", crops(3))
    np.testing.assert_array_equal(same, scorer.score("a cell", crops(3)))


def test_it_follows_the_protocol_and_reads_each_text_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = load_scorer(folder, device="cpu")
    assert isinstance(scorer, TextScorer) and scorer.crop_side == SIDE
    reads: list[int] = []
    read = scorer._model.get_text_features
    monkeypatch.setattr(
        scorer._model,
        "get_text_features",
        lambda **given: reads.append(1) or read(**given),
    )
    for _ in range(3):
        scorer.score("a cell", crops(2))
    assert len(reads) == (1 if scorer._kind == "siglip" else 1 + len(OTHERS))
    assert scorer.score("a cell", crops(0)).shape == (0,)


def test_what_cannot_be_scored_is_refused(scorer: ClipScorer) -> None:
    with pytest.raises(PromptError, match="empty"):
        scorer.score(" ", crops(1))
    with pytest.raises(PromptError, match="fewer words"):
        scorer.score("cell " * 20, crops(1))
    with pytest.raises(ModelError, match="uint8"):
        scorer.score("cell", crops(1) / 255)


def test_pixels_are_read_as_the_file_beside_the_weights_says(
    theirs: Any, tmp_path: Path
) -> None:
    folder = saved(theirs, tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}))
    assert load_scorer(folder, device="cpu").fill == (26, 51, 76)
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="how pixels are read"):
        load_scorer(folder, device="cpu")


def test_folders_that_hold_no_scorer_are_refused(theirs: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"clip_vit_b32.*or a folder"):
        load_scorer("clip_vit_b23", device="cpu")
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_scorer(tmp_path, device="cpu")
    folder = saved(theirs, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_scorer(folder, device="cpu")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="CLIP or SigLIP"):
        load_scorer(folder, device="cpu")


@pytest.fixture
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(user_models.CONFIG_VARIABLE, str(tmp_path / "config"))


@pytest.mark.usefixtures("_apart")
def test_a_known_scorer_is_fetched_once_after_its_licence_was_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    source = saved(made("clip"), tmp_path / "source", "bin")
    (source / "preprocessor_config.json").write_text("{}")
    fetched: list[str] = []

    def fetch(repository: str, name: str, local_dir: Path) -> str:
        assert repository == "openai/clip-vit-base-patch32"
        assert "MIT" in caplog.text
        if not (source / name).is_file():
            raise EntryNotFoundError(f"no {name}")
        fetched.append(name)
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / name).write_bytes((source / name).read_bytes())
        return str(local_dir / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    for _ in range(2):
        assert load_scorer(device="cpu").name == "clip_vit_b32"
    assert len(fetched) == 4 and fetched[-1] == "pytorch_model.bin"
    assert caplog.text.count("Weights under MIT") == 1


@pytest.mark.usefixtures("_apart")
def test_without_a_network_it_says_what_to_put_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, "1")
    where = catalogue.KNOWN_SCORERS[1].folder
    with pytest.raises(DownloadError, match="siglip_b16 is not here") as told:
        load_scorer("siglip_b16")
    assert str(where) in str(told.value) and "tokenizer.json" in str(told.value)


@pytest.mark.usefixtures("_apart")
def test_a_failed_download_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: Any, **__: Any) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(DownloadError, match="no route"):
        load_scorer("clip_vit_b32")
