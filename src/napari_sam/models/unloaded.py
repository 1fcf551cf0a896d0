"""A model by its name alone, for work that asks none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.errors import ModelError
from napari_sam.models.protocol import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from napari_sam.core.embedding import Embedding
    from napari_sam.core.masks import MaskCandidate
    from napari_sam.core.prompts import WindowPrompts


class UnloadedModel:
    """What a session remembers of its model, without weights.

    Masks are there without it, so that a session can be exported where its model is
    not installed.

    Parameters
    ----------
    name : str
        What `load_model` takes.
    sha256 : str
        Of its checkpoint.
    """

    device = "cpu"
    """Where it would run."""

    def __init__(self, name: str, sha256: str) -> None:
        self.spec = ModelSpec(name, 1024, {}, 256, sha256)
        """What is known about the model."""

    def encode(self, batch: np.ndarray) -> list[Embedding]:
        """Raise ModelError."""
        raise self._error()

    def decode(
        self, embedding: Embedding, prompts: WindowPrompts
    ) -> list[MaskCandidate]:
        """Raise ModelError."""
        raise self._error()

    def decode_many(
        self, embedding: Embedding, prompts: Sequence[WindowPrompts]
    ) -> list[list[MaskCandidate]]:
        """Raise ModelError."""
        raise self._error()

    def _error(self) -> ModelError:
        return ModelError(
            f"the model {self.spec.name!r} was not loaded: open the session with it to "
            "go on segmenting"
        )
