"""Logits and masks carried from one window or pyramid level to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import Bbox, MaskCandidate, crop_mask
from napari_sam.core.preprocess import ResizeTransform
from napari_sam.core.prompts import MaskPrompt, Prompts, WindowPrompts

if TYPE_CHECKING:
    from napari_sam.core.tiles import Window

MASK_LOGIT = float(np.log((1 - 1e-3) / 1e-3))
"""Logit that a boolean mask given as a prompt gets, positive inside."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A window as a model sees it: which plane pixels each low-res logit covers."""

    window: Window
    input_side: int
    mask_side: int
    """Side m of the (m, m) low-res logits over the padded frame."""
    enlarge: bool
    stretch: bool = False

    @property
    def transform(self) -> ResizeTransform:
        """Window pixels to the model's frame."""
        size = (self.window.h, self.window.w)
        return ResizeTransform(size, self.input_side, self.enlarge, self.stretch)

    def low_res_size(self) -> tuple[float, float]:
        """Rows and columns of the low-res logits that the image fills, fractional."""
        h, w = self.transform.input_size
        return (
            h * self.mask_side / self.input_side,
            w * self.mask_side / self.input_side,
        )

    def low_res_in_level(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns, each (m,), of the low-res pixel centres on the level."""
        fh, fw = self.low_res_size()
        grid = np.arange(self.mask_side) + 0.5
        y = grid * (self.window.h / fh) - 0.5
        x = grid * (self.window.w / fw) - 0.5
        return y + self.window.y0, x + self.window.x0

    def low_res_in_plane(self) -> tuple[np.ndarray, np.ndarray]:
        """Level-0 rows and columns, each (m,), of the low-res pixel centres."""
        ys, xs = self.low_res_in_level()
        s = self.window.scale
        return (ys + 0.5) * s - 0.5, (xs + 0.5) * s - 0.5

    def resample(
        self, logits: np.ndarray, ys: np.ndarray, xs: np.ndarray, outside: float
    ) -> np.ndarray:
        """Sample this frame's low-res logits at level-0 rows and columns.

        Parameters
        ----------
        logits : ndarray, (m, m), float32
        ys, xs : ndarray, (H,) and (W,)
            Level-0 pixel centres, fractional.
        outside : float
            Value for places outside the window.

        Returns
        -------
        ndarray, (H, W), float32
        """
        wy, wx = self.window.to_window(ys, xs)
        fh, fw = self.low_res_size()
        rows = (wy + 0.5) * (fh / self.window.h) - 0.5
        cols = (wx + 0.5) * (fw / self.window.w) - 0.5
        filled = logits[: int(np.ceil(fh)), : int(np.ceil(fw))]
        out = lerp(lerp(filled, rows, 0), cols, 1)
        out[(wy < -0.5) | (wy > self.window.h - 0.5)] = outside
        out[:, (wx < -0.5) | (wx > self.window.w - 0.5)] = outside
        return out


def lerp(values: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Interpolate along one axis at fractional indices, clamped at the ends."""
    last = values.shape[axis] - 1
    at = np.clip(at, 0, last)
    low = np.minimum(np.floor(at).astype(np.intp), max(last - 1, 0))
    high = np.minimum(low + 1, last)
    shape = [1, 1]
    shape[axis] = -1
    t = (at - low).astype(np.float32).reshape(shape)
    a, b = np.take(values, low, axis), np.take(values, high, axis)
    return np.asarray(a + (b - a) * t, np.float32)


def window_prompts(
    prompts: Prompts, frame: Frame, previous: np.ndarray | None
) -> WindowPrompts:
    """Express prompts in the pixels of a frame's window.

    Parameters
    ----------
    prompts : Prompts
        In level-0 pixels. A polygon or mask gives `mask_input`, and also the box unless
        one is given.
    frame : Frame
    previous : ndarray, (m, m), float32, optional
        Low-res logits of the mask to refine, already in this frame; they take the place
        of the polygon or mask.
    """
    window = frame.window
    box = prompts.box or prompts.polygon_box()
    if box is None and prompts.mask is not None:
        y0, x0, y1, x1 = prompts.mask.bbox
        box = (float(y0), float(x0), float(y1), float(x1))
    mask_input = previous if previous is not None else _drawn_mask(prompts, frame)
    ys, xs = np.array(prompts.points, np.float64).reshape(-1, 2).T
    points = np.stack(window.to_window(ys, xs), axis=1)
    size = (window.h, window.w)
    return WindowPrompts(
        points=np.clip(points, 0, np.array(size) - 1),
        point_labels=np.array(prompts.point_labels, np.int64),
        box=None if box is None else clip_box(window.box_to_window(box), size),
        mask_input=mask_input,
        multimask_output=prompts.n_clicks == 1 and box is None and mask_input is None,
    )


def to_level_0(
    candidate: MaskCandidate, window: Window, plane_shape: tuple[int, int]
) -> MaskCandidate:
    """Move a candidate from a window's pixels to the plane's, at full resolution."""
    moved = candidate.moved(window.y0, window.x0)
    if window.level == 0 or not candidate.mask.size:
        return moved
    bbox, mask = enlarge_mask(moved.bbox, moved.mask, window.scale, plane_shape)
    return replace(moved, bbox=bbox, mask=mask)


def enlarge_mask(
    bbox: Bbox, mask: np.ndarray, factor: int, shape: tuple[int, int]
) -> tuple[Bbox, np.ndarray]:
    """Scale a cropped mask up by a whole factor, with a smooth outline.

    Parameters
    ----------
    bbox, mask
        Where the crop lies, half-open, and its pixels, (h, w) bool.
    factor : int
    shape : tuple of int
        (height, width) of the larger image, to which the result is cut.
    """
    if factor == 1 or not mask.size:
        return bbox, mask
    y0, x0, y1, x1 = bbox
    rows = (np.arange((y1 - y0 + 2) * factor) + 0.5) / factor - 0.5
    cols = (np.arange((x1 - x0 + 2) * factor) + 0.5) / factor - 0.5
    soft = lerp(lerp(np.pad(mask, 1).astype(np.float32), rows, 0), cols, 1)
    (cy0, cx0, cy1, cx1), _ = crop_mask(soft >= 0.5)
    top, left = (y0 - 1) * factor, (x0 - 1) * factor
    out = (
        max(top + cy0, 0), max(left + cx0, 0),
        min(top + cy1, shape[0]), min(left + cx1, shape[1]),
    )  # fmt: skip
    inside = soft[out[0] - top : out[2] - top, out[1] - left : out[3] - left]
    return out, inside >= 0.5


def mask_logits(frame: Frame, bbox: Bbox, mask: np.ndarray) -> np.ndarray:
    """Logits of a drawn mask over a frame, as `mask_input` takes them.

    Parameters
    ----------
    frame : Frame
    bbox, mask
        The mask in pixels of the frame's pyramid level.

    Returns
    -------
    ndarray, (m, m), float32
        +- `MASK_LOGIT`, softer across the outline.
    """
    return _soft_logits(bbox, mask, *frame.low_res_in_level())


def clip_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Cut a half-open box to an image of (height, width)."""
    h, w = size
    y0, x0, y1, x1 = box
    return max(y0, 0.0), max(x0, 0.0), min(y1, float(h)), min(x1, float(w))


def touches_cut_edge(bbox: Bbox, window: Window, level_shape: tuple[int, int]) -> bool:
    """Whether a mask (window pixels) reaches an edge of its window inside the image."""
    y0, x0, y1, x1 = bbox
    if y1 <= y0:
        return False
    return (
        (y0 <= 1 and window.y0 > 0)
        or (x0 <= 1 and window.x0 > 0)
        or (y1 >= window.h - 1 and window.y0 + window.h < level_shape[0])
        or (x1 >= window.w - 1 and window.x0 + window.w < level_shape[1])
    )


def _drawn_mask(prompts: Prompts, frame: Frame) -> np.ndarray | None:
    drawn = prompts.mask or _polygon_mask(prompts)
    if drawn is None:
        return None
    ys, xs = frame.low_res_in_plane()
    return _soft_logits(drawn.bbox, drawn.mask, ys, xs)


def _soft_logits(
    bbox: Bbox, mask: np.ndarray, ys: np.ndarray, xs: np.ndarray
) -> np.ndarray:
    soft = np.pad(mask, 1).astype(np.float32)
    inside = lerp(lerp(soft, ys - bbox[0] + 1, 0), xs - bbox[1] + 1, 1)
    return np.asarray((inside * 2 - 1) * MASK_LOGIT, np.float32)


def _polygon_mask(prompts: Prompts) -> MaskPrompt | None:
    if not prompts.polygon:
        return None
    from skimage.draw import polygon2mask

    corners = np.array(prompts.polygon)
    y0, x0 = (int(v) for v in np.floor(corners.min(0)))
    y1, x1 = (int(v) for v in np.ceil(corners.max(0)) + 1)
    inside = polygon2mask((y1 - y0, x1 - x0), corners - (y0, x0))
    return MaskPrompt((y0, x0, y1, x1), np.asarray(inside, bool))
