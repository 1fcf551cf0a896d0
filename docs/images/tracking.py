"""Take the pictures of docs/tracking.md from the real window.

    xvfb-run -a -s "-screen 0 1400x900x24" python docs/images/tracking.py

A time-lapse of made cells that drift and divide: its objects are segmented by nano,
tracked, a wrong link is cut, a division set, a gap filled. Writes tracking.webp, a
moving picture, and a still of each step with ``--steps FOLDER``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SHAPE = (192, 256)


def movie(n_frames: int = 12, seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Cells that wander, of which two divide; and their labels by frame."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    places = {
        i + 1: np.array([32 + 62 * (i // 4), 34 + 60 * (i % 4)], float)
        for i in range(11)
    }
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    radius, born = dict.fromkeys(places, 13.0), {}
    images, labels = [], []
    for t in range(n_frames):
        for mother in (4, 6) if t == 5 else ():
            here = places.pop(mother)
            for side in (-1, 1):
                i = max([*places, *born, 11]) + 1
                born[i] = mother
                places[i] = here + side * np.array([3.0, 9.0])
                radius[i] = 9.0
        frame, label = np.zeros(SHAPE), np.zeros(SHAPE, np.uint16)
        for i, place in places.items():
            place += rng.normal((0.3, 0.8), 1.3)
            ry, rx = radius[i] * (1 + rng.normal(0, 0.03, 2))
            inside = ((y - place[0]) / ry) ** 2 + ((x - place[1]) / rx) ** 2 < 1
            frame[inside] = 0.75 + 0.02 * (i % 5)
            label[inside & (label == 0)] = i
        texture = gaussian_filter(rng.normal(0, 1, SHAPE), 2) * 0.35
        frame = gaussian_filter(frame, 1.6) * (1 + texture) + rng.normal(0, 0.03, SHAPE)
        images.append((frame.clip(0, 1.15) * 205 + 20).astype(np.uint8))
        labels.append(label)
    return np.stack(images), np.stack(labels)


def take(steps: Path | None) -> None:
    """Go through the tab Time with nano, and keep what is seen."""
    import napari
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    from napari_sam._napari.widget import contents_of

    images, true = movie()
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(1366, 768)
    app = QApplication.instance()
    viewer.add_image(images, name="cells", axis_labels=("t", "y", "x"))
    widget = contents_of(viewer)
    controller, panel = widget.controller, widget.panel
    frames: list[Any] = []

    def settle(quiet_s: float = 0.5) -> None:
        start = since = time.monotonic()
        while time.monotonic() - since < quiet_s:
            app.processEvents()
            time.sleep(0.01)
            if controller.session is None or controller.time.busy or widget.jobs.keys:
                since = time.monotonic()
            if time.monotonic() - start > 120:
                raise SystemExit("gave up")

    def shot(name: str, hold: int = 1) -> None:
        settle(0.3)
        picture = viewer.window.screenshot(canvas_only=False, flash=False)
        still = Image.fromarray(picture[..., :3])
        frames.extend([still] * hold)
        if steps is not None:
            still.save(steps / f"{len(frames):03d}_{name}.png")

    settle()
    session = controller.session
    number = 0
    for t in range(len(images)):
        for i in np.unique(true[t])[1:]:
            if (t, i) == (8, 2):  # the gap
                continue
            number += 1
            at = np.argwhere(true[t] == i)
            (y0, x0), (y1, x1) = at.min(0) - 1, at.max(0) + 2
            session.segment(number, plane=t, box=(y0, x0, y1, x1))
    tabs = panel.tabs
    tabs.setCurrentIndex(panel.names.index("Time"))
    viewer.dims.set_current_step(0, 6)
    settle()
    viewer.reset_view()
    shot("segmented", 4)
    panel.time.track.click()
    settle()
    for t in (6, 7, 8, 9, 10, 11):
        viewer.dims.set_current_step(0, t)
        shot(f"tracked_{t}")
    shot("tracked", 4)
    panel.time.check.click()
    while "is missing" not in controller.board.state.said:
        panel.time.check.click()
    shot("gap", 4)
    panel.time.edits["fill_gap"].click()
    shot("filled", 4)
    one = int(session.labels[7][true[7] == 1].max())
    controller.select_object(one)
    viewer.reset_view()
    viewer.dims.set_current_step(0, 7)
    settle()
    panel.time.edits["cut"].click()
    shot("cut", 4)
    controller.undo()
    settle()
    divisions = session.lineage().divisions
    mother, daughters = next(iter(divisions.items()))
    first = session.labels[daughters[0].frame] == daughters[0].object_id
    place = tuple(np.argwhere(first)[0])  # what is there has another id afterwards
    session.tracks.cut(daughters[0])
    settle()
    controller.select_object(mother.object_id)
    viewer.dims.set_current_step(0, mother.frame)
    settle()
    panel.time.edits["mark"].click()
    shot("marked", 3)
    new = int(controller.session.labels[daughters[0].frame][place])
    controller.select_object(new)
    viewer.dims.set_current_step(0, daughters[0].frame)
    settle()
    panel.time.edits["divide"].click()
    shot("divided", 5)
    frames[0].save(
        HERE / "tracking.webp", save_all=True, append_images=frames[1:],
        duration=450, loop=0, quality=45, method=6,
    )  # fmt: skip
    widget.controller.close()
    viewer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=Path)
    given = parser.parse_args()
    if given.steps:
        given.steps.mkdir(parents=True, exist_ok=True)
    take(given.steps)
