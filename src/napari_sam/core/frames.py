"""A window as a model sees it: prompts into it, logits from one frame to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import deepest_point
from napari_sam.core.preprocess import ResizeTransform
from napari_sam.core.prompt_forms import PromptForms, spread
from napari_sam.core.prompts import Prompts, WindowPrompts, cut_box
from napari_sam.core.sampling import lerp, sample_mask

if TYPE_CHECKING:
    from napari_sam.core.masks import Bbox
    from napari_sam.core.tiles import Box, Window

MASK_LOGIT = float(np.log((1 - 1e-3) / 1e-3))
"""Logit that a boolean mask given as a prompt gets, positive inside."""
_POLYGON_STEPS = 4
"""Samples of a low-res pixel, on each axis, that tell how much a polygon covers."""


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
        sy, sx = self.window.step
        return (ys + 0.5) * sy - 0.5, (xs + 0.5) * sx - 0.5

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


def window_prompts(
    prompts: Prompts,
    frame: Frame,
    previous: np.ndarray | None,
    plane_shape: tuple[int, int],
    forms: PromptForms,
) -> WindowPrompts:
    """Express prompts in the pixels of a frame's window, as the model understands them.

    No prompt is moved: a point outside the window, or a box that the window cuts, is no
    prompt of it, and acts through the mask input alone.

    Parameters
    ----------
    prompts : Prompts
        In level-0 pixels; paths have become a mask already.
    frame : Frame
    previous : ndarray, (m, m), float32, optional
        Low-res logits of the mask to refine, already in this frame; they take the place
        of the polygon or mask.
    plane_shape : tuple of int
        (height, width) of the plane, which cuts boxes.
    forms : PromptForms
        What outlines and scribbles become.
    """
    window = frame.window
    box = prompts.box
    if box is None and forms.takes("box"):
        box = prompts.outer_box()
    if box is None and forms.kinds == {"box"} and prompts.scribbles:
        box = prompts.extent()
    mask_input = previous
    if previous is None and forms.takes("mask"):
        mask_input = _drawn_mask(prompts, frame)
    given, labels = _points(prompts, frame, forms)
    ys, xs = given.T
    points = np.stack(window.to_window(ys, xs), axis=1)
    size = window.h - 0.5, window.w - 0.5
    seen = np.asarray(((points >= -0.5) & (points <= size)).all(1))
    if "points" not in forms.kinds and box is not None:
        seen = np.zeros_like(seen)
    lone = len(labels) == 1 and prompts.is_lone_click
    return WindowPrompts(
        points=points[seen],
        point_labels=labels[seen],
        box=None if box is None else _box_in(window, cut_box(box, plane_shape)),
        mask_input=mask_input,
        multimask_output=lone and box is None and mask_input is None,
    )


def _points(
    prompts: Prompts, frame: Frame, forms: PromptForms
) -> tuple[np.ndarray, np.ndarray]:
    """Level-0 places (N, 2) that are given as points, and their labels (N,)."""
    places = [np.array(prompts.points, np.float64).reshape(-1, 2)]
    labels = [np.array(prompts.point_labels, np.int64)]
    both = zip(prompts.scribbles, prompts.scribble_labels, strict=True)
    for line, label in both:
        places.append(spread(line, forms.stroke_points))
        labels.append(np.full(len(places[-1]), label))
    if forms.takes("point"):
        inner = _innermost(prompts, frame)
        places.append(inner)
        labels.append(np.ones(len(inner), np.int64))
    return np.concatenate(places), np.concatenate(labels)


def _innermost(prompts: Prompts, frame: Frame) -> np.ndarray:
    """(1, 2) level-0 place deepest in the mask or outline; (0, 2) without one."""
    if prompts.mask is not None:
        (y, x), _ = deepest_point(prompts.mask.mask)
        return np.array([[y + prompts.mask.bbox[0], x + prompts.mask.bbox[1]]])
    if not prompts.polygon:
        return np.zeros((0, 2))
    ys, xs = frame.low_res_in_plane()
    (row, col), _ = deepest_point(_polygon_share(prompts.polygon, frame) > 0.5)
    return np.array([[ys[int(row)], xs[int(col)]]])


def _box_in(window: Window, box: Box) -> Box | None:
    """Return a box in a window's pixels, or None where an edge of it lies outside."""
    y0, x0, y1, x1 = window.box_to_window(box)
    # Levels are rounded up, so that the image may end within a last pixel.
    inside = y0 >= -1e-6 and x0 >= -1e-6 and y1 <= window.h + 1 and x1 <= window.w + 1
    return (y0, x0, y1, x1) if inside else None


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
    if prompts.mask is not None:
        ys, xs = frame.low_res_in_plane()
        return _soft_logits(prompts.mask.bbox, prompts.mask.mask, ys, xs)
    if not prompts.polygon:
        return None
    return _as_logits(_polygon_share(prompts.polygon, frame))


def _soft_logits(
    bbox: Bbox, mask: np.ndarray, ys: np.ndarray, xs: np.ndarray
) -> np.ndarray:
    return _as_logits(sample_mask(bbox, mask, ys, xs))


def _as_logits(inside: np.ndarray) -> np.ndarray:
    return np.asarray((inside * 2 - 1) * MASK_LOGIT, np.float32)


def _polygon_share(
    polygon: tuple[tuple[float, float], ...], frame: Frame
) -> np.ndarray:
    """Share, 0..1, of each low-res pixel (m, m) that lies in a polygon."""
    from skimage.draw import polygon2mask

    m, fine = frame.mask_side, _POLYGON_STEPS
    ys, xs = frame.low_res_in_plane()
    corners = np.array(polygon, np.float64)
    for i, at in enumerate((ys, xs)):
        step = float(at[1] - at[0]) / fine
        corners[:, i] = (corners[:, i] - at[0]) / step + (fine - 1) / 2
    inside = polygon2mask((m * fine, m * fine), corners)
    return np.asarray(inside.reshape(m, fine, m, fine).mean((1, 3)), np.float32)
