"""The protocol that every model follows, and what is known about a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from napari_sam.core.prompt_forms import PromptForms
from napari_sam.core.scales import ScaleRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import ArrayLike

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.prompts import WindowPrompts


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is known about a model without running it."""

    name: str
    """Name that `load_model` takes, such as "nano" or "sam_vit_b"."""
    input_side: int
    """Side of the square frame, in pixels; also the tile side."""
    feature_shapes: Mapping[str, tuple[int, int, int]]
    """(C, h, w) of each named feature array of one embedding."""
    mask_side: int
    """Side m of `low_res_logits` and `mask_input`."""
    sha256: str
    """Of the checkpoint file in use; "" for a model with random weights."""
    encoder_revision: str = "1"
    """Changed whenever our code changes what `encode` returns."""
    enlarges: bool = True
    """Whether an image smaller than the frame is scaled up to fill it."""
    stretches: bool = False
    """Whether an image of any shape is scaled to the square (SAM 2), not padded."""
    prompts: frozenset[str] = frozenset({"points", "box", "mask"})
    """Kinds of prompt that the model understands."""
    follow_with: frozenset[str] = frozenset({"points", "mask"})
    """Prompts that follow an object to the next plane: its last mask, and that mask's
    innermost point where that does not mislead the model."""
    outline_as: frozenset[str] = frozenset({"box", "mask"})
    """What an outline or a mask is given as; see `PromptForms`."""
    stroke_points: int = 5
    """Places of a scribble that are given as points."""
    scale_rule: ScaleRule = field(default_factory=ScaleRule)
    """Which scale's answer to a lone click is taken."""
    proposal_thresholds: tuple[float, float] = (0.88, 0.95)
    """Least predicted IoU and stability score of masks worth proposing, on the model's
    own scale; SAM's by default."""
    license: str = ""
    """SPDX identifier of the weights' licence."""
    citation: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    """Further facts for people: parameters, modality, where trained."""
    source: str = ""
    """What `load_model` takes for a model that it does not know by name: a path, with
    its family and a colon before it."""

    @property
    def forms(self) -> PromptForms:
        """How the model is told what it has no prompt for."""
        return PromptForms(self.prompts, self.outline_as, self.stroke_points)


@runtime_checkable
class PromptableModel(Protocol):
    """A model that turns an image window into an embedding, and prompts into masks.

    Both calls are safe from any thread, one call at a time. Nothing here depends on
    tiles, planes or volumes.
    """

    @property
    def spec(self) -> ModelSpec:
        """What is known about the model."""
        ...

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda:0" or "mps"."""
        ...

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        """Encode windows.

        Parameters
        ----------
        batch : ndarray, (B, h, w, 3), uint8
            RGB; h and w are at most `spec.input_side` for a model with
            ``spec.enlarges`` False, and free otherwise.
        """
        ...

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        """Predict masks, best `predicted_iou` first.

        Masks have the window's own pixels; `bbox` is relative to the window. An empty
        mask is a candidate with bbox (0, 0, 0, 0).
        """
        ...

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """`decode` for many prompt sets on one embedding, batched."""
        ...


@runtime_checkable
class SeedingModel(PromptableModel, Protocol):
    """A model that also knows where all objects of a window are, in one pass.

    Asking at these places costs less than asking on a grid of points.
    """

    def seeds(self, embedding: Embedding) -> np.ndarray:
        """Find one place in every object of an encoded window.

        Returns
        -------
        ndarray, (n, 3), float
            y, x in pixels of the window and a score in 0..1, best first.
        """
        ...


@runtime_checkable
class InstanceModel(PromptableModel, Protocol):
    """A model that finds all objects of a window in one pass, with their masks."""

    def instances(
        self, embedding: Embedding, min_score: float = ...
    ) -> list[MaskCandidate]:
        """Return all masks of an encoded window, the surest first.

        Parameters
        ----------
        embedding : Embedding
        min_score : float
            Least confidence, 0..1.
        """
        ...


@runtime_checkable
class TextModel(PromptableModel, Protocol):
    """A model that reads words: it finds all instances of what they name."""

    def instances_of(
        self,
        embedding: Embedding,
        text: str = ...,
        *,
        boxes: ArrayLike = ...,
        box_labels: ArrayLike | None = ...,
        min_score: float = ...,
    ) -> list[MaskCandidate]:
        """Return the masks of what a text names, or boxes show, the surest first.

        Parameters
        ----------
        embedding : Embedding
        text : str
            A short noun phrase. May be left out where there are boxes.
        boxes : array-like, (n, 4)
            y0, x0, y1, x1 in pixels of the window, half-open: boxes of examples.
        box_labels : array-like, (n,), optional
            1 for examples of what is wanted, 0 for what is not; all 1 when left out.
        min_score : float
            Least score, 0..1.
        """
        ...


@runtime_checkable
class TextScorer(Protocol):
    """A model of words and pictures, for models that read no words themselves."""

    name: str
    """What it is called."""
    crop_side: int
    """Side of the crops it takes, in pixels."""
    usual_score: float
    """Score from which words usually fit."""

    @property
    def fill(self) -> tuple[int, int, int]:
        """Colour that tells it nothing, for what lies around an object."""
        ...

    def score(self, text: str, crops: np.ndarray) -> np.ndarray:
        """Say how well a text fits crops (n, h, w, 3) uint8: (n,) float, 0..1."""
        ...
