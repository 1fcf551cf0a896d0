"""Embeddings: what an encoder made of one window; the word models and io share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Features of one window, on the host, ready for a decoder or a store."""

    features: Mapping[str, np.ndarray]
    """Named (C, h, w) arrays, float32 or float16, of the shapes in `ModelSpec`."""
    original_size: tuple[int, int]
    """(height, width) of the window in its own pixels, before resizing and padding."""

    @property
    def nbytes(self) -> int:
        """Bytes held by all features."""
        return sum(a.nbytes for a in self.features.values())


@dataclass(frozen=True, slots=True)
class EmbeddingSignature:
    """Everything that must agree before a stored embedding may be reused."""

    model: str
    """Name of the model, for people."""
    checkpoint_sha256: str
    encoder_revision: str
    """Revision of our encoder code: changed when its output changes."""
    tile_side: int
    overlap: int
    n_levels: int
    zoom: tuple[float, float]
    """How often each axis of a plane was sampled; see `napari_sam.core.tiles`."""
    axis: int
    intensity: dict[str, Any]
    """`IntensityMapping.to_json`."""
    source: dict[str, Any]
    """Identity of the image: uri, shape, dtype, channels, hash of a small sample."""

    @property
    def key(self) -> str:
        """Short name that differs when anything here differs."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: EmbeddingSignature) -> dict[str, tuple[Any, Any]]:
        """Fields that differ, as {name: (mine, other's)}."""
        mine, theirs = asdict(self), asdict(other)
        return {k: (v, theirs[k]) for k, v in mine.items() if v != theirs[k]}

    def to_json(self) -> dict[str, Any]:
        """Plain values, for files."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EmbeddingSignature:
        """Read what `to_json` wrote."""
        return cls(**{**value, "zoom": tuple(value["zoom"])})
