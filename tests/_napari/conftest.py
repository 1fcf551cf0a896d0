"""A viewer without Qt, a worker thread, and a main thread made of a queue."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from napari_sam.testing import ToyModel, phantom_image, phantom_volume

pytest.importorskip("napari", reason="the widget needs napari")

from napari.components import ViewerModel

from napari_sam._napari.controller import Controller
from napari_sam._napari.workers import Jobs

PATIENCE_S = 60.0


class Main:
    """Stands for the main thread: runs what was posted when a test pumps it."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.jobs = Jobs(self.calls.put)

    def pump(self, until: Callable[[], Any]) -> None:
        """Run posted calls until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not until():
            assert time.monotonic() < deadline, "it never came to be"
            try:
                self.calls.get(timeout=0.02)()
            except queue.Empty:
                continue

    def settle(self) -> None:
        """Run until no work is left."""
        self.pump(lambda: not self.jobs.keys and self.calls.empty())


class Desk:
    """A viewer with an image, and a controller at work on it."""

    def __init__(self, model: ToyModel) -> None:
        self.viewer = ViewerModel()
        self.main = Main()
        self.model = model
        self.controller = Controller(
            self.viewer, self.main.jobs, load_model=lambda name: model
        )

    @property
    def state(self) -> Any:
        return self.controller.board.state

    @property
    def annotation(self) -> Any:
        return self.controller.annotation

    @property
    def session(self) -> Any:
        return self.controller.session

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.session.labels)

    def open(self, data: Any, **options: Any) -> Any:
        layer = self.viewer.add_image(data, **options)
        self.main.settle()
        return layer

    def click(self, *data: float) -> None:
        """Add a point as a click on the canvas does, and wait for the answer."""
        self.annotation.layers.points.add(np.array(data, float))
        self.main.settle()


@pytest.fixture(autouse=True)
def sessions(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep the sessions that the widget keeps by itself out of the user's folder."""
    monkeypatch.setenv("NAPARI_SAM_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.setenv("NAPARI_SAM_CONFIG", str(tmp_path / "config"))
    return tmp_path / "sessions"


@pytest.fixture
def main() -> Main:
    return Main()


@pytest.fixture
def desk_for() -> Iterator[Callable[[Any], Desk]]:
    """Make a desk with the model given."""
    desks: list[Desk] = []

    def make(model: Any) -> Desk:
        desks.append(Desk(model))
        return desks[-1]

    yield make
    for made in desks:
        made.controller.close()
        made.main.jobs.close(timeout_s=5)
        assert not made.main.jobs.alive


@pytest.fixture
def desk(desk_for: Callable[[Any], Desk]) -> Desk:
    return desk_for(ToyModel(64))


@pytest.fixture(scope="session")
def cells() -> Any:
    return phantom_image((96, 128), n_objects=4, noise=0)


@pytest.fixture(scope="session")
def stack() -> Any:
    return phantom_volume((8, 64, 80), n_objects=2, noise=0)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyModel:
    """Answer in every window instead of a model with weights."""
    model = ToyModel(64)
    monkeypatch.setitem(
        Controller.__init__.__kwdefaults__, "load_model", lambda name: model
    )
    return model


@pytest.fixture
def bench(make_napari_viewer: Any, qtbot: Any, toy: ToyModel) -> Any:
    """A real window with a bright bar, and the panel opened from the menu."""
    from napari_window import Bench

    viewer = make_napari_viewer(show=True)
    image = np.full((60, 90), 20, np.uint8)
    image[20:40, 10:80] = 200
    viewer.add_image(image, name="bar", scale=(0.5, 0.5), translate=(3, -2))
    made = Bench(viewer, qtbot)
    made.settle()
    yield made
    jobs = made.widget.jobs
    made.controller.close()
    jobs.close(timeout_s=5)
    assert not jobs.alive
