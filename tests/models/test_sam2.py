"""SAM 2 against what its authors' code gave for the same seeded weights."""

from __future__ import annotations

import builtins
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from sam2_reference import CASES, GOLDEN, mini, mini_state, shapes, window
from seeded_weights import seeded_state

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts, WindowPrompts
from napari_sam.core.tiles import Window
from napari_sam.embeddings.encode import encode_volume
from napari_sam.embeddings.opening import open_store
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.errors import CheckpointError, DownloadError, ModelError
from napari_sam.models import checkpoints, registry
from napari_sam.models.checkpoints import Checkpoint
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam2 import keys as sam2_keys
from napari_sam.models.sam2 import sam2
from napari_sam.testing import ModelContract
from napari_sam.volume.opening import open_volume
from napari_sam.volume.volume import Volume

FEATURES = {"fine_4", "fine_8", "image_embedding"}
CLICK = WindowPrompts(np.array([[40.0, 30.0]]), np.array([1]))


@pytest.fixture(scope="module")
def model() -> sam2.Sam2:
    return mini()


@pytest.fixture(scope="module")
def embedding(model: sam2.Sam2) -> Embedding:
    return model.encode(window()[None])[0]


class TestSam2(ModelContract):
    def make_model(self) -> sam2.Sam2:
        return mini()


def test_frame_is_stretched_and_filtered_as_the_authors_do() -> None:
    frame = sam2.stretched_frame(window(), 128)
    assert frame.shape == (3, 128, 128)
    np.testing.assert_allclose(frame[:, ::8, ::8], GOLDEN["frame"], atol=2e-6)


def test_a_window_larger_than_the_frame_is_averaged() -> None:
    from PIL import Image

    image = window(1, 300, 410)
    bands = [Image.fromarray(image[..., c].astype(np.float32)) for c in range(3)]
    small = [b.resize((64, 64), Image.Resampling.BILINEAR) for b in bands]
    pixels = np.stack([np.asarray(b) for b in small], -1) / 255
    expected = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    frame = sam2.stretched_frame(image, 64)
    np.testing.assert_allclose(frame.permute(1, 2, 0), expected, atol=1e-5)


def test_medsam2_frame_is_filtered_by_pillow_s_bicubic() -> None:
    from PIL import Image

    image = window(1)
    resized = np.asarray(Image.fromarray(image).resize((64, 64))) / 255.0
    expected = (resized - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    frame = sam2.stretched_frame(image, 64, bicubic=True)
    np.testing.assert_allclose(frame.permute(1, 2, 0), expected, atol=2e-6)


def test_features_equal_the_authors(model: sam2.Sam2, embedding: Embedding) -> None:
    for name in ("fine_4", "fine_8"):
        sample = embedding.features[name][:, ::2, ::2]
        assert np.abs(sample - GOLDEN[name]).max() <= 1e-4 / 2
    with_mark = embedding.features["image_embedding"] + (
        mini_state()["no_mem_embed"].numpy().reshape(-1, 1, 1)
    )
    difference = np.abs(with_mark - GOLDEN["image_embedding_with_no_mem"]).max()
    assert difference <= 1e-4 / 2


@pytest.mark.parametrize("case", CASES)
def test_masks_equal_the_authors(
    model: sam2.Sam2, embedding: Embedding, case: str
) -> None:
    found = model.decode(embedding, CASES[case])
    iou, low = GOLDEN[f"{case}_iou"], GOLDEN[f"{case}_low"]
    masks = np.unpackbits(GOLDEN[f"{case}_mask"], count=len(iou) * 90 * 70)
    masks = masks.reshape(-1, 90, 70).astype(bool)
    assert len(found) == len(iou)
    for candidate, k in zip(found, np.argsort(-iou), strict=True):
        assert abs(candidate.predicted_iou - iou[k]) <= 1e-5
        assert np.abs(candidate.low_res_logits - low[k]).max() <= 5e-5
        assert (candidate.full((90, 70)) != masks[k]).sum() <= 2


def test_norms_have_the_epsilons_of_the_authors_code(model: sam2.Sam2) -> None:
    # Hiera's, and the two-dimensional ones of prompts, masks and memory, have 1e-6.
    fine = ("vision_encoder.", "prompt_encoder.", "memory_encoder.")
    found = {"1e-05": 0, "1e-06": 0}
    for name, module in model.network.model.named_modules():
        if isinstance(module, torch.nn.LayerNorm):
            upscaling = name == "mask_decoder.upscale_layer_norm"
            expected = 1e-6 if name.startswith(fine) or upscaling else 1e-5
            assert module.eps == expected, name
            found[str(module.eps)] += 1
    assert min(found.values()) > 5


@pytest.mark.full_size
@pytest.mark.parametrize(("size", "side"), [("t", 1024), ("t512", 512)])
def test_published_sizes_equal_the_authors(size: str, side: int) -> None:
    state = seeded_state(shapes("t"))
    spec = ModelSpec(size, 0, {}, 0, "")
    model = sam2.from_checkpoint(Checkpoint(Path(size), state), spec, "cpu", side=side)
    image = window(0, side, side)
    with torch.inference_mode():
        frame = sam2.stretched_frame(image, side)[None]
        maps = {k: v[0].numpy() for k, v in model.network.encode(frame).items()}
    golden = {k: GOLDEN[f"full_{size}_{k}"] for k in (*maps, "iou", "low")}
    marked = maps["image_embedding"] + state["no_mem_embed"].numpy().reshape(-1, 1, 1)
    for name, sample in (
        ("fine_4", maps["fine_4"][::8, ::16, ::16]),
        ("fine_8", maps["fine_8"][::8, ::16, ::16]),
        ("image_embedding", marked[::8, ::8, ::8]),
    ):
        assert np.abs(sample - golden[name]).max() <= 1e-4
    h, w = image.shape[:2]
    at = np.array([[0.6 * side, 0.4 * side]])
    click = WindowPrompts(at, np.array([1]))
    found = model.decode(Embedding(maps, (h, w)), click)
    for candidate, k in zip(found, np.argsort(-golden["iou"]), strict=True):
        assert abs(candidate.predicted_iou - golden["iou"][k]) <= 1e-5
        sample = candidate.low_res_logits[::8, ::8]
        assert np.abs(sample - golden["low"][k]).max() <= 5e-5


def test_embedding_holds_three_maps_and_no_position_encodings(
    model: sam2.Sam2, embedding: Embedding
) -> None:
    found = {k: v.shape for k, v in embedding.features.items()}
    assert found == dict(model.spec.feature_shapes)
    assert found == {
        "fine_4": (16, 32, 32), "fine_8": (32, 16, 16), "image_embedding": (128, 8, 8),
    }  # fmt: skip
    # Of the published sizes: 32 at 256^2, 64 at 128^2, 256 at 64^2, 8.4 MB in float16.
    assert embedding.nbytes * (256 // 128) * (1024 // 128) ** 2 // 2 == 8_388_608


@pytest.mark.parametrize("case", CASES)
def test_masks_from_a_float16_store_equal_those_decoded_at_once(
    model: sam2.Sam2, embedding: Embedding, case: str
) -> None:
    half = {k: v.astype(np.float16) for k, v in embedding.features.items()}
    direct = model.decode(embedding, CASES[case])
    stored = model.decode(Embedding(half, embedding.original_size), CASES[case])
    for a, b in zip(direct, stored, strict=True):
        assert mask_iou(a.full((90, 70)), b.full((90, 70))) >= 0.99


@pytest.mark.parametrize(("precision", "iou"), [("float16", 0.99), ("bfloat16", 0.98)])
def test_encoding_in_half_the_width_gives_the_same_masks(
    model: sam2.Sam2, embedding: Embedding, precision: str, iou: float
) -> None:
    half = mini()
    half.encode_in(precision)
    assert half.spec.encoder_revision != model.spec.encoder_revision
    features = half.encode(window()[None])[0]
    for case in ("point", "box", "box_points"):
        a, b = (model.decode(e, CASES[case])[0] for e in (embedding, features))
        assert mask_iou(a.full((90, 70)), b.full((90, 70))) >= iou


def test_embeddings_go_through_a_store_on_disk(
    model: sam2.Sam2, tmp_path: Path
) -> None:
    volume = open_volume(np.stack([window(0)[..., 0], window(1)[..., 0]]))
    store = open_store(volume, model, tmp_path / "store")
    list(encode_volume(volume, model, store))
    assert {p.name for p in (tmp_path / "store").rglob("*") if p.name in FEATURES} == (
        FEATURES
    )
    plane = Plane.of(volume.shape, 1)
    made = Engine.of(volume, model)
    stored = Engine.of(
        volume,
        model,
        stores=lambda axis: open_store(volume, model, tmp_path / "store", mode="r"),
    )
    prompts = Prompts.of(points=[(40, 30)])
    first, second = (predict(p, prompts, plane) for p in (made, stored))
    for a, b in zip(first.candidates, second.candidates, strict=True):
        np.testing.assert_array_equal(a.full((90, 70)), b.full((90, 70)))
        np.testing.assert_array_equal(a.low_res_logits, b.low_res_logits)
    with torch.inference_mode():
        direct = model.decode(model.encode(volume_rgb(volume, plane)[None])[0], CLICK)
    for a, b in zip(direct, second.candidates, strict=True):
        assert mask_iou(a.full((90, 70)), b.full((90, 70))) >= 0.99


def volume_rgb(volume: Volume, plane: Plane) -> np.ndarray:
    return volume.intensity.apply(volume.read(plane, Window(0, 0, 0, 90, 70)))


def test_each_prompt_of_a_batch_has_its_own_mask(
    model: sam2.Sam2, embedding: Embedding
) -> None:
    prompts = [
        WindowPrompts(box=box, mask_input=mask, multimask_output=False)
        for box, mask in (
            ((5, 5, 40, 40), np.full((32, 32), 4.0, np.float32)),
            ((30, 20, 80, 60), np.full((32, 32), -4.0, np.float32)),
        )
    ]
    with torch.inference_mode():
        resize = model._resize((90, 70))
        batch = model._batch(prompts, resize)
        image = model._prepare(embedding)
        together, _ = model.network.decode(image, batch, multimask_output=False)
    for one, prompt in zip(together, prompts, strict=True):
        alone = model.decode(embedding, prompt)[0].low_res_logits
        assert np.abs(one[0].numpy() - alone).max() <= 5e-5
    assert (together[0] - together[1]).abs().max() > 0.1


def test_low_resolution_logits_are_cut_but_masks_are_not(
    model: sam2.Sam2, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    steep = torch.full((1, 1, 32, 32), -33.0)
    steep[..., 16:] = 400.0
    answer = steep, torch.ones(1, 1)
    monkeypatch.setattr(model.network, "decode", lambda *_, **__: answer)
    found = model.decode(embedding, CASES["box"])[0]
    assert (found.low_res_logits.min(), found.low_res_logits.max()) == (-32, 32)
    # Between -33 and 400 zero lies near the first; between -32 and 32 in the middle.
    assert found.bbox[1] == 34


@pytest.mark.parametrize("size", ["t", "s", "b+", "l", "2.0_t"])
def test_every_official_tensor_has_its_place(size: str) -> None:
    from transformers import Sam2VideoModel

    state = {k: torch.empty(v, device="meta") for k, v in shapes(size).items()}
    renamed = sam2_keys.to_transformers(Checkpoint(Path(size), state))
    config = sam2_keys.config_for(renamed, 1024)
    with torch.device("meta"):
        own = Sam2VideoModel(config).state_dict()
    given = {k: v.shape for k, v in renamed.state.items()}
    assert given == {k: v.shape for k, v in own.items()}


def test_sizes_tell_the_published_encoders_apart() -> None:
    found = {}
    for size in ("t", "s", "b+", "l"):
        state = {k: torch.empty(v, device="meta") for k, v in shapes(size).items()}
        checkpoint = sam2_keys.to_transformers(Checkpoint(Path(size), state))
        backbone = sam2_keys.config_for(checkpoint, 1024).vision_config.backbone_config
        found[size] = (
            backbone.hidden_size,
            backbone.num_attention_heads,
            backbone.blocks_per_stage,
            backbone.global_attention_blocks,
            backbone.window_size_per_stage,
            backbone.window_positional_embedding_background_size,
        )
    windows = [8, 4, 14, 7]
    assert found == {
        "t": (96, 1, [1, 2, 7, 2], [5, 7, 9], windows, [7, 7]),
        "s": (96, 1, [1, 2, 11, 2], [7, 10, 13], windows, [7, 7]),
        "b+": (112, 2, [2, 3, 16, 3], [12, 16, 20], windows, [14, 14]),
        "l": (144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], [7, 7]),
    }


def test_a_file_saved_by_transformers_is_the_same_model(
    model: sam2.Sam2, embedding: Embedding
) -> None:
    state = dict(model.network.model.state_dict())
    del state["prompt_encoder.shared_embedding.positional_embedding"]  # kept once
    again = mini(state)
    features = again.encode(window()[None])[0].features
    for name, values in embedding.features.items():
        np.testing.assert_array_equal(features[name], values)
    first = again.decode(embedding, CLICK)[0].low_res_logits
    np.testing.assert_array_equal(
        first, model.decode(embedding, CLICK)[0].low_res_logits
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("memory_attention.norm.bias", None, r"1 missing: memory_attention\.layer_n"),
        ("sam_mask_decoder.conv_s2.bias", torch.zeros(3), r"1 unexpected: mask_dec"),
        ("sam_prompt_encoder.point_embeddings.2.weight", None, "point_embed"),
        ("image_encoder.trunk.patch_embed.proj.bias", torch.zeros(3), "another shape"),
        ("memory_encoder.mask_downsampler.encoder.2.bias", torch.zeros(1), "1 unexp"),
    ],
)
def test_a_wrong_tensor_is_named(
    name: str, value: torch.Tensor | None, message: str
) -> None:
    state = {k: v for k, v in {**mini_state(), name: value}.items() if v is not None}
    with pytest.raises(CheckpointError, match=message):
        mini(state)


def test_an_encoder_of_no_published_size_is_refused() -> None:
    checkpoint = sam2_keys.to_transformers(Checkpoint(Path("odd.pt"), mini_state()))
    with pytest.raises(CheckpointError, match=r"16 wide with blocks \[1, 2, 3, 2\]"):
        sam2_keys.config_for(checkpoint, 1024)


def test_constants_that_no_file_holds_are_computed(model: sam2.Sam2) -> None:
    attention = model.network.model.memory_attention
    fresh = dict(type(attention)(model.network.config).named_buffers())
    assert sorted(fresh) == [
        "position_ids", "rotary_emb.inv_freq", "rotary_emb.original_inv_freq",
    ]  # fmt: skip
    for name, value in attention.named_buffers():
        assert torch.equal(value, fresh[name])


def test_without_transformers_the_way_to_get_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="pip install transformers"):
        mini()
    with pytest.raises(ModelError, match="pip install transformers"):
        registry.load_model("sam2.1_hiera_t")  # before anything is downloaded


def test_transformers_is_imported_only_when_a_model_is_built() -> None:
    code = (
        "import sys, napari_sam.models.sam2.sam2, napari_sam.models.registry as r;"
        "r.list_models(); print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_transformers_does_not_bring_torchvision(model: sam2.Sam2) -> None:
    assert "torchvision" not in sys.modules


class TestFiles:
    """Files of the authors' layout, by path and by name."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from sam2_reference import MINI

        monkeypatch.setattr(sam2_keys, "HIERAS", {(16, (1, 2, 3, 2)): MINI})

    def save(self, path: Path) -> Path:
        torch.save({"model": mini_state()}, path)
        return path

    def test_a_checkpoint_loads_by_path(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "my_sam2.pt")
        spec = registry.load_model(path, device="cpu").spec
        assert (spec.name, spec.input_side, spec.mask_side) == ("my_sam2", 1024, 256)
        assert spec.stretches
        assert spec.sha256 == checkpoints.file_sha256(path)
        assert spec.feature_shapes["fine_4"] == (16, 256, 256)

    def test_a_file_named_as_medsam2_s_has_its_side(self, tmp_path: Path) -> None:
        path = self.save(tmp_path / "MedSAM2_CTLesion.pt")
        model = registry.load_model(path, device="cpu")
        assert (model.spec.input_side, model.spec.mask_side) == (512, 128)
        side = model.network.config.memory_attention_rope_feat_sizes  # type: ignore[attr-defined]
        assert side == [32, 32]

    def test_a_file_without_a_published_hash_is_remembered_as_first_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
        with pytest.raises(DownloadError, match=r"get https://.* and put it at"):
            registry.load_model("medsam2", device="cpu")
        path = self.save(registry.find_model("medsam2").path)
        spec = registry.load_model("medsam2", device="cpu").spec
        assert (spec.name, spec.input_side) == ("medsam2", 512)
        torch.save({"model": {**mini_state(), "no_mem_embed": torch.ones(128)}}, path)
        with pytest.raises(CheckpointError, match=r"Delete it and .*verified\.json"):
            registry.load_model("medsam2", device="cpu")

    def test_a_pickled_module_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.pt"
        torch.save({"model": {"image_encoder.x": builtins.print}}, path)
        with pytest.raises(CheckpointError):
            registry.load_model(path, device="cpu")


def test_published_models_are_known_by_name() -> None:
    known = {
        m.name: m for m in registry.list_models() if m.family in ("sam2", "medsam2")
    }
    sizes = ("t", "s", "b+", "l")
    assert set(known) == {
        "medsam2", *(f"{v}_hiera_{s}" for v in ("sam2", "sam2.1") for s in sizes),
    }  # fmt: skip
    assert len({m.path for m in known.values()}) == len(known)
    for m in known.values():
        assert "arXiv" in m.citation
        assert len(m.sha256) == (0 if m.name == "medsam2" else 64)


def test_models_are_listed_from_the_smallest() -> None:
    sizes = [m.size_bytes for m in registry.list_models()]
    assert sizes == sorted(sizes)
