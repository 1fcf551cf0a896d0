"""How sessions and their candidates show themselves in a notebook."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import crop_mask
from napari_sam.core.planes import Plane
from napari_sam.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.masks import Bbox
    from napari_sam.core.prompts import Prompts
    from napari_sam.session.saved import Saved
    from napari_sam.volume.volume import Volume

_SHOWN = 1024
"""Longest side, in pixels, of what is read to show a plane."""
_WHOLE = 2**24
"""Planes of more pixels show what was segmented, not what was painted by hand."""


def overview(
    volume: Volume, plane: Plane, intensity: IntensityMapping | None = None
) -> np.ndarray:
    """Read a plane for looking at: (h, w, 3) uint8, at most 1024 pixels a side.

    Comes from a coarse pyramid level where the plane is larger than that.
    """
    shape = plane.shape(volume.shape)
    level = 0
    while max(shape) > _SHOWN << level:
        level += 1
    h, w = (-(-n // (1 << level)) for n in shape)
    pixels = volume.read(plane, Window(level, 0, 0, h, w))
    return (intensity or volume.intensity).apply(pixels)


def draw_session(
    session: Saved,
    plane: int | Sequence[int] | Plane | None = None,
    *,
    axis: int = 0,
    side: int = 512,
    title: str | None = None,
) -> Image:
    """Draw a plane of a session with all its objects and prompts.

    Parameters
    ----------
    plane, axis
        As `Plane.of` takes them; the plane segmented last when left out.
    side : int
        Longer side of the picture in pixels.
    title : str, optional
        Line above the picture; says what is shown when left out, "" for none.

    Returns
    -------
    PIL.Image.Image
        Shows itself in a notebook.
    """
    from napari_sam.core.picture import COLORS, Picture

    volume = session.volume
    where = _plane_of(session, plane, axis)
    rgb = overview(volume, where, session.engine.intensity)
    picture = Picture.of(rgb, where.shape(volume.shape), side=side)
    for object_id, mask, bbox in _objects_on(session, where):
        picture.mask(mask, bbox, COLORS[(object_id - 1) % len(COLORS)])
    for (_, on), state in session.document.states.items():
        if on == where:
            picture.prompts(state.prompts)
    return picture.finish(_title(session, where) if title is None else title)


def draw_candidates(
    session: Saved,
    candidates: Sequence[PlaneCandidate],
    plane: int | Sequence[int] | Plane | None = None,
    *,
    axis: int = 0,
    prompts: Prompts | None = None,
    side: int = 320,
) -> Image:
    """Draw candidates side by side on their plane, each with its scores.

    Parameters
    ----------
    candidates : sequence of PlaneCandidate
        As `Session.segment` returns them.
    plane, axis
        As `Plane.of` takes them; the plane segmented last when left out.
    prompts : Prompts, optional
        Drawn on each.
    """
    from napari_sam.core.picture import COLORS, Picture, beside

    volume = session.volume
    where = _plane_of(session, plane, axis)
    rgb = overview(volume, where, session.engine.intensity)
    pictures = []
    for k, candidate in enumerate(candidates):
        picture = Picture.of(rgb, where.shape(volume.shape), side=side)
        picture.mask(candidate.mask, candidate.bbox, COLORS[k % len(COLORS)])
        if prompts is not None:
            picture.prompts(prompts)
        title = f"{k}: predicted IoU {candidate.predicted_iou:.2f}"
        pictures.append(picture.finish(title))
    return beside(pictures)


def session_png(session: Saved) -> bytes:
    """PNG of the plane segmented last: what ``session`` alone in a cell shows."""
    from napari_sam.core.picture import png

    return png(draw_session(session))


def session_html(session: Saved) -> str:
    """Text for notebooks: image and model, the picture, a row for each object."""
    rows = "".join(
        f"<tr><td>{object_id}</td><td>{len(planes := one.planes)}</td><td>"
        f"{max((r.score or 0.0 for r in planes.values()), default=0.0):.2f}</td></tr>"
        for object_id, one in sorted(session.objects.items())
    )
    what = html.escape(f"{session.volume!r}, model {session.model.spec.name}")
    picture = base64.b64encode(session_png(session)).decode()
    head = "<tr><th>object</th><th>planes</th><th>best predicted IoU</th></tr>"
    table = f"<table>{head}{rows}</table>" if rows else ""
    return f'<p>{what}</p><img src="data:image/png;base64,{picture}">{table}'


def _plane_of(session: Saved, plane: object, axis: int) -> Plane:
    shape = session.volume.shape
    if plane is not None:
        return Plane.of(shape, plane, axis=axis)  # type: ignore[arg-type]
    last = session.document.last
    if last is not None and last in session.document.states:
        return last[1]
    return Plane.of(shape, shape[-3] // 2 if len(shape) > 2 else 0)


def _objects_on(session: Saved, plane: Plane) -> list[tuple[int, np.ndarray, Bbox]]:
    """(id, mask cropped to it, bbox) of each object on a plane."""
    h, w = plane.shape(session.volume.shape)
    if h * w > _WHOLE:
        masks = {i: session.masks(i) for i in session.objects}
        return [
            (i, m[plane].mask, m[plane].bbox) for i, m in masks.items() if plane in m
        ]
    labels = np.asarray(session.labels[plane.window((0, 0, h, w))])
    out = []
    for object_id in np.unique(labels[labels > 0]):
        bbox, mask = crop_mask(labels == object_id)
        out.append((int(object_id), mask, bbox))
    return out


def _title(session: Saved, plane: Plane) -> str:
    if not plane.index:
        return session.volume.name
    shown = plane.shown_axes()
    hidden = [a for i, a in enumerate(session.volume.axes) if i not in shown]
    at = ", ".join(f"{a}={i}" for a, i in zip(hidden, plane.index, strict=True))
    return f"{session.volume.name}, {at}"
