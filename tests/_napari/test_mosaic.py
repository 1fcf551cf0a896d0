"""A mosaic of 4 000 x 4 000 real pixels, segmented object by object in a window.

`benchmarks/event_loop.py` times the event loop meanwhile. Here is what keeps it free:
nothing that takes long runs on the main thread, and no plane is drawn anew as a whole.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam._napari import candidates
from napari_sam.embeddings import encode
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.engine.engine import Engine
from napari_sam.session import requests
from napari_sam.volume.volume import Volume

pytestmark = pytest.mark.canvas

SLOW = (
    (requests, "predict"),
    (requests, "iter_predict"),
    (Engine, "embedding"),
    (EmbeddingStore, "get"),
    (EmbeddingStore, "put"),
    (EmbeddingStore, "numbers"),
    (Volume, "read"),
    (encode, "encode_region"),
    (candidates, "draw_thumbnails"),
)
"""Calls that read, write, encode, decode or draw much."""


@pytest.fixture(scope="module")
def coins():
    """The mosaic, and a mask of each coin of its first picture."""
    from scipy import ndimage
    from skimage import data, filters

    picture = data.coins()
    labels, _ = ndimage.label(
        ndimage.binary_opening(
            picture > filters.threshold_otsu(picture) + 10, iterations=3
        )
    )
    sizes = np.bincount(labels.ravel())
    good = [n for n in range(1, len(sizes)) if 1500 < sizes[n] < 6000]
    return np.tile(picture, (14, 11))[:4000, :4000], [labels == n for n in good]


@pytest.fixture
def calls(monkeypatch):
    """Slow calls that were made: (name, whether on the main thread)."""
    calls = set()
    for owner, name in SLOW:
        plain = getattr(owner, name)

        def spy(*args, plain=plain, name=name, **options):
            here = threading.current_thread() is threading.main_thread()
            calls.add((name, here))
            return plain(*args, **options)

        monkeypatch.setattr(owner, name, spy)
    return calls


def test_it_is_segmented_while_it_is_embedded_with_nothing_slow_on_the_main_thread(
    make_napari_viewer, qtbot, coins, calls, tmp_path, monkeypatch
):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    image, masks = coins
    viewer = make_napari_viewer(show=True)
    layer = viewer.add_image(image, name="mosaic")
    _, widget = viewer.window.add_plugin_dock_widget(
        "napari-sam-anysize", "Segment Anything"
    )
    controller, canvas = widget.controller, viewer.window._qt_viewer.canvas
    qtbot.waitUntil(lambda: controller.session is not None, timeout=60_000)
    session, labels = controller.session, viewer.layers["mosaic · masks"]
    calls.clear()
    drawn_whole = []
    labels.events.set_data.connect(drawn_whole.append)
    controller.embed()

    found = []
    h, w = masks[0].shape
    for n, (row, col) in enumerate([(0, 0), (6, 5), (11, 9)]):
        mask = masks[n]
        ys, xs = np.nonzero(mask)
        y, x = ys.mean() + row * h, xs.mean() + col * w
        viewer.scene.camera.center, viewer.scene.camera.zoom = (0, y, x), 1
        qtbot.wait(50)
        at = canvas.view.scene.transform.map([*layer.data_to_world((y, x))[::-1], 0, 1])
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        mine = controller.board.state.object_id
        QTest.mouseClick(canvas.native, left, none, QPoint(int(at[0]), int(at[1])))
        qtbot.waitUntil(lambda o=mine: o in session.objects, timeout=60_000)
        qtbot.waitUntil(lambda: not widget.jobs.keys - {"embed"}, timeout=60_000)
        got = labels.data[row * h : (row + 1) * h, col * w : (col + 1) * w] == mine
        found.append((got & mask).sum() / (got | mask).sum())
        controller.new_object()

    assert controller.board.state.encoding.phase == "all"
    assert np.mean(found) > 0.5
    assert {name for name, here in calls if here} == set()
    assert {name for name, _ in calls} >= {
        "iter_predict",
        "encode_region",
        "put",
        "read",
    }
    assert drawn_whole == []
    controller.close()
    widget.jobs.close(timeout_s=20)
    assert not widget.jobs.alive
