"""Results: labels, objects and their place in the world, as one read-only value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_sam.core.objects import ClassList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_sam.core.objects import ObjectRecord
    from napari_sam.volume.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What leaves a session: every writer takes this, every reader gives it.

    Made by `Session.results`; nothing in it changes while it is written.
    """

    labels: Any
    """Array-like of the volume's shape, unsigned integers; 0 is background."""
    volume: Volume
    """The image they belong to: shape, axes, spacing, affine, CRS, source."""
    objects: Mapping[int, ObjectRecord] = field(default_factory=dict)
    """By id; objects that are only pixels may be missing."""
    classes: ClassList = field(default_factory=ClassList)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Model, checkpoint hash, intensity mapping and version, as plain values."""
