"""How late the GUI's event loop gets while the widget works.

Opens real windows, lets a 20 ms timer tick, and measures by how much each tick is late.

- ``mosaic``: coins of a 4 000 x 4 000 mosaic of real pictures are segmented one by one
  with the mouse, at first with nothing else going on, then while the whole image is
  embedded. After each object the same is done in a window with napari alone: the same
  place is shown, a point clicked, and the same pixels written into a Labels layer. What
  is late there is napari's and the renderer's, whatever the machine.
- ``volume``: while the widget is made ready, during the first clicks, and while a whole
  volume is embedded with clicks in between; and how long a cancel takes.
- ``fill``: while one click on a ball is carried through an embedded volume, while that
  is taken back and made again, and while the strip is gone through.

    python benchmarks/event_loop.py                       # nano
    python benchmarks/event_loop.py --only volume --model sam_vit_b --random
    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/event_loop.py

Prints one JSON line; the budget is 100 ms of lateness and 1000 ms for the cancel.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_MS = 20
BUDGET_MS = 100


class Ticker:
    """A timer that remembers how late each tick was, and how busy this thread was.

    Busy is the processor time of the main thread since the tick before: other programs
    on the machine make ticks late, and never busy.
    """

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[tuple[float, float]] = []
        self._last, self._busy = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL_MS)

    def _tick(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        late = max(0.0, (now - self._last) * 1000 - INTERVAL_MS)
        self.late.append((late, (busy - self._busy) * 1000))
        self._last, self._busy = now, busy

    def take(self) -> dict[str, float]:
        """Summary since the last call, in milliseconds."""
        late, self.late = self.late, []
        return summary(late)


def summary(values: list[tuple[float, float]]) -> dict[str, float]:
    """Return the worst, the 99th percentile and how many are over budget, in ms."""
    late, busy = np.array(values or [(0.0, 0.0)]).T
    return {
        "max_late_ms": round(float(late.max()), 1),
        "p99_late_ms": round(float(np.percentile(late, 99)), 1),
        "over_budget": int((late > BUDGET_MS).sum()),
        "max_busy_ms": round(float(busy.max()), 1),
        "p99_busy_ms": round(float(np.percentile(busy, 99)), 1),
        "ticks": len(late),
    }


def wait(app: Any, until: Callable[[], Any], limit_s: float = 300) -> float:
    """Run the event loop until something holds; returns the seconds it took."""
    from qtpy.QtCore import QEventLoop

    start = time.perf_counter()
    while not until():
        if time.perf_counter() - start > limit_s:
            raise SystemExit(f"gave up after {limit_s} s")
        app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, INTERVAL_MS)
        time.sleep(0.001)
    return time.perf_counter() - start


def pause(app: Any, seconds: float) -> None:
    """Run the event loop for some time."""
    end = time.perf_counter() + seconds
    wait(app, lambda: time.perf_counter() > end)


def random_weights(name: str, folder: Path) -> Path:
    """Write a checkpoint of random weights: speed does not depend on them."""
    import torch

    path = folder / f"{name}.safetensors"
    torch.manual_seed(0)
    if name == "nano":
        from napari_sam.models.nano.nano import NanoNetwork, write_weights

        write_weights(NanoNetwork(), path)
    else:
        from segment_anything import sam_model_registry

        path = path.with_suffix(".pth")
        torch.save(sam_model_registry[name.removeprefix("sam_")]().state_dict(), path)
    return path


def pictures(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a mosaic of scikit-image's real pictures, and labels of its coins."""
    from scipy import ndimage
    from skimage import data, filters, util

    rng = np.random.default_rng(0)
    coins = data.coins()
    found = ndimage.binary_opening(coins > filters.threshold_otsu(coins) + 10, None, 3)
    labels, _ = ndimage.label(found)
    sizes = np.bincount(labels.ravel())
    labels[(sizes < 800)[labels] | (sizes > 6000)[labels]] = 0
    others = [data.cell(), data.moon(), data.camera(), data.page()]
    others += [util.img_as_ubyte(data.colorwheel().mean(-1) / 255)]
    image = np.zeros((side, side), np.uint8)
    truth = np.zeros((side, side), np.uint16)
    h, w = coins.shape
    for n, (y, x) in enumerate(
        (y, x) for y in range(0, side, h) for x in range(0, side, w)
    ):
        here = np.s_[y : min(y + h, side), x : min(x + w, side)]
        size = image[here].shape
        turn = np.s_[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        if n % 4 == 3:
            other = others[n // 4 % len(others)]
            part = np.resize(other[turn][:h, :w], (h, w))
            image[here] = part[: size[0], : size[1]]
            continue
        image[here] = coins[turn][: size[0], : size[1]]
        marked = labels[turn][: size[0], : size[1]]
        truth[here] = np.where(marked, marked + truth.max(), 0)
    return image, truth


class Window:
    """A napari window with an image, and a mouse."""

    def __init__(self, image: np.ndarray) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        self.viewer = napari.Viewer()
        self.app = QApplication.instance()
        self.image = self.viewer.add_image(image, name="image")
        self.canvas = self.viewer.window._qt_viewer.canvas  # there is no public way
        pause(self.app, 1)

    def look(self, y: float, x: float, zoom: float = 1.0) -> None:
        """Show a place of the image."""
        self.viewer.scene.camera.center = (0, y, x)
        self.viewer.scene.camera.zoom = zoom
        pause(self.app, 0.3)

    def click(self, *where: float) -> None:
        """Press and release the left button, as fast as people do."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        y, x = self.image.data_to_world(where)[-2:]
        at = self.canvas.view.scene.transform.map([x, y, 0, 1])
        point = QPoint(int(at[0]), int(at[1]))
        args = self.canvas.native, Qt.LeftButton, Qt.NoModifier, point
        QTest.mousePress(*args)
        pause(self.app, 0.06)
        QTest.mouseRelease(*args)


def measure_mosaic(model: str, side: int, objects: int) -> dict[str, Any]:
    """Segment a mosaic, in turns with napari alone; see the module's text."""
    image, truth = pictures(side)
    alone, ours = Window(image), Window(image)
    labels = alone.viewer.add_labels(np.zeros(image.shape, np.uint16), opacity=0.5)
    alone.viewer.add_points(ndim=2, size=14).mode = "add"
    pause(alone.app, 1)
    _, widget = ours.viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    controller, app = widget.controller, ours.app
    if model != "nano":
        controller.use_model(model)
    wait(app, lambda: controller.session is not None)
    wait(app, lambda: not widget.jobs.keys)
    rng = np.random.default_rng(1)
    coins = rng.permutation(np.unique(truth)[1:])[: 2 * objects]
    ticker = Ticker()
    late: dict[str, list[tuple[float, float]]] = {
        "ours": [],
        "napari": [],
        "embedding": [],
    }
    late["napari_between"] = []
    ious, took = [], []
    for n, coin in enumerate(coins):
        embedding = n >= objects
        ys, xs = np.nonzero(truth == coin)
        y, x = float(ys.mean()), float(xs.mean())
        if embedding:
            controller.embed()
        pause(app, 0.2)
        ticker.take()
        ours.look(y, x)
        session, start = controller.session, time.perf_counter()
        mine = controller.board.state.object_id
        ours.click(y, x)
        wait(app, lambda: mine in session.objects)  # noqa: B023
        took.append(time.perf_counter() - start)
        wait(app, lambda: not widget.jobs.keys - {"embed"})
        pause(app, 0.2)
        controller.new_object()
        pause(app, 0.2)
        late["embedding" if embedding else "ours"] += ticker.late
        found = np.asarray(session.labels) == mine
        ious.append((found & (truth == coin)).sum() / (found | (truth == coin)).sum())
        controller.encoding.pause()
        wait(app, lambda: widget.jobs.idle)
        pause(app, 0.2)

        ticker.take()
        alone.look(y, x)
        alone.click(y, x)
        pause(app, 0.2)
        labels.data_setitem(np.nonzero(found), n + 1)
        pause(app, 0.4)
        late["napari_between" if embedding else "napari"] += ticker.late
    done = controller.board.state.encoding
    report = {
        "model": Path(model).stem,
        "cores": os.cpu_count(),
        "click_s": round(float(np.median(took)), 2),
        "mean_iou": round(float(np.mean(ious)), 2),
        "tiles_embedded_meanwhile": done.done,
        **{name: summary(values) for name, values in late.items()},
    }
    for window in (ours, alone):
        window.viewer.close()
    return report


def measure(model: str, planes: int, side: int, clicks: int) -> dict[str, Any]:
    """Open the window and measure; see the module's text."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 4000, (planes, side, side)).astype(np.uint16)
    window = Window(data)
    viewer, app = window.viewer, window.app
    report: dict[str, Any] = {"model": Path(model).stem, "cores": os.cpu_count()}

    start = time.perf_counter()
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    report["widget_s"] = round(time.perf_counter() - start, 2)
    controller, board = widget.controller, widget.controller.board
    if model != "nano":
        controller.use_model(model)
    ticker = Ticker()
    report["ready_s"] = round(wait(app, lambda: controller.session is not None), 2)
    wait(app, lambda: not widget.jobs.keys)
    report["loading"] = ticker.take()

    def click() -> float:
        start = time.perf_counter()
        mine = board.state.object_id
        window.click(viewer.dims.current_step[0], *rng.uniform(0.2, 0.8, 2) * side)
        wait(app, lambda: mine in controller.session.objects)
        took = time.perf_counter() - start
        controller.new_object()
        return took

    report["first_click_s"] = round(click(), 2)
    wait(app, lambda: not widget.jobs.keys)
    report["first_click"] = ticker.take()
    report["clicks_s"] = [round(click(), 2) for _ in range(clicks)]
    wait(app, lambda: not widget.jobs.keys)
    report["clicks"] = ticker.take()

    for step in range(100):  # what napari itself takes to draw
        viewer.scene.camera.zoom *= 1.01 if step % 2 else 1 / 1.01
        pause(app, 0.02)
    report["drawing_only"] = ticker.take()

    controller.embed()
    wait(app, lambda: board.state.encoding.phase == "idle")
    report["embedding"] = ticker.take()

    controller.intensity.set_window(
        0, 3000
    )  # another window: everything is encoded again
    controller.embed()
    for i in range(clicks):
        wait(app, lambda n=i: board.state.encoding.done > n)
        click()
    report["embedding_and_clicks"] = ticker.take()
    wait(app, lambda: board.state.encoding.phase == "idle")

    controller.intensity.set_window(0, 2000)
    controller.embed()
    wait(app, lambda: board.state.encoding.done > 0)
    ticker.take()
    start = time.perf_counter()
    controller.cancel()
    report["cancel_answered_ms"] = round((time.perf_counter() - start) * 1000, 1)
    wait(app, lambda: widget.jobs.idle)
    report["cancel_stopped_ms"] = round((time.perf_counter() - start) * 1000, 1)
    viewer.close()
    return report


def measure_fill(model: str, planes: int, side: int) -> dict[str, Any]:
    """Fill a volume from one click and measure; see the module's text."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:planes, :side, :side]
    middle = planes // 2
    away = ((z - middle) / (0.45 * planes)) ** 2 + (
        (y - 0.5 * side) / (0.3 * side)
    ) ** 2
    ball = away + ((x - 0.45 * side) / (0.25 * side)) ** 2 < 1
    data = rng.normal(np.where(ball, 140, 60), 8).clip(0, 255).astype(np.uint8)
    window = Window(data)
    viewer, app = window.viewer, window.app
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    controller, board = widget.controller, widget.controller.board
    if model != "nano":
        controller.use_model(model)
    wait(app, lambda: controller.session is not None)
    wait(app, lambda: not widget.jobs.keys)
    controller.embed()
    wait(app, lambda: board.state.encoding.phase == "idle")
    window.click(middle, 0.5 * side, 0.45 * side)
    wait(app, lambda: board.state.object_id in controller.session.objects)
    wait(app, lambda: not widget.jobs.keys)
    report: dict[str, Any] = {"model": Path(model).stem, "cores": os.cpu_count()}
    ticker = Ticker()
    pause(app, 0.5)
    ticker.take()

    def quiet() -> bool:
        following = controller.following
        return not following.state.running and not following._drawing

    start = time.perf_counter()
    controller.following.fill()
    wait(app, quiet)
    took = time.perf_counter() - start
    pause(app, 0.3)
    filled = len(board.state.volume.strip) - 1
    report["filled"] = filled
    report["ms_a_plane"] = round(1000 * took / max(filled, 1), 1)
    report["filling"] = ticker.take()
    for _ in range(2):
        controller.undo()
        pause(app, 0.3)
        controller.redo()
        pause(app, 0.3)
    report["undo_and_redo"] = ticker.take()
    for number in range(0, planes, 4):
        controller.following.show_plane(number)
        pause(app, 0.05)
    report["going_through"] = ticker.take()
    viewer.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--random", action="store_true", help="use random weights")
    parser.add_argument("--planes", type=int, default=24)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--mosaic", type=int, default=4000, help="its side in pixels")
    parser.add_argument("--objects", type=int, default=20, help="of the mosaic, twice")
    parts = ("mosaic", "volume", "fill")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"] = folder
        os.environ["NAPARI_SAM_SESSIONS"] = str(Path(folder) / "sessions")
        model = args.model
        if args.random:
            model = _in_another_process(args.model, folder)
        report: dict[str, Any] = {}
        if "mosaic" in args.only:
            report["mosaic"] = measure_mosaic(model, args.mosaic, args.objects)
        if "volume" in args.only:
            report["volume"] = measure(model, args.planes, args.side, args.clicks)
        if "fill" in args.only:
            report["fill"] = measure_fill(model, 64, args.side)
    print(json.dumps(report))


def _in_another_process(name: str, folder: str) -> str:
    """Make the weights elsewhere: importing torch is part of what is measured here."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return str(pool.submit(random_weights, name, Path(folder)).result())


if __name__ == "__main__":
    main()
