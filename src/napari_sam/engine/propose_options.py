"""What is looked for everywhere, and which of it is kept: options as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from napari_sam.errors import PromptError

Layout = Literal["auto", "tiles", "crops"]
"""Ways to cover a plane; see `ProposeOptions.layout`."""
AskAt = Literal["auto", "grid", "seeds", "both"]
"""Where to ask; see `ProposeOptions.ask_at`."""
POINTS_PER_SIDE = 32
"""Points on the side of a tile or crop, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class ProposeOptions:
    """Where and how objects are looked for: what needs the network.

    Names and meanings are those of SAM's ``SamAutomaticMaskGenerator`` where it has
    the option; those that only choose among masks are in `SelectOptions`.
    """

    points_per_side: int | None = field(default=None, metadata={"range": (1, 256)})
    """Points tried on a tile's (or crop's) side; None: as the size of known objects
    asks for, else 32."""
    points_per_batch: int = field(default=64, metadata={"range": (1, 1024)})
    """Points decoded together."""
    stability_score_offset: float = field(default=1.0, metadata={"range": (0.01, 10)})
    """Logits by which the cut is moved to see how stable a mask is."""
    crop_n_layers: int = field(default=0, metadata={"range": (0, 6)})
    """Layers of crops looked at besides the whole plane; layer i has 2**i x 2**i."""
    crop_overlap_ratio: float = field(default=512 / 1500, metadata={"range": (0, 0.99)})
    """Overlap of the first layer's crops, as a share of the plane's shorter side."""
    crop_n_points_downscale_factor: int = field(default=1, metadata={"range": (1, 16)})
    """Layer i has fewer points on a side, by this factor to the power of i."""
    min_mask_region_area: int = field(default=0, metadata={"range": (0, 10**9)})
    """Holes and parts of masks with fewer pixels are removed; 0: none."""
    layout: Layout = "auto"
    """Where to look. "crops": the whole plane and crops of it, as SAM's generator does.
    "tiles": the tiles of the embedding store on all levels, for planes of any size.
    "auto": crops where the plane is one tile or crop_n_layers is set, else tiles."""
    thorough: bool = True
    """Try every point, as SAM's generator does; else coarse to fine, leaving out those
    in masks that are found already and leave little doubt."""
    ask_at: AskAt = "auto"
    """Where to ask: at points on a "grid", at the "seeds" of a model that finds objects
    in one pass, at "both"; "auto": at seeds where the model has them, else the grid."""
    least_predicted_iou: float = field(default=0.3, metadata={"range": (0, 1)})
    """Masks with less are not kept: thresholds cannot go below."""
    least_stability_score: float = field(default=0.5, metadata={"range": (0, 1)})
    """Likewise."""

    def __post_init__(self) -> None:
        n = self.points_per_side
        if (n is not None and n < 1) or self.points_per_batch < 1:
            raise PromptError(
                "points_per_side and points_per_batch must be 1 or more; got "
                f"{n} and {self.points_per_batch}"
            )
        for name, kind in (("layout", Layout), ("ask_at", AskAt)):
            if getattr(self, name) not in get_args(kind):
                raise PromptError(
                    f"{name} is one of {get_args(kind)}; got {getattr(self, name)!r}"
                )
        if self.crop_n_layers < 0 or self.crop_n_points_downscale_factor < 1:
            raise PromptError(
                "crop_n_layers must be 0 or more and crop_n_points_downscale_factor 1 "
                f"or more; got {self.crop_n_layers} and "
                f"{self.crop_n_points_downscale_factor}"
            )
        if not 0 <= self.crop_overlap_ratio < 1:
            raise PromptError(
                "crop_overlap_ratio must be 0 or more and less than 1; got "
                f"{self.crop_overlap_ratio}"
            )
        if self.stability_score_offset <= 0:
            raise PromptError(
                "stability_score_offset must be more than 0; got "
                f"{self.stability_score_offset}"
            )


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """Which candidates become proposals: what needs no network, and may be a slider."""

    pred_iou_thresh: float | None = field(default=None, metadata={"range": (0, 1)})
    """Least predicted IoU; None: what suits the model (0.88 for SAM)."""
    stability_score_thresh: float | None = field(
        default=None, metadata={"range": (0, 1)}
    )
    """Least IoU of the mask cut at two logits; None: what suits it (0.95 for SAM)."""
    box_nms_thresh: float = field(default=0.7, metadata={"range": (0, 1)})
    """IoU of boxes from which, within a crop, the better mask alone is kept."""
    crop_nms_thresh: float = field(default=0.7, metadata={"range": (0, 1)})
    """Likewise between crops and levels, where the finer one is kept."""
    min_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Fewest pixels; None: any, or half of the smallest example's."""
    max_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Most pixels; None: any, or twice the largest example's."""
    max_doubt: float = field(default=1.0, metadata={"range": (0, 1)})
    """Proposals that are more doubtful are left out."""
    keep_cut: bool = False
    """Whether masks are kept that a crop or tile cuts off."""

    def __post_init__(self) -> None:
        for name in (
            "pred_iou_thresh", "stability_score_thresh", "box_nms_thresh",
            "crop_nms_thresh", "max_doubt",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise PromptError(f"{name} must be in 0..1; got {value}")
