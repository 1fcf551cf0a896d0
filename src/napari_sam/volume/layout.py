"""Layout: what a format says about the axes of its stored arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """What a format says about its stored arrays, each entry per stored axis."""

    axes: tuple[str, ...] | None = None
    """Names; None: guessed from the shape."""
    spacing: Mapping[str, float] = field(default_factory=dict)
    """Spacing by axis name; 1 where it is not given."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit by axis name; "pixel" where it is not given."""
    origin: Mapping[str, float] = field(default_factory=dict)
    """World coordinate of index 0 by axis name."""
    affine: np.ndarray | None = None
    """(n + 1, n + 1) in the stored order of the axes without channels."""
    rgb: bool | None = None
    """Whether channels are colours; None: guessed."""
    channel_names: tuple[str, ...] = ()
