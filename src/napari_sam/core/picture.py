"""Pictures of a plane with prompts and masks on it, drawn with pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence


Color = tuple[int, int, int]

COLORS: tuple[Color, ...] = (
    (0, 190, 255), (255, 150, 20), (240, 90, 220), (250, 225, 60), (150, 120, 255),
    (120, 235, 200), (255, 130, 130), (190, 235, 60),
)  # fmt: skip
"""Colours of objects, by turns; clear of the green and red of points."""
POSITIVE: Color = (40, 200, 80)
NEGATIVE: Color = (235, 60, 50)
PAPER: Color = (24, 26, 31)
INK: Color = (232, 234, 238)
_FINE = 2
"""Everything is drawn this many times larger and then scaled down: smooth lines."""


class Drawable(Protocol):
    """What `Picture.prompts` draws: `Prompts` are."""

    @property
    def points(self) -> Sequence[tuple[float, float]]:
        """(y, x) of each point."""

    @property
    def point_labels(self) -> Sequence[int]:
        """1 = object, 0 = background."""

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """(y0, x0, y1, x1), half-open."""

    @property
    def polygon(self) -> Sequence[tuple[float, float]]:
        """(y, x) of each corner; empty for none."""


@dataclass(slots=True, eq=False)
class Picture:
    """A plane on which prompts and masks are drawn; coordinates are level-0 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> picture = Picture.of(np.zeros((20, 30, 3), np.uint8), side=300)
    >>> picture.finish().size
    (300, 200)
    """

    canvas: Image.Image
    """RGB, `_FINE` times the final size."""
    scale: float
    """Canvas pixels for one level-0 pixel."""

    @classmethod
    def of(
        cls, rgb: np.ndarray, shape: tuple[int, int] | None = None, *, side: int = 512
    ) -> Picture:
        """Start from pixels.

        Parameters
        ----------
        rgb : ndarray, (h, w, 3), uint8
            The plane, at any pyramid level.
        shape : tuple of int, optional
            (height, width) of the plane at level 0; that of `rgb` when left out.
        side : int
            Longer side of the finished picture, in pixels.
        """
        h, w = shape or rgb.shape[:2]
        scale = side * _FINE / max(h, w)
        size = max(1, round(w * scale)), max(1, round(h * scale))
        # Small images keep visible pixels, large ones are averaged.
        enlarged = size[0] > rgb.shape[1]
        how = Image.Resampling.BICUBIC if enlarged else Image.Resampling.BOX
        return cls(Image.fromarray(rgb).resize(size, how), scale)

    def mask(
        self,
        mask: np.ndarray,
        bbox: tuple[int, int, int, int],
        color: Color,
        *,
        fill: float = 0.35,
    ) -> None:
        """Draw a mask: a tint of strength `fill` (0..1) and an outline.

        Parameters
        ----------
        mask : ndarray, (y1 - y0, x1 - x0), bool
        bbox : (y0, x0, y1, x1)
            Where it lies, half-open.
        """
        if not mask.any():
            return
        # A mask far finer than the picture is thinned first.
        step = max(1, int(1 / self.scale))
        small = mask[::step, ::step]
        y0, x0 = bbox[:2]
        self._tint(small, (y0, x0), step, color, fill)
        pen = ImageDraw.Draw(self.canvas)
        for line in _outlines(small):
            points = [self._xy(y0 + r * step, x0 + c * step) for r, c in line]
            pen.line(points, fill=PAPER, width=3 * _FINE + 2, joint="curve")
            pen.line(points, fill=color, width=2 * _FINE, joint="curve")

    def prompts(self, prompts: Drawable) -> None:
        """Draw the box, polygon and points of a prompt set."""
        pen = ImageDraw.Draw(self.canvas)
        if prompts.box is not None:
            y0, x0, y1, x1 = (v * self.scale for v in prompts.box)
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
            self._line(pen, corners)
        if prompts.polygon:
            ring = (*prompts.polygon, prompts.polygon[0])
            self._line(pen, [self._xy(y, x) for y, x in ring])
        for (y, x), label in zip(prompts.points, prompts.point_labels, strict=True):
            self._point(pen, *self._xy(y, x), positive=label == 1)

    def finish(self, title: str = "") -> Image.Image:
        """Return the picture at its final size, with a title above if there is one."""
        w, h = (max(1, round(n / _FINE)) for n in self.canvas.size)
        small = self.canvas.resize((w, h), Image.Resampling.LANCZOS)
        return captioned(small, title) if title else small

    def _xy(self, y: float, x: float) -> tuple[float, float]:
        return (x + 0.5) * self.scale, (y + 0.5) * self.scale

    def _tint(
        self,
        mask: np.ndarray,
        origin: tuple[int, int],
        step: int,
        color: Color,
        fill: float,
    ) -> None:
        each = step * self.scale
        size = max(1, round(mask.shape[1] * each)), max(1, round(mask.shape[0] * each))
        stencil = Image.fromarray(np.uint8(mask) * round(255 * fill))
        stencil = stencil.resize(size, Image.Resampling.BILINEAR)
        at = round(origin[1] * self.scale), round(origin[0] * self.scale)
        self.canvas.paste(color, at, stencil)

    def _line(
        self, pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]
    ) -> None:
        pen.line(points, fill=PAPER, width=4 * _FINE, joint="curve")
        pen.line(points, fill=(255, 255, 255), width=2 * _FINE, joint="curve")

    def _point(
        self, pen: ImageDraw.ImageDraw, x: float, y: float, *, positive: bool
    ) -> None:
        r, arm, width = 7 * _FINE, 4 * _FINE, 2 * _FINE
        color = POSITIVE if positive else NEGATIVE
        pen.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
        r -= _FINE * 3 // 2
        pen.ellipse((x - r, y - r, x + r, y + r), fill=color)
        pen.line([(x - arm, y), (x + arm, y)], fill=(255, 255, 255), width=width)
        if positive:
            pen.line([(x, y - arm), (x, y + arm)], fill=(255, 255, 255), width=width)


def mask_picture(mask: np.ndarray, title: str) -> Image.Image:
    """Draw a mask alone, on plain ground with a margin."""
    shown = mask if mask.size else np.zeros((1, 1), bool)
    h, w = shown.shape
    pad = max(1, round(0.1 * max(h, w)))
    paper = np.full((h + 2 * pad, w + 2 * pad, 3), 40, np.uint8)
    picture = Picture.of(paper, side=256)
    picture.mask(shown, (pad, pad, pad + h, pad + w), COLORS[0])
    return picture.finish(title)


def png(image: Image.Image) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def captioned(image: Image.Image, title: str) -> Image.Image:
    """Put a line of text above a picture; a line too long for it is cut."""
    height = 26
    out = Image.new("RGB", (image.width, image.height + height), PAPER)
    out.paste(image, (0, height))
    font = ImageFont.load_default(14)
    while title and font.getlength(title) > image.width - 8:
        title = title[:-2].rstrip() + "…" if len(title) > 2 else ""
    ImageDraw.Draw(out).text((4, height // 2), title, INK, font, anchor="lm")
    return out


def beside(pictures: Sequence[Image.Image], *, gap: int = 8) -> Image.Image:
    """Lay pictures side by side, tops aligned."""
    return _laid(pictures, gap, across=True)


def below(pictures: Sequence[Image.Image], *, gap: int = 8) -> Image.Image:
    """Lay pictures one below the other, left sides aligned."""
    return _laid(pictures, gap, across=False)


def _laid(pictures: Sequence[Image.Image], gap: int, *, across: bool) -> Image.Image:
    along = [p.width if across else p.height for p in pictures]
    other = max(p.height if across else p.width for p in pictures)
    total = sum(along) + gap * (len(pictures) - 1)
    out = Image.new("RGB", (total, other) if across else (other, total), PAPER)
    at = 0
    for picture, size in zip(pictures, along, strict=True):
        out.paste(picture, (at, 0) if across else (0, at))
        at += size + gap
    return out


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    from skimage.measure import find_contours

    lines = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    return [line - 1 for line in lines]
