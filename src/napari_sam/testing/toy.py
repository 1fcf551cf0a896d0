"""A promptable model without weights: regions of one colour around the prompts."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.embedding import Embedding
from napari_sam.core.masks import MaskCandidate, crop_mask, stability_score
from napari_sam.errors import ModelError, PromptError
from napari_sam.models.protocol import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.prompts import WindowPrompts

_STEEPNESS = 8.0
"""Logit of a pixel that has exactly the seed's colour."""
_NESTED = ((1.0, 0.0), (0.5, 0.02), (2.0, 0.04))
"""Tolerance of each candidate as a share of the model's, and what its score loses."""


class ToyModel:
    """A deterministic `PromptableModel` for tests, demonstrations and teaching.

    The embedding holds the window's colours; decoding returns the connected pixels
    whose colour is within a tolerance of the prompted one. Three nested candidates
    come from half, one and two times `tolerance`. A mask depends only on the pixels
    of its object, never on where the window lies, as long as the window holds the
    object whole (with `stride` 2: as long as windows start at even pixels).

    - Each positive point adds the region of its colour.
    - A negative point inside that region takes the pixels nearer to it than to any
      positive point; elsewhere it changes nothing.
    - A box bounds the mask; without positive points it also says what to look for:
      the middle colour of its central half.
    - `mask_input` adds the regions of its middle colour that it covers by half.

    Parameters
    ----------
    input_side : int
        Side of the frame and of tiles, in pixels; a multiple of `stride`.
    stride : int
        Pixels averaged on each axis before they are stored: 1 or 2.
    tolerance : float
        Largest difference of colour within an object, in grey levels of 0..255.
    mask_side : int, optional
        Side of `low_res_logits`; a quarter of the input side by default.
    delay_s : float
        Seconds that encoding one window takes, to test progress and cancelling.
    dtype : str
        dtype of the features, "float32" or "float16".

    Attributes
    ----------
    n_encoded, n_encode_calls, n_decoded : int
        Windows encoded, calls of `encode`, and prompt sets decoded so far.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_sam.core.prompts import WindowPrompts
    >>> image = np.zeros((1, 32, 48, 3), np.uint8)
    >>> image[0, 8:20, 10:30] = 200
    >>> model = ToyModel(64)
    >>> [embedding] = model.encode(image)
    >>> box = WindowPrompts(box=(6.0, 8.0, 22.0, 32.0))
    >>> model.decode(embedding, box)[0].bbox
    (8, 10, 20, 30)
    """

    def __init__(
        self,
        input_side: int = 128,
        *,
        stride: int = 1,
        tolerance: float = 24.0,
        mask_side: int | None = None,
        delay_s: float = 0.0,
        dtype: str = "float32",
    ) -> None:
        if stride not in (1, 2) or input_side < 4 or input_side % stride:
            raise ModelError(
                "a toy model needs stride 1 or 2 and an input_side of 4 or more that "
                f"the stride divides; got input_side={input_side}, stride={stride}"
            )
        self.tolerance = float(tolerance)
        self.delay_s = float(delay_s)
        self.n_encoded = self.n_encode_calls = self.n_decoded = 0
        self._stride = stride
        self._dtype = np.dtype(dtype)
        self._lock = threading.Lock()
        side = input_side // stride
        recipe = f"{input_side} {stride} {self._dtype.name}"
        self._spec = ModelSpec(
            name="toy",
            input_side=input_side,
            feature_shapes={"colors": (3, side, side)},
            mask_side=max(1, input_side // 4) if mask_side is None else mask_side,
            sha256=hashlib.sha256(recipe.encode()).hexdigest(),
            enlarges=False,
            license="Apache-2.0",
            details={"parameters": "0"},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @property
    def spec(self) -> ModelSpec:
        """What is known about the model."""
        return self._spec

    @property
    def device(self) -> str:
        """Always "cpu"."""
        return "cpu"

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        """Keep the colours of each window.

        Parameters
        ----------
        batch : ndarray, (B, h, w, 3), uint8
            h and w at most `spec.input_side`.

        Raises
        ------
        ModelError
            For another shape or dtype.
        """
        side = self.spec.input_side
        if (
            batch.ndim != 4
            or batch.shape[3] != 3
            or batch.dtype != np.uint8
            or not (0 < batch.shape[1] <= side and 0 < batch.shape[2] <= side)
        ):
            raise ModelError(
                f"encode takes uint8 windows of shape (B, h, w, 3) with h and w in "
                f"1..{side}; got {batch.dtype} of shape {batch.shape}"
            )
        with self._lock:
            self.n_encode_calls += 1
        return [self._encode_one(window) for window in batch]

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        """Predict nested masks, best first; one alone without `multimask_output`.

        Raises
        ------
        PromptError
            If nothing is prompted, or `mask_input` is not (m, m).
        """
        m = self.spec.mask_side
        given = prompts.mask_input
        if given is not None and given.shape != (m, m):
            raise PromptError(
                f"mask_input must be ({m}, {m}) logits; got {given.shape}"
            )
        if not len(prompts.points) and prompts.box is None and given is None:
            raise PromptError("nothing is prompted: give points, a box or a mask_input")
        with self._lock:
            self.n_decoded += 1
        scene = _Scene(self._colors(embedding), prompts, self._mask(embedding, given))
        found = [
            self._candidate(scene.logits(self.tolerance * factor), malus)
            for factor, malus in _NESTED
        ]
        found.sort(key=lambda c: -c.predicted_iou)
        return found if prompts.multimask_output else found[:1]

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """`decode` for each prompt set."""
        return [self.decode(embedding, p) for p in prompts]

    def _encode_one(self, window: np.ndarray) -> Embedding:
        if self.delay_s:
            time.sleep(self.delay_s)
        with self._lock:
            self.n_encoded += 1
        h, w, s = *window.shape[:2], self._stride
        colors = np.zeros(self.spec.feature_shapes["colors"], self._dtype)  # (3, n, n)
        filled = np.pad(window, ((0, -h % s), (0, -w % s), (0, 0)), mode="edge")
        cells = filled.reshape(filled.shape[0] // s, s, filled.shape[1] // s, s, 3)
        mean = cells.mean((1, 3), dtype=np.float32)
        colors[:, : mean.shape[0], : mean.shape[1]] = mean.transpose(2, 0, 1)
        return Embedding({"colors": colors}, (h, w))

    def _colors(self, embedding: Embedding) -> np.ndarray:
        """(3, h, w) float32 in the window's own pixels."""
        h, w = embedding.original_size
        colors = np.asarray(embedding.features["colors"], np.float32)
        if self._stride > 1:
            colors = colors.repeat(self._stride, 1).repeat(self._stride, 2)
        return colors[:, :h, :w]

    def _mask(
        self, embedding: Embedding, logits: np.ndarray | None
    ) -> np.ndarray | None:
        """Sample `mask_input` at the window's pixels: (h, w) bool."""
        if logits is None:
            return None
        h, w = embedding.original_size
        rows, cols = (self._mask_cells(n) for n in (h, w))
        return np.asarray(logits[np.ix_(rows, cols)] > 0)

    def _mask_cells(self, n: int) -> np.ndarray:
        centers = (np.arange(n) + 0.5) * self.spec.mask_side / self.spec.input_side
        return centers.astype(np.intp)

    def _candidate(self, logits: np.ndarray, malus: float) -> MaskCandidate:
        bbox, mask = crop_mask(logits > 0)
        # What lies elsewhere in the window must not change an object's score.
        around = _regions(logits + 1)
        own = np.isin(around, np.unique(around[logits > 0]))
        stability = float(stability_score(np.where(own, logits, -_STEEPNESS)))
        score = 0.5 + 0.45 * stability - malus if mask.size else 0.0
        return MaskCandidate(bbox, mask, score, stability, self._low_res(logits))

    def _low_res(self, logits: np.ndarray) -> np.ndarray:
        """Average (h, w) logits over the cells of the padded frame: (m, m)."""
        m = self.spec.mask_side
        low = np.full((m, m), -_STEEPNESS, np.float32)
        rows, cols = (self._mask_cells(n) for n in logits.shape)
        if not np.all(np.diff(rows) <= 1):  # finer than pixels: repeat them
            scale = self.spec.input_side / m
            inside = ((np.arange(m) + 0.5) * scale).astype(np.intp)
            ys, xs = (inside[inside < n] for n in logits.shape)
            low[: len(ys), : len(xs)] = logits[np.ix_(ys, xs)]
            return low
        total, n = np.zeros((2, m, m), np.float32)
        cells = np.broadcast_arrays(rows[:, None], cols[None, :])
        np.add.at(total, tuple(cells), logits)
        np.add.at(n, tuple(cells), 1.0)
        return np.where(n > 0, total / np.maximum(n, 1), low)


class _Scene:
    """One window with its prompts, asked for logits at several tolerances."""

    def __init__(
        self, colors: np.ndarray, prompts: WindowPrompts, mask: np.ndarray | None
    ) -> None:
        self.colors = colors
        self.shape = colors.shape[1:]
        self.mask = mask if mask is not None and mask.any() else None
        pixels = np.floor(np.asarray(prompts.points, float).reshape(-1, 2) + 0.5)
        inside = ((pixels >= 0) & (pixels < self.shape)).all(1)
        labels = np.asarray(prompts.point_labels)[inside]
        self.positive = pixels[inside][labels == 1].astype(np.intp)
        self.negative = pixels[inside][labels == 0].astype(np.intp)
        self.bounds = _box_pixels(prompts.box, self.shape)

    def logits(self, tolerance: float) -> np.ndarray:
        """(h, w) float32, positive on the mask."""
        out = np.full(self.shape, -_STEEPNESS, np.float32)
        for y, x in self.positive:
            near = self._likeness(self.colors[:, y, x], tolerance)
            np.maximum(out, _keep(near, self._at(near, y, x)), out=out)
        if self.mask is not None:
            near = self._likeness(np.median(self.colors[:, self.mask], 1), tolerance)
            np.maximum(out, _keep(near, self._covered(near)), out=out)
        elif not len(self.positive) and self.bounds and self.bounds[0].stop:
            middle = _central_half(self.bounds)
            color = np.median(self.colors[:, *middle].reshape(3, -1), 1)
            near = self._likeness(color, tolerance)
            np.maximum(out, _keep(near, self._seeded(near, middle)), out=out)
        self._cut(out)
        return out

    def _likeness(self, color: Any, tolerance: float) -> np.ndarray:
        distance = np.abs(self.colors - np.reshape(color, (3, 1, 1))).max(0)
        near = _STEEPNESS * (1 - distance / np.float32(tolerance))
        near = np.asarray(np.maximum(near, -_STEEPNESS), np.float32)
        if self.bounds is not None:
            inside = np.zeros(self.shape, bool)
            inside[self.bounds] = True
            near[~inside] = -_STEEPNESS
        return np.asarray(near)

    def _at(self, near: np.ndarray, y: int, x: int) -> np.ndarray:
        regions = _regions(near)
        return np.asarray((regions == regions[y, x]) & (near > 0))

    def _seeded(self, near: np.ndarray, seeds: tuple[slice, slice]) -> np.ndarray:
        regions = _regions(near)
        return np.asarray(np.isin(regions, np.unique(regions[seeds])) & (near > 0))

    def _covered(self, near: np.ndarray) -> np.ndarray:
        regions = _regions(near)
        size = np.bincount(regions.ravel())
        hits = np.bincount(regions[self.mask], minlength=size.size)
        hits[0] = 0
        chosen = 2 * hits >= np.maximum(size, 1)
        if not chosen.any() and hits.any():
            chosen[hits.argmax()] = True
        return np.asarray(chosen[regions] & (near > 0))

    def _cut(self, logits: np.ndarray) -> None:
        for y, x in self.negative:
            if logits[y, x] <= 0:
                continue
            gone = logits > 0
            if len(self.positive):
                ys, xs = np.indices(self.shape, np.float32)
                mine = (ys - y) ** 2 + (xs - x) ** 2
                others = [(ys - py) ** 2 + (xs - px) ** 2 for py, px in self.positive]
                gone &= mine < np.min(others, axis=0)
            else:
                regions = _regions(logits)
                gone = regions == regions[y, x]
            logits[gone] = -_STEEPNESS


def _regions(near: np.ndarray) -> np.ndarray:
    """Number the 4-connected regions where `near` is positive, from 1; 0 elsewhere."""
    from skimage.measure import label

    return np.asarray(label(near > 0, connectivity=1))


def _keep(near: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits of one region; pixels as alike that belong to other regions sink."""
    sunk = np.where(near > 0, np.float32(-_STEEPNESS), near)
    return np.asarray(np.where(mask, near, sunk))


def _box_pixels(box: Any, shape: tuple[int, ...]) -> tuple[slice, slice] | None:
    """Pixels whose centres lie in a half-open box, as slices of the window."""
    if box is None:
        return None
    spans = []
    for low, high, n in ((box[0], box[2], shape[0]), (box[1], box[3], shape[1])):
        start = min(max(int(np.ceil(low - 0.5)), 0), n)
        stop = min(max(int(np.ceil(high - 0.5)), 0), n)
        if stop <= start:
            return slice(0, 0), slice(0, 0)
        spans.append(slice(start, stop))
    return spans[0], spans[1]


def _central_half(bounds: tuple[slice, slice]) -> tuple[slice, slice]:
    spans = []
    for s in bounds:
        margin = (s.stop - s.start) // 4
        spans.append(slice(s.start + margin, s.stop - margin))
    return spans[0], spans[1]
