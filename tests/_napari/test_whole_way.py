"""From everything on an image to exported files, by mouse and keys, and all undone."""

import csv
import json

import numpy as np
import pytest
from napari_window import Bench
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

pytestmark = pytest.mark.canvas
LEFT = Qt.MouseButton.LeftButton
ALT, CONTROL = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ControlModifier
SQUARES = [(y, x) for y in (3, 22) for x in (3, 22, 42)]


@pytest.fixture
def bench(make_napari_viewer, qtbot, toy):
    """Six squares of different sizes and greys, and a bar."""
    image = np.full((64, 64), 20, np.uint8)
    for n, (y, x) in enumerate(SQUARES):
        image[y : y + 11 + n, x : x + 11 + n] = 70 + 25 * n
    image[46:58, 4:60] = 250
    viewer = make_napari_viewer(show=True)
    viewer.add_image(image, name="squares")
    made = Bench(viewer, qtbot)
    made.settle()
    viewer.reset_view()
    made.settle()
    yield made
    jobs = made.widget.jobs
    made.controller.close()
    jobs.close(timeout_s=5)
    assert not jobs.alive


def press(bench, button):
    assert button.isEnabled(), button.text()
    button.click()
    bench.settle()


def show(bench, tab):
    panel = bench.widget.panel
    panel.tabs.setCurrentIndex(panel.names.index(tab))
    bench.settle()


def test_everything_is_found_mended_named_exported_and_undone(
    bench, tmp_path, monkeypatch
):
    panel = bench.widget.panel
    session, find = bench.controller.session, panel.review
    show(bench, "Find")
    press(bench, find.everything)
    found = find.rows.count()
    low = find.thresholds.area.value()[0]
    find.thresholds.area.setValue((low, 3.0))  # the background is no object
    bench.settle()
    assert find.rows.count() == 7 < found

    # Three are rejected, two drawn anew by a box, the others accepted.
    for _ in range(3):
        bench.key(Qt.Key.Key_Period)
        bench.key(Qt.Key.Key_R)
    gone = 7 - find.rows.count()
    assert gone == 3
    drawn = []
    for _ in range(2):
        bench.key(Qt.Key.Key_Period)
        y0, x0, y1, x1 = bench.controller.review.current.bbox
        press(bench, find.redraw)
        drawn.append(bench.state.object_id)
        bench.drag((y0 - 2, x0 - 2), (y1 + 1, x1 + 1))
        inside = bench.labels[y0:y1, x0:x1] == drawn[-1]
        assert inside.mean() > 0.95
    press(bench, find.accept_all)
    assert len(session.objects) == 4

    # One is split by two clicks.
    one = int(bench.labels.max())
    ys, xs = np.nonzero(bench.labels == one)
    bench.key(Qt.Key.Key_W)
    bench.click(ys.min() + 2, xs.min() + 2)
    bench.click(ys.max() - 2, xs.max() - 2)
    assert len(session.objects) == 5
    assert len(np.unique(bench.labels[bench.labels > 0])) == 5

    # Classes by key, on the canvas and in the table, which is sorted by size.
    show(bench, "Objects")
    for name in ("small", "large"):
        bench.controller.classes.add(name)
    bench.settle()
    table, rows = panel.objects.table, panel.objects.rows
    press(bench, panel.objects.measure)
    rows.sortByColumn(table.names.index("size"), Qt.SortOrder.DescendingOrder)
    sizes = [(bench.labels == row.object_id).sum() for row in table.rows]
    assert sizes == sorted(sizes, reverse=True)
    panel.objects.choose([row.object_id for row in table.rows[:3]])
    QTest.keyClick(rows, Qt.Key.Key_2)
    bench.settle()
    last = table.rows[-1].object_id
    at = rows.visualRect(table.index(len(table.rows) - 1, 0)).center()
    rows.scrollToBottom()
    at = rows.visualRect(table.index(len(table.rows) - 1, 0)).center()
    QTest.mouseClick(rows.viewport(), LEFT, pos=at)
    bench.settle()
    assert bench.state.object_id == last
    bench.key(Qt.Key.Key_1, ALT)
    kinds = [o.class_name for o in session.objects.values()]
    assert (kinds.count("large"), kinds.count("small")) == (3, 1)

    # Out, as COCO and as a table.
    show(bench, "Results")
    for name, path in (("coco", "a.json"), ("csv", "a.csv")):
        chosen = (str(tmp_path / path), "")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, c=chosen: c)
        panel.output.export_wanted.emit(name)
        bench.settle()
    coco = json.loads((tmp_path / "a.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    out = [names[a["category_id"]] for a in coco["annotations"]]
    assert (len(out), out.count("large"), out.count("small")) == (5, 3, 1)
    with open(tmp_path / "a.csv", newline="") as file:
        written = {int(r["object_id"]): r for r in csv.DictReader(file)}
    assert {i for i, r in written.items() if r["class"] == "small"} == {last}
    for i, row in written.items():
        assert int(row["pixels"]) == (bench.labels == i).sum()

    steps = 0
    while session.can_undo:
        bench.key(Qt.Key.Key_Z, CONTROL)
        steps += 1
        assert steps < 40
    assert not bench.labels.any() and not session.objects
    assert not session.classes.classes
    assert steps > 8
