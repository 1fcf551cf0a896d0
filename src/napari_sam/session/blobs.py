"""Values as the journal has them: plain ones in a header of JSON, arrays beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.proposals import Proposal
from napari_sam.session.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.core.masks import Bbox

Blobs = list[bytes]
"""Arrays of a step, packed; the header has their places."""


def array_out(array: Packed, blobs: Blobs) -> list[Any]:
    """Put an array into the blobs; return how to find it there."""
    blobs.append(array.pack())
    return [len(blobs) - 1, array.dtype.str, list(array.shape)]


def array_in(value: list[Any], blobs: Blobs) -> Packed:
    """Take an array that `array_out` put."""
    number, dtype, shape = value
    return Packed.of_bytes(blobs[number], dtype, shape)


def bbox_in(value: Iterable[Any]) -> Bbox:
    """Read a box."""
    y0, x0, y1, x1 = (int(v) for v in value)
    return y0, x0, y1, x1


def prompts_out(prompts: Prompts, blobs: Blobs) -> dict[str, Any]:
    """Plain values of prompts; a mask goes to the blobs."""
    out = replace(prompts, mask=None).to_json()
    if prompts.mask is not None:
        pixels = array_out(Packed(np.asarray(prompts.mask.mask, bool)), blobs)
        out["mask"] = [[int(v) for v in prompts.mask.bbox], pixels]
    return out


def prompts_in(value: dict[str, Any], blobs: Blobs) -> Prompts:
    """Read what `prompts_out` gave."""
    mask = value.pop("mask", None)
    prompts = Prompts.from_json(value)
    if mask is None:
        return prompts
    bbox, pixels = mask
    return replace(
        prompts, mask=MaskPrompt(bbox_in(bbox), array_in(pixels, blobs).array)
    )


def proposal_out(p: Proposal, blobs: Blobs) -> dict[str, Any]:
    """Plain values of a proposal; masks go to the blobs."""
    return {
        "plane": p.plane.to_json(),
        "bbox": [int(v) for v in p.bbox],
        "mask": array_out(Packed(np.asarray(p.mask, bool)), blobs),
        "predicted_iou": float(p.predicted_iou),
        "stability_score": float(p.stability_score),
        "doubt": float(p.doubt),
        "origin": p.origin,
        "likeness": float(p.likeness),
        "prompts": prompts_out(p.prompts, blobs),
        "choice": int(p.choice),
        "scores": [float(v) for v in p.scores],
        "object_id": int(p.object_id),
        "group": int(p.group),
        "parent": int(p.parent),
    }


def proposal_in(value: dict[str, Any], blobs: Blobs, number: Any) -> Proposal:
    """Read what `proposal_out` gave."""
    special = {
        "plane": Plane.from_json(value["plane"]),
        "bbox": bbox_in(value["bbox"]),
        "mask": array_in(value["mask"], blobs).array,
        "prompts": prompts_in(value["prompts"], blobs),
        "scores": tuple(value["scores"]),
    }
    return Proposal(**{**value, **special, "number": int(number)})
