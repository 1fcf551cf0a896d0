from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_sam import TINY, reference_sam
from test_mobile_sam import official_state

from napari_sam.core.prompts import WindowPrompts
from napari_sam.errors import CheckpointError, DownloadError, ModelError
from napari_sam.models import download, registry, user_models
from napari_sam.models.protocol import PromptableModel
from napari_sam.models.registry import find_model, list_models, load_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    monkeypatch.setenv(user_models.CONFIG_VARIABLE, str(tmp_path / "config"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def sam_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam") / "my_finetuned.pth"
    torch.save(reference_sam(TINY).state_dict(), path)
    return path


def test_a_sam_checkpoint_loads_by_path_with_inferred_sizes(sam_file: Path) -> None:
    model = load_model(sam_file, device="cpu")
    assert isinstance(model, PromptableModel)
    assert model.device == "cpu"
    assert model.spec.name == "my_finetuned"
    assert model.spec.input_side == 256
    assert model.spec.mask_side == 64
    assert model.spec.feature_shapes == {"image_embedding": (64, 16, 16)}
    assert model.spec.sha256 == hashlib.sha256(sam_file.read_bytes()).hexdigest()
    image = np.zeros((1, 30, 40, 3), np.uint8)
    box = WindowPrompts(box=(2, 3, 20, 30), multimask_output=False)
    assert len(model.decode(model.encode(image)[0], box)) == 1


def test_a_mobile_sam_checkpoint_loads_by_path(tmp_path: Path) -> None:
    torch.save({"model": official_state("tiny")}, tmp_path / "small.pt")
    model = load_model(str(tmp_path / "small.pt"), device="cpu")
    assert model.spec.input_side == 1024


def test_weights_of_nano_load_by_path(tmp_path: Path) -> None:
    from napari_sam.models.nano.nano import write_weights
    from napari_sam.models.nano.network import NanoNetwork

    write_weights(NanoNetwork(), tmp_path / "mine.safetensors")
    model = load_model(tmp_path / "mine.safetensors", device="cpu")
    assert model.spec.input_side == find_model("nano").input_side


def test_a_known_file_gets_its_name_licence_and_citation(
    sam_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(sam_file.read_bytes()).hexdigest()
    known = dataclasses.replace(find_model("sam_vit_b"), sha256=sha256)
    monkeypatch.setattr(registry, "_KNOWN", (known,))
    spec = load_model(sam_file, device="cpu").spec
    assert (spec.name, spec.license) == ("sam_vit_b", "Apache-2.0")
    assert "Kirillov" in spec.citation


def test_a_cached_model_loads_by_name_once_verified(
    sam_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sam_file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    known = dataclasses.replace(find_model("sam_vit_b"), sha256=sha256)
    monkeypatch.setattr(registry, "_KNOWN", (known,))
    cache.mkdir()
    assert not known.cached
    known.path.write_bytes(content)
    assert known.cached
    assert load_model("sam_vit_b", device="cpu").spec.sha256 == sha256
    assert list(registry.download("sam_vit_b")) == [(len(content), len(content))]
    known.path.write_bytes(content[:-1] + b"x")
    with pytest.raises(CheckpointError, match="Delete it and load the model again"):
        load_model("sam_vit_b", device="cpu")


def test_a_model_that_is_not_here_is_not_fetched_offline() -> None:
    with pytest.raises(DownloadError, match="NAPARI_SAM_OFFLINE"):
        load_model("sam_vit_b", device="cpu")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'sam_vit_x'.*nano.*sam_vit_b"):
        load_model("sam_vit_x")


@pytest.mark.parametrize("name", ["weights.pth", "folder/weights", Path("weights")])
def test_a_path_that_does_not_exist_is_named(name: str | Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint file at"):
        load_model(name)


def test_another_architecture_is_refused_with_its_names(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"no known architecture.*conv1\.weight"):
        load_model(tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("efficient_sam", r"lacks the tensor .*rel_pos_h"),
        ("edge_sam", "no known architecture"),
        ("fast_sam", "no known architecture"),
    ],
)
def test_families_that_are_not_supported_are_refused(
    tmp_path: Path, family: str, says: str
) -> None:
    # EfficientSAM has SAM's names on a ViT without relative positions.
    own = {
        "efficient_sam": {
            "image_encoder.patch_embed.proj.weight": (192, 3, 16, 16),
            "image_encoder.pos_embed": (1, 197, 192),
            "image_encoder.blocks.0.attn.qkv.weight": (576, 192),
        },
        "edge_sam": {"image_encoder.features.0.0.c.weight": (48, 3, 3, 3)},
        "fast_sam": {"model.0.conv.weight": (80, 3, 3, 3)},
    }[family]
    state = {name: torch.zeros(shape) for name, shape in own.items()}
    torch.save({"model": state}, tmp_path / f"{family}.pt")
    with pytest.raises(CheckpointError, match=says):
        load_model(tmp_path / f"{family}.pt", device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xla"])
def test_an_unknown_or_absent_device_is_refused(sam_file: Path, device: str) -> None:
    with pytest.raises(ModelError, match="device"):
        load_model(sam_file, device=device)


def test_every_known_model_says_where_it_is_from_and_whom_to_cite() -> None:
    models = list_models()
    assert models[0].name == "nano"
    assert len({m.name for m in models}) == len({m.path for m in models}) == len(models)
    for model in models:
        assert model.family in registry.FAMILIES
        licences = {"Apache-2.0", "NOASSERTION"}
        assert model.license in licences or model.family == "fast_sam"
        assert model.citation and model.citation in model.notice
        if model.url:
            assert model.url.startswith("https://") and model.url in model.notice
            assert download.cache_folder() in model.path.parents


def test_every_published_hash_is_whole() -> None:
    digits = {"sha256": 64, "md5": 32, "xxh128": 32}
    unpublished = {"nano", "tinysam", "medsam", "hq_sam_light", "medsam2"}
    unpublished |= {"fast_sam_s", "fast_sam_x", "sam3"}
    for model in list_models():
        kind, _, value = model.digest.partition(":")
        assert (model.name in unpublished) == (not kind)
        if kind:
            assert len(value) == digits[kind] and int(value, 16)


def test_a_file_without_published_hash_is_fetched_by_hand() -> None:
    with pytest.raises(DownloadError, match=r"get https://github.*tinysam.*put it at"):
        load_model("tinysam", device="cpu")


def test_a_file_that_tensors_do_not_tell_is_known_by_prefix_or_name(
    sam_file: Path, tmp_path: Path
) -> None:
    plain = load_model(sam_file, device="cpu")
    assert plain.spec.prompts == {"points", "box", "mask"} and not plain.spec.stretches
    told = load_model(f"medsam:{sam_file}", device="cpu")
    assert told.spec.prompts == {"box"} and told.spec.stretches
    assert told.spec.sha256 == plain.spec.sha256  # so stores go by the revision
    assert told.spec.encoder_revision != plain.spec.encoder_revision
    (tmp_path / "MedSAM_vit_b.pth").symlink_to(sam_file)
    named = load_model(tmp_path / "MedSAM_vit_b.pth", device="cpu")
    assert named.spec.prompts == {"box"}
    forced = load_model(f"sam:{tmp_path / 'MedSAM_vit_b.pth'}", device="cpu")
    assert forced.spec.prompts == plain.spec.prompts


def test_families_that_share_tensors_are_told_by_name_alone() -> None:
    names = {
        "medsam_vit_b.pth": ("sam", "medsam"),
        "MedSAM2_latest.pt": ("sam2", "medsam2"),
        "medsam_lite.pth": ("mobile_sam", "mobile_sam"),
        "tinysam_42.3.pth": ("mobile_sam", "tinysam"),
        "sam2.1_hiera_tiny.pt": ("sam2", "sam2"),
        "my_medsam.pth": ("sam", "sam"),
    }
    for name, (architecture, family) in names.items():
        assert registry._family(architecture, Path(name)) == family


def test_a_model_from_a_file_says_how_to_load_it_again(sam_file: Path) -> None:
    first = load_model(f"medsam:{sam_file}", device="cpu")
    again = load_model(first.spec.source, device="cpu")
    assert again.spec == first.spec


def test_the_wrong_family_for_a_file_is_refused(sam_file: Path) -> None:
    with pytest.raises(CheckpointError, match="holds a network of sam; tinysam needs"):
        load_model(f"tinysam:{sam_file}", device="cpu")


@pytest.mark.parametrize("layout", ["plain", "torch_em"])
def test_micro_sam_checkpoints_load_in_both_layouts(
    sam_file: Path, tmp_path: Path, layout: str
) -> None:
    state = torch.load(sam_file, weights_only=True)
    if layout == "torch_em":
        decoder = {"decoder.out.weight": torch.zeros(3)}
        model_state = {f"sam.{k}": v for k, v in state.items()}
        state = {"model_state": model_state, "decoder_state": decoder, "epoch": 3}
    torch.save(state, tmp_path / "best.pt")
    model = load_model(tmp_path / "best.pt", device="cpu")
    assert model.spec.feature_shapes == {"image_embedding": (64, 16, 16)}


def test_the_hash_of_an_unpublished_file_is_recorded_at_first_use(
    sam_file: Path, cache: Path
) -> None:
    known = find_model("medsam")
    cache.mkdir()
    known.path.write_bytes(sam_file.read_bytes())
    spec = load_model("medsam", device="cpu").spec
    assert (spec.name, spec.prompts) == ("medsam", {"box"})
    assert spec.sha256 == hashlib.sha256(sam_file.read_bytes()).hexdigest()
    known.path.write_bytes(sam_file.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"Delete it and .*verified\.json"):
        load_model("medsam", device="cpu")


def test_a_file_of_another_hash_than_published_is_refused_at_first_use(
    sam_file: Path, cache: Path
) -> None:
    cache.mkdir()
    find_model("hq_sam_vit_b").path.write_bytes(sam_file.read_bytes())
    with pytest.raises(CheckpointError, match="published c6b8953247bcfdc8bb8e"):
        load_model("hq_sam_vit_b", device="cpu")


def test_listing_models_imports_no_torch() -> None:
    code = (
        "import sys; from napari_sam.models.registry import list_models; "
        "[m.cached for m in list_models()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
