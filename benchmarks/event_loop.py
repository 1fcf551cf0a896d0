"""How late the GUI's event loop gets while the widget works.

Opens a real window, lets a 20 ms timer tick, and measures by how much each tick is
late: while the widget is made ready, during the first clicks, and while a whole volume
is embedded with clicks in between. Then measures how long a cancel takes.

    python benchmarks/event_loop.py                       # nano
    python benchmarks/event_loop.py --model sam_vit_b --random
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
    """A timer that remembers how late each of its ticks was."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(INTERVAL_MS)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, (now - self._last) * 1000 - INTERVAL_MS))
        self._last = now

    def take(self) -> dict[str, float]:
        """Summary since the last call, in milliseconds."""
        late, self.late = np.array(self.late or [0.0]), []
        return {
            "max_late_ms": round(float(late.max()), 1),
            "p99_late_ms": round(float(np.percentile(late, 99)), 1),
            "over_budget": int((late > BUDGET_MS).sum()),
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
        from napari_sam.models.nano import NanoNetwork, write_weights

        write_weights(NanoNetwork(), path)
    else:
        from segment_anything import sam_model_registry

        path = path.with_suffix(".pth")
        torch.save(sam_model_registry[name.removeprefix("sam_")]().state_dict(), path)
    return path


def measure(model: str, planes: int, side: int, clicks: int) -> dict[str, Any]:
    """Open the window and measure; see the module's text."""
    import napari
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication

    rng = np.random.default_rng(0)
    data = rng.integers(0, 4000, (planes, side, side)).astype(np.uint16)
    viewer = napari.Viewer()
    app = QApplication.instance()
    layer = viewer.add_image(data, contrast_limits=(0, 4000))
    pause(app, 1)
    report: dict[str, Any] = {"model": Path(model).stem, "cores": os.cpu_count()}

    start = time.perf_counter()
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    report["widget_s"] = round(time.perf_counter() - start, 2)
    controller, board = widget.controller, widget.controller.board
    if model != "nano":
        controller.use_model(model)
    ticker = Ticker()
    report["ready_s"] = round(wait(app, lambda: controller.session is not None), 2)
    wait(app, lambda: not widget.jobs.keys)
    report["loading"] = ticker.take()

    canvas = viewer.window._qt_viewer.canvas  # the only way to the real canvas

    def click() -> float:
        y, x = rng.uniform(0.2 * side, 0.8 * side, 2)
        at = layer.data_to_world((0, y, x))[-2:]
        to = canvas.view.scene.transform.map([at[1], at[0], 0, 1])
        from qtpy.QtCore import QPoint, Qt

        where = QPoint(int(to[0]), int(to[1]))
        before = controller.session.can_undo, len(controller.session.objects)
        QTest.mouseClick(canvas.native, Qt.LeftButton, Qt.NoModifier, where)
        took = wait(
            app,
            lambda: (
                (controller.session.can_undo, len(controller.session.objects)) != before
            ),
        )
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
    wait(app, lambda: board.state.progress is None)
    report["embedding"] = ticker.take()

    controller.use_window(0, 3000)  # another window: everything is encoded again
    controller.embed()
    for i in range(clicks):
        wait(app, lambda n=i: (board.state.progress or (999, 0))[0] > n)
        click()
    report["embedding_and_clicks"] = ticker.take()
    wait(app, lambda: board.state.progress is None)

    controller.use_window(0, 2000)
    controller.embed()
    wait(app, lambda: (board.state.progress or (999, 0))[0] > 0)
    ticker.take()
    start = time.perf_counter()
    controller.cancel()
    report["cancel_answered_ms"] = round((time.perf_counter() - start) * 1000, 1)
    wait(app, lambda: widget.jobs.idle)
    report["cancel_stopped_ms"] = round((time.perf_counter() - start) * 1000, 1)
    viewer.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--random", action="store_true", help="use random weights")
    parser.add_argument("--planes", type=int, default=24)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--clicks", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"] = folder
        model = args.model
        if args.random:
            model = _in_another_process(args.model, folder)
        report = measure(model, args.planes, args.side, args.clicks)
    print(json.dumps(report))


def _in_another_process(name: str, folder: str) -> str:
    """Make the weights elsewhere: importing torch is part of what is measured here."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return str(pool.submit(random_weights, name, Path(folder)).result())


if __name__ == "__main__":
    main()
