"""What is looked for everywhere, and which of it is kept: options as values."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping

Layout = Literal["auto", "tiles", "crops"]
"""Ways to cover a plane; see `ProposeOptions.layout`."""
AskAt = Literal["auto", "grid", "seeds", "both"]
"""Where to ask; see `ProposeOptions.ask_at`."""
SAME_BOX = 0.9
"""IoU of boxes from which a mask with worse scores is another's copy, and not kept."""
LEAST_AGREEMENT = 0.2
"""Agreement of two masks below which they are never joined."""
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
    layout: Layout = "auto"
    """Where to look. "crops": the whole plane and crops of it, as SAM's generator does.
    "tiles": the tiles of the embedding store on all levels, for planes of any size.
    "auto": crops where the plane is one tile or crop_n_layers is set, else tiles."""
    thorough: bool = True
    """Try every point, as SAM's generator does; else coarse to fine, leaving out those
    in masks that are found already and leave little doubt."""
    ask_at: AskAt = "auto"
    """Where to ask: at points on a "grid", at the "seeds" of a model that finds objects
    in one pass, at "both"; "auto": nowhere where the model gives all masks in one pass
    (FastSAM), at seeds where it has them, else the grid."""
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
    box_nms_thresh: float = field(default=0.7, metadata={"range": (0, 0.9)})
    """IoU of boxes from which, within a crop or tile, the better mask alone is kept."""
    crop_nms_thresh: float = field(default=0.7, metadata={"range": (0, 1)})
    """Likewise between crops, where the finer one is kept."""
    join_thresh: float = field(default=0.5, metadata={"range": (0.2, 1)})
    """Agreement, as IoU in what two tiles both show, from which two masks are one
    object."""
    min_mask_region_area: int = field(default=0, metadata={"range": (0, 10**9)})
    """Holes and parts of masks with fewer pixels are removed, once the masks are
    chosen; 0: none."""
    min_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Fewest pixels; None: any, or half of the smallest example's."""
    max_area: float | None = field(default=None, metadata={"range": (1, 10**9)})
    """Most pixels; None: any, or twice the largest example's."""
    max_doubt: float = field(default=1.0, metadata={"range": (0, 1)})
    """Proposals that are more doubtful are left out."""
    max_overlap: float = field(default=1.0, metadata={"range": (0, 1)})
    """Share of the smaller of two masks that both may cover; beyond, the more doubtful
    one is left out. 1: all are kept, parts and wholes."""
    detail: float | None = field(default=None, metadata={"range": (0, 1)})
    """How far wholes give way to their parts: 0: wholes alone, 1: the smallest parts
    alone, between: one of each nest by its size. None: parts and wholes are both
    proposed, as SAM does."""
    cover: bool = False
    """Whether, with `detail`, what the parts leave of a whole is proposed too."""
    keep_cut: bool = False
    """Whether masks are kept that a crop or tile cuts off."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("pred_iou_thresh", 0.0, 1.0), ("stability_score_thresh", 0.0, 1.0),
            ("box_nms_thresh", 0.0, SAME_BOX), ("crop_nms_thresh", 0.0, 1.0),
            ("max_doubt", 0.0, 1.0), ("join_thresh", LEAST_AGREEMENT, 1.0),
            ("max_overlap", 0.0, 1.0), ("detail", 0.0, 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise PromptError(f"{name} must be in {low:g}..{high:g}; got {value}")


def parted(options: Mapping[str, Any]) -> tuple[ProposeOptions, SelectOptions]:
    """Make both kinds of options of keywords.

    Raises
    ------
    PromptError
        If a name is none of theirs, or a value is not allowed.

    Examples
    --------
    >>> asked, chosen = parted({"points_per_side": 16, "pred_iou_thresh": 0.7})
    >>> asked.points_per_side, chosen.pred_iou_thresh
    (16, 0.7)
    """
    names = [{f.name for f in fields(kind)} for kind in (ProposeOptions, SelectOptions)]
    if unknown := sorted(set(options) - names[0] - names[1]):
        raise PromptError(
            f"{unknown[0]!r} is no option of everything; expected some of "
            f"{', '.join(sorted(names[0] | names[1]))}"
        )
    asked, chosen = ({k: v for k, v in options.items() if k in own} for own in names)
    return ProposeOptions(**asked), SelectOptions(**chosen)
