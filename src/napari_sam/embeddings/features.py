"""Features as stores keep them: their dtype, and the checksum of a tile."""

from __future__ import annotations

import logging
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


def stored_form(values: np.ndarray, dtype: np.dtype[Any], name: str) -> np.ndarray:
    """Return a feature in a store's dtype; what is beyond its range is clipped.

    Raises
    ------
    StoreError
        If it holds NaN or infinite values.
    """
    with np.errstate(over="ignore"):
        cast = np.array(values, dtype=dtype, order="C")
    if _is_finite(cast):
        return cast
    if not np.isfinite(values).all():
        raise StoreError(
            f"feature {name!r} holds NaN or infinite values, so no mask can come of "
            "it: run the model in float32 (device='cpu' always does)"
        )
    limit = float(np.finfo(dtype).max)
    logger.warning(
        "feature %r goes up to %g: clipped to %g; dtype='float32' keeps it exact",
        name, float(np.abs(values).max()), limit,
    )  # fmt: skip
    return np.asarray(np.clip(values, -limit, limit), dtype)


def _is_finite(values: np.ndarray) -> bool:
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    # numpy has no fast path for float16: an exponent of ones is NaN or infinite.
    return bool((values.view(np.uint16) & 0x7C00).max(initial=0) < 0x7C00)


def checksum_of(features: Mapping[str, np.ndarray]) -> int:
    """CRC-32 over all features in the order of their names; never 0."""
    total = 0
    for name in sorted(features):
        total = zlib.crc32(np.ascontiguousarray(features[name]).data, total)
    return total or 1
