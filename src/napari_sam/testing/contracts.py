"""What every model and every embedding store must do, as tests to inherit.

A test module subclasses a contract and says how to make its subject::

    from napari_sam.testing import ModelContract


    class TestMyModel(ModelContract):
        def make_model(self):
            return MyModel()

Needs pytest.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_sam.core.embedding import Embedding, EmbeddingSignature
from napari_sam.core.masks import MaskCandidate, crop_mask, mask_iou
from napari_sam.core.prompts import WindowPrompts
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import NapariSamError, SignatureError, StoreError
from napari_sam.models.protocol import PromptableModel
from napari_sam.testing.phantoms import Phantom, phantom_image

if TYPE_CHECKING:
    from pathlib import Path

    from napari_sam.embeddings.store import EmbeddingStore


def click(
    *points: tuple[float, float], labels: Any = None, **more: Any
) -> WindowPrompts:
    """Return point prompts in window pixels, all positive unless labels are given."""
    given = np.ones(len(points), np.int64) if labels is None else np.asarray(labels)
    return WindowPrompts(np.array(points, np.float64), given, **more)


class ModelContract:
    """Tests for a `PromptableModel`, with trained weights or random ones.

    Override `make_model`. With weights that find bright ellipses on a dark ground, set
    `min_iou`, and the masks are compared with the phantom's.
    """

    min_iou: float | None = None
    """Least IoU for a click on and a box around each phantom object; None: untested."""
    half_iou = 0.99
    """Least IoU between masks from float32 features and from float16 ones."""

    def make_model(self) -> PromptableModel:
        """Return the model under test; called once a class."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> PromptableModel:
        """Model under test."""
        return cls().make_model()

    @pytest.fixture(scope="class")
    @classmethod
    def phantom(cls, model: PromptableModel) -> Phantom:
        """Phantom of the model's input size."""
        side = model.spec.input_side
        return phantom_image((side, side), n_objects=4)

    @pytest.fixture(scope="class")
    @classmethod
    def embedding(cls, model: PromptableModel, phantom: Phantom) -> Embedding:
        """Embedding of the phantom."""
        return model.encode(_rgb(phantom.image)[None])[0]

    def test_follows_the_protocol(self, model: PromptableModel) -> None:
        """The methods exist and the description says what a user must know."""
        assert isinstance(model, PromptableModel)
        assert model.spec.name
        assert model.spec.prompts <= {"points", "box", "mask", "text"}
        assert model.spec.mask_side <= model.spec.input_side

    def test_features_have_the_shapes_of_the_spec(
        self, model: PromptableModel, embedding: Embedding
    ) -> None:
        """Names, shapes and dtypes are those a store makes room for."""
        shapes = {name: a.shape for name, a in embedding.features.items()}
        assert shapes == dict(model.spec.feature_shapes)
        dtypes = {a.dtype.name for a in embedding.features.values()}
        assert dtypes <= {"float32", "float16"}
        assert all(np.isfinite(a).all() for a in embedding.features.values())

    def test_features_fit_float16(self, embedding: Embedding) -> None:
        """No value lies beyond what a float16 store can hold."""
        assert all(np.abs(a).max() <= 65504 for a in embedding.features.values())

    def test_batch_is_encoded_like_single_windows(
        self, model: PromptableModel, phantom: Phantom
    ) -> None:
        """A window's features do not depend on its neighbours in the batch."""
        windows = np.stack([_rgb(phantom.image), _rgb(phantom.image[::-1])])
        together = model.encode(windows)
        assert len(together) == 2
        for window, one in zip(windows, together, strict=True):
            alone = model.encode(window[None])[0]
            for name, values in alone.features.items():
                difference = np.abs(values - one.features[name]).max()
                assert difference <= 1e-3 * max(1.0, np.abs(values).max())

    def test_encode_refuses_what_is_not_uint8_rgb(self, model: PromptableModel) -> None:
        """Raw intensities must not slip through as if they were mapped."""
        side = model.spec.input_side
        with pytest.raises(NapariSamError):
            model.encode(np.zeros((1, side, side, 3), np.float32))
        with pytest.raises(NapariSamError):
            model.encode(np.zeros((1, side, side), np.uint8))

    def test_lone_click_gives_alternatives_best_first(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """Three candidates or so, sorted by the model's own estimate."""
        found = model.decode(embedding, click(phantom.center(1)))  # type: ignore[arg-type]
        scores = [c.predicted_iou for c in found]
        assert len(found) > 1
        assert scores == sorted(scores, reverse=True)

    def test_candidates_are_tight_crops_inside_the_window(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """The bbox touches the mask on all sides; logits have the spec's size."""
        for prompts in self._prompts(model, embedding, phantom):
            for candidate in model.decode(embedding, prompts):
                _check_candidate(candidate, embedding, model.spec.mask_side)

    def test_decode_many_equals_decode(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """Batching prompts of all kinds changes no mask."""
        prompts = self._prompts(model, embedding, phantom)
        together = model.decode_many(embedding, prompts)
        assert len(together) == len(prompts)
        for given, many in zip(prompts, together, strict=True):
            single = model.decode(embedding, given)
            assert len(single) == len(many)
            for a, b in zip(single, many, strict=True):
                assert abs(a.predicted_iou - b.predicted_iou) <= 1e-3
                assert _iou(a, b, embedding) >= 0.99

    def test_decode_many_of_nothing_is_nothing(
        self, model: PromptableModel, embedding: Embedding
    ) -> None:
        """No prompts, no answers, no error."""
        assert model.decode_many(embedding, []) == []

    def test_float16_features_give_the_same_masks(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """What went through a float16 store decodes alike."""
        half = {k: v.astype(np.float16) for k, v in embedding.features.items()}
        stored = Embedding(half, embedding.original_size)
        for prompts in self._prompts(model, embedding, phantom):
            best = model.decode(embedding, prompts)[0]
            others = model.decode(stored, prompts)
            assert max(_iou(best, c, embedding) for c in others) >= self.half_iou

    def test_decoding_leaves_the_embedding_alone(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """Embeddings are shared between clicks, so nobody writes into them."""
        before = {k: v.copy() for k, v in embedding.features.items()}
        model.decode(embedding, click(phantom.center(1)))  # type: ignore[arg-type]
        for name, values in embedding.features.items():
            np.testing.assert_array_equal(values, before[name])

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (7, 5), (33, 64)])
    def test_thin_and_tiny_windows_work(
        self, model: PromptableModel, shape: tuple[int, int]
    ) -> None:
        """One pixel is an image too; masks keep to it."""
        h, w = (min(n, model.spec.input_side) for n in shape)
        pixels = np.full((1, h, w, 3), 90, np.uint8)
        embedding = model.encode(pixels)[0]
        assert embedding.original_size == (h, w)
        for candidate in model.decode(embedding, click((h // 2, w // 2))):
            _check_candidate(candidate, embedding, model.spec.mask_side)

    def test_mask_input_of_another_size_is_refused(
        self, model: PromptableModel, embedding: Embedding
    ) -> None:
        """Logits of another model or frame must not be stretched silently."""
        if "mask" not in model.spec.prompts:
            pytest.skip("this model takes no masks")
        wrong = np.zeros((model.spec.mask_side + 1,) * 2, np.float32)
        with pytest.raises(NapariSamError):
            model.decode(embedding, click((3, 3), mask_input=wrong))

    def test_masks_match_the_phantom(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> None:
        """Clicks and boxes find the objects that were drawn."""
        if self.min_iou is None:
            pytest.skip("this subject makes no promise on phantoms (min_iou is None)")
        for object_id in range(1, phantom.n_objects + 1):
            truth = phantom.labels == object_id
            y0, x0, y1, x1 = phantom.box(object_id)
            box = WindowPrompts(box=(y0, x0, y1, x1), multimask_output=False)
            for prompts in (click(phantom.center(object_id)), box):  # type: ignore[arg-type]
                best = model.decode(embedding, prompts)[0]
                assert mask_iou(best.full(truth.shape), truth) >= self.min_iou

    def _prompts(
        self, model: PromptableModel, embedding: Embedding, phantom: Phantom
    ) -> list[WindowPrompts]:
        center, other = (tuple(map(float, phantom.center(i))) for i in (1, 2))
        y0, x0, y1, x1 = phantom.box(1)
        first = click(center)  # type: ignore[arg-type]
        out = [first, click(center, other, labels=[1, 0], multimask_output=False)]  # type: ignore[arg-type]
        if "box" in model.spec.prompts:
            out.append(WindowPrompts(box=(y0, x0, y1, x1), multimask_output=False))
        if "mask" in model.spec.prompts:
            logits = model.decode(embedding, first)[0].low_res_logits
            out.append(replace(first, mask_input=logits, multimask_output=False))
        return out


SOURCE = 0x89ABCDEF
"""Checksum of the pixels that the tiles of `StoreContract` are said to be of."""


class StoreContract:
    """Tests for an embedding store on some storage.

    Override `open_store`; each call opens the same place anew.
    """

    grid = TileGrid.of((150, 90), 64)
    n_planes = 3
    shapes = {"small": (3, 4, 4), "large": (5, 8, 8)}  # noqa: RUF012

    def open_store(
        self, place: Path, signature: EmbeddingSignature, mode: str
    ) -> EmbeddingStore:
        """Open the store under test, in a folder that is empty at first."""
        raise NotImplementedError

    @staticmethod
    def signature(**changes: Any) -> EmbeddingSignature:
        """Return a signature, with some fields changed."""
        made = EmbeddingSignature(
            "toy",
            "0" * 64,
            "1",
            64,
            16,
            3,
            (1.0, 1.0),
            0,
            {"gamma": 1.0},
            {"uri": "a.tif"},
        )
        return replace(made, **changes)

    def embedding(self, seed: int = 0) -> Embedding:
        """Return random features of the store's shapes."""
        rng = np.random.default_rng(seed)
        made = {
            k: rng.normal(size=s).astype(np.float32) for k, s in self.shapes.items()
        }
        return Embedding(made, (64, 64))

    def test_new_store_is_empty(self, tmp_path: Path) -> None:
        """Nothing counts before it was put."""
        store = self.open_store(tmp_path, self.signature(), "a")
        assert store.count() == (0, self.n_planes * self.grid.n_tiles())
        assert store.get(0, self.grid.tile(0, 0, 0)) is None
        assert not store.has(0, self.grid.tile(0, 0, 0))
        assert store.numbers(0) == frozenset()

    def test_tiles_come_back_as_they_went_in(self, tmp_path: Path) -> None:
        """Rounded to float16 once; bit for bit the same for the next process."""
        tile, given = self.grid.tile(0, 1, 0), self.embedding()
        store = self.open_store(tmp_path, self.signature(), "a")
        store.put(2, tile, given, SOURCE)
        store.close()
        again = self.open_store(tmp_path, self.signature(), "r")
        for found in (store.get(2, tile), again.get(2, tile)):
            assert found is not None
            assert found.original_size == (tile.window.h, tile.window.w)
            for name, values in given.features.items():
                np.testing.assert_array_equal(
                    found.features[name], values.astype(np.float16)
                )

    def test_only_what_was_put_is_present(self, tmp_path: Path) -> None:
        """Tiles and planes are told apart."""
        tile = self.grid.tile(1, 0, 0)
        store = self.open_store(tmp_path, self.signature(), "a")
        store.put(1, tile, self.embedding(), SOURCE)
        assert store.numbers(1) == {tile.number}
        assert store.numbers(0) == frozenset()
        assert store.count()[0] == 1
        present = [
            (plane, t.number)
            for plane in range(self.n_planes)
            for t in self.grid.tiles()
            if store.has(plane, t)
        ]
        assert present == [(1, tile.number)]

    def test_signatures_live_side_by_side(self, tmp_path: Path) -> None:
        """A second model does not disturb the first one's tiles."""
        tile, other = self.grid.tile(0, 0, 0), self.signature(model="other")
        with self.open_store(tmp_path, self.signature(), "a") as store:
            store.put(0, tile, self.embedding(1), SOURCE)
        with self.open_store(tmp_path, other, "a") as store:
            assert not store.has(0, tile)
            store.put(0, tile, self.embedding(2), SOURCE)
        first = self.open_store(tmp_path, self.signature(), "r").get(0, tile)
        second = self.open_store(tmp_path, other, "r").get(0, tile)
        assert first is not None
        assert second is not None
        assert not np.array_equal(first.features["small"], second.features["small"])

    def test_other_signature_is_refused_by_name(self, tmp_path: Path) -> None:
        """The message says which field differs, and how."""
        self.open_store(tmp_path, self.signature(), "a").close()
        with pytest.raises(SignatureError, match=r"encoder_revision.*'9'.*'1'"):
            self.open_store(tmp_path, self.signature(encoder_revision="9"), "r")

    def test_tiles_serve_the_pixels_they_were_made_from(self, tmp_path: Path) -> None:
        """For the next process, too; of others they count as not there."""
        tile = self.grid.tile(0, 0, 0)
        store = self.open_store(tmp_path, self.signature(), "a")
        store.put(0, tile, self.embedding(1), SOURCE)
        again = self.open_store(tmp_path, self.signature(), "a")
        assert not again.is_checked(0, tile)
        for one in (store, again):
            assert one.get(0, tile, SOURCE + 1) is None
            assert not one.check(0, tile, SOURCE + 1)
            assert not one.is_checked(0, tile)
            assert one.check(0, tile, SOURCE)
            assert one.get(0, tile, SOURCE) is not None
            assert one.is_checked(0, tile)
        again.put(0, tile, self.embedding(2), SOURCE + 1)
        third = self.open_store(tmp_path, self.signature(), "a")
        assert third.check(0, tile, SOURCE + 1)
        store.put(0, tile, self.embedding(3), SOURCE)
        assert third.get(0, tile) is None  # it had been compared, and was replaced
        again.put(0, tile, self.embedding(2), SOURCE + 1)
        found = self.open_store(tmp_path, self.signature(), "r")
        assert found.get(0, tile, SOURCE) is None
        new = found.get(0, tile, SOURCE + 1)
        assert new is not None
        small = self.embedding(2).features["small"].astype(np.float16)
        np.testing.assert_array_equal(new.features["small"], small)

    def test_discarded_tile_is_gone(self, tmp_path: Path) -> None:
        """It can be put again."""
        tile = self.grid.tile(0, 0, 0)
        store = self.open_store(tmp_path, self.signature(), "a")
        store.put(0, tile, self.embedding(1), SOURCE)
        store.discard(0, tile)
        assert not store.has(0, tile)
        assert store.get(0, tile) is None
        assert store.count()[0] == 0
        store.put(0, tile, self.embedding(2), SOURCE)
        assert store.has(0, tile)

    def test_reader_does_not_write(self, tmp_path: Path) -> None:
        """Mode "r" says so and refuses."""
        self.open_store(tmp_path, self.signature(), "a").close()
        store = self.open_store(tmp_path, self.signature(), "r")
        assert not store.writable
        with pytest.raises(StoreError, match="opened for reading"):
            store.put(0, self.grid.tile(0, 0, 0), self.embedding(), SOURCE)

    def test_features_of_another_shape_are_refused(self, tmp_path: Path) -> None:
        """And leave no trace."""
        store = self.open_store(tmp_path, self.signature(), "a")
        wrong = Embedding({"small": np.zeros((3, 4, 5), np.float32)}, (64, 64))
        with pytest.raises(StoreError, match="must have shape"):
            store.put(0, self.grid.tile(0, 0, 0), wrong, SOURCE)
        assert store.count()[0] == 0

    def test_signature_survives_json(self) -> None:
        """Its name does not depend on how it was written down."""
        made = self.signature()
        again = EmbeddingSignature.from_json(json.loads(json.dumps(made.to_json())))
        assert again.key == made.key


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.repeat(image[..., None], 3, 2))


def _iou(a: MaskCandidate, b: MaskCandidate, embedding: Embedding) -> float:
    shape = embedding.original_size
    return float(mask_iou(a.full(shape), b.full(shape)))


def _check_candidate(
    candidate: MaskCandidate, embedding: Embedding, mask_side: int
) -> None:
    bbox, mask = crop_mask(candidate.full(embedding.original_size))
    assert candidate.bbox == bbox
    assert candidate.mask.dtype == bool
    np.testing.assert_array_equal(candidate.mask, mask)
    assert candidate.low_res_logits.shape == (mask_side, mask_side)
    assert candidate.low_res_logits.dtype == np.float32
    assert 0 <= candidate.stability_score <= 1
