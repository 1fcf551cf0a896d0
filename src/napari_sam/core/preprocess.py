"""Image pixels to a model's square input frame and back: the one such conversion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ResizeTransform:
    """Scale an image's longer side to a model's input side; pad bottom and right.

    This is SAM's ``ResizeLongestSide``: sizes are rounded half up, so height and width
    may be scaled by slightly different factors, and coordinates follow the real ones.
    SAM 2 stretches both sides to the square instead.
    Image coordinates are (y, x), the frame's are (x, y). As in SAM, a coordinate is
    multiplied by the scale, and the half pixel from a pixel's corner to its centre is
    added in the frame, by the model's position encoding.

    Parameters
    ----------
    original_size : tuple of int
        (height, width) of the image.
    side : int
        Side of the model's frame.
    enlarge : bool
        Whether images smaller than the frame are scaled up to it (SAM does; a model
        that works at native pixel size does not).
    stretch : bool
        Whether both sides are scaled to fill the frame, whatever the image's shape.
    """

    original_size: tuple[int, int]
    side: int
    enlarge: bool = True
    stretch: bool = False

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the image's part of the frame."""
        if self.stretch:
            return self.side, self.side
        h, w = self.original_size
        longest = max(h, w)
        if longest <= self.side and not self.enlarge:
            return h, w
        scale = self.side / longest
        return max(1, int(h * scale + 0.5)), max(1, int(w * scale + 0.5))

    def points_xy(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) as (y, x) in the image -> (N, 2) as (x, y) in the frame."""
        sy, sx = self._scales()
        return np.asarray(points, np.float64).reshape(-1, 2)[:, ::-1] * (sx, sy)

    def points_from_xy(self, points_xy: np.ndarray) -> np.ndarray:
        """Invert `points_xy`: (x, y) in the frame -> (y, x) in the image."""
        sy, sx = self._scales()
        return np.asarray(points_xy, np.float64).reshape(-1, 2)[:, ::-1] / (sy, sx)

    def box_xyxy(self, box: tuple[float, float, float, float]) -> np.ndarray:
        """Box (y0, x0, y1, x1) in the image -> (4,), (x0, y0, x1, y1) in the frame."""
        sy, sx = self._scales()
        y0, x0, y1, x1 = box
        return np.array([x0 * sx, y0 * sy, x1 * sx, y1 * sy], np.float64)

    def _scales(self) -> tuple[float, float]:
        h, w = self.input_size
        return h / self.original_size[0], w / self.original_size[1]
