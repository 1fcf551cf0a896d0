"""Scores over IoU as a picture, in SVG: no plotting library is needed for one curve."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.results.instances import InstanceScores

_W, _H, _LEFT, _TOP, _SIDE = 460, 320, 52, 34, 240
_CURVES = (("ap", "AP", "#0072b2"), ("f1", "F1", "#d55e00"), ("pq", "PQ", "#009e73"))
"""Colours that are told apart by everybody (Okabe and Ito)."""


def score_plot(scores: InstanceScores, title: str = "") -> str:
    """Draw AP, F1 and panoptic quality over the least IoU of a match.

    Returns
    -------
    str
        An SVG document.
    """
    counts = sorted(scores.counts, key=lambda c: c.threshold)
    low, high = counts[0].threshold, max(c.threshold for c in counts)
    wide = max(high - low, 1e-9)

    def place(threshold: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_W - _LEFT - 70) * (threshold - low) / wide
        return round(x, 1), round(_TOP + _SIDE * (1 - value), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_W}" height="{_H}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x0, y), (x1, _) = place(low, tick), place(high, tick)
        parts.append(
            f'<line x1="{x0}" y1="{y}" x2="{x1}" y2="{y}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:g}</text>'
        )
    for count in counts[:: max(len(counts) // 5, 1)]:
        x, y = place(count.threshold, 0)
        parts.append(
            f'<text x="{x}" y="{y + 18}" text-anchor="middle">'
            f"{count.threshold:g}</text>"
        )
    for n, (name, shown, color) in enumerate(_CURVES):
        corners = [place(c.threshold, getattr(c, name)) for c in counts]
        line = " ".join(f"{x},{y}" for x, y in corners)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{color}" '
            'stroke-width="2"/>'
            f'<text x="{_W - 56}" y="{_TOP + 14 + 18 * n}" fill="{color}">{shown}'
            "</text>"
        )
    middle = (_LEFT + _W - 70) / 2
    parts.append(
        f'<text x="{middle}" y="{_H - 8}" text-anchor="middle">'
        "least IoU of a match</text></svg>"
    )
    return "\n".join(parts)
