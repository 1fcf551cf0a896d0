"""The tab Objects: a table that sorts, filters, judges, names, measures and plots."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam._napari import object_list
from napari_sam._napari.state import (
    CheckState,
    GuessedState,
    MeasuredState,
    ObjectRow,
    PanelState,
)
from napari_sam._napari.views.objects_view import ObjectsView
from napari_sam._napari.views.row_filter import RowFilter
from napari_sam.session import Session
from napari_sam.testing import ToyModel

DOWN, UP = Qt.SortOrder.DescendingOrder, Qt.SortOrder.AscendingOrder


@pytest.fixture
def found(desk, cells):
    """A desk with the four objects of an image, from labels that were there."""
    labels = cells.labels.astype(np.uint16)
    work = Session(cells.image, ToyModel(64), embeddings=False, labels=labels)
    layer = desk.viewer.add_image(cells.image)
    desk.controller.use_image(layer, work)
    desk.main.settle()
    assert [row.object_id for row in desk.state.objects] == [1, 2, 3, 4]
    return desk


@pytest.fixture
def view(qtbot):
    made = ObjectsView()
    qtbot.addWidget(made)
    made.resize(400, 700)
    with qtbot.waitExposed(made):
        made.show()
    return made


def rows_of(n):
    rng = random.Random(0)
    kinds = ("", "cell", "nucleus")
    rows = (
        ObjectRow(i, "", rng.choice(kinds), "open", rng.random(), 1, 0.9, "clicked")
        for i in range(1, n + 1)
    )
    return tuple(rows)


def measured(n):
    size = [float(i) for i in range(n, 0, -1)]
    tall = [None if i == 0 else 1.0 + i % 7 for i in range(n)]
    place = {i + 1: i for i in range(n)}
    return MeasuredState({"size": size, "elongation": tall}, place, "um^2")


def state_of(rows, object_id=1, **values):
    return replace(PanelState(), objects=rows, object_id=object_id, **values)


def ids(view):
    return [row.object_id for row in view.table.rows]


def centre_of(viewer):
    return tuple(getattr(viewer, "scene", viewer).camera.center)


# -- what the controller does --------------------------------------------------------


def test_many_objects_are_judged_named_and_removed_each_as_one_step(found, cells):
    many = found.controller.reviewing
    many.reject([1, 3])
    found.main.settle()
    review = [row.review for row in found.state.objects]
    assert review == ["rejected", "open", "rejected", "open"]
    many.set_class([1, 2, 3], "cell ")
    many.set_class([4], "dust")
    found.controller.classes.set_number(1)
    found.main.settle()
    kinds = [row.class_name for row in found.state.objects]
    assert kinds == ["cell", "cell", "cell", "dust"]
    many.set_class([1], 7)
    assert "no class 7" in found.state.status
    many.delete([1, 3])
    found.main.settle()
    assert set(np.unique(found.labels)) == {0, 2, 4}
    assert "2 objects removed" in found.state.status
    found.controller.undo()
    found.main.settle()
    np.testing.assert_array_equal(found.labels, cells.labels)
    assert [row.class_name for row in found.state.objects] == kinds


def test_objects_drawn_at_random_say_how_many_are_wrong(found):
    many = found.controller.reviewing
    many.check("random")
    looked_at = []
    for right in (False, True, True):
        looked_at.append(found.state.object_id)
        (many.accept if right else many.reject)()
        found.main.settle()
    assert found.state.check.left == 1
    assert "33 % wrong" in found.state.check.error_rate
    assert "1 of 3" in found.state.check.error_rate
    found.controller.reviewing.accept()
    found.main.settle()
    assert found.state.check.order == "" and len(set(looked_at)) == 3
    rejected = [r.object_id for r in found.state.objects if r.review == "rejected"]
    assert rejected == looked_at[:1]
    found.controller.undo()
    found.main.settle()
    assert "1 of 3" in found.state.check.error_rate


def test_review_goes_from_the_most_doubtful_on_and_only_among_those_shown(desk, cells):
    desk.open(cells.image)
    for n in (1, 2, 3):
        desk.click(*cells.center(n))
        desk.controller.new_object()
    desk.main.settle()
    order = desk.session.review_queue("doubt")
    desk.controller.reviewing.check("doubt", among=sorted(order[:2]))
    assert desk.state.object_id == order[0] and desk.state.check.left == 2
    desk.controller.reviewing.accept()
    assert desk.state.object_id == order[1]
    desk.controller.reviewing.reject()
    assert desk.state.check.order == "" and "All have been" in desk.state.status
    assert desk.session.objects[order[2]].review == "open"


def test_the_next_object_by_key_comes_into_view_and_after_the_last_the_first(found):
    shown = []
    for _ in range(4):
        found.controller.reviewing.next_object()
        found.main.settle()
        shown.append((found.state.object_id, centre_of(found.viewer)))
    assert [i for i, _ in shown] == [2, 3, 4, 1]
    assert len({place for _, place in shown}) == 4
    found.controller.reviewing.previous_object()
    assert found.state.object_id == 4


def test_what_was_measured_is_that_of_the_pixels_until_they_change(found, cells):
    found.controller.reviewing.measure()
    found.main.settle()
    there = found.state.measured
    assert there.of("pixels", 3) == (cells.labels == 3).sum()
    mean = cells.image[cells.labels == 3].mean()
    assert there.of("intensity_mean", 3) == pytest.approx(mean)
    assert found.state.check.outdated == 0
    found.controller.reviewing.delete([2])
    found.main.settle()
    assert found.state.check.outdated == 1
    assert found.state.measured.of("pixels", 2) is None
    assert found.state.measured.of("pixels", 3) == (cells.labels == 3).sum()


def test_thousands_of_objects_are_listed_a_part_at_a_time(found, monkeypatch):
    monkeypatch.setattr(object_list, "AT_ONCE", 3)
    listed = found.annotation.objects
    listed.use(found.session)
    turns = 0
    while not found.main.calls.empty():
        found.main.calls.get()()
        turns += 1
    assert turns == 2 and len(found.state.objects) == 4


def test_somebody_else_s_session_is_joined_and_what_differs_is_flagged(
    found, cells, tmp_path
):
    labels = np.where(cells.labels == 2, 0, cells.labels).astype(np.uint16)
    other = Session(cells.image, ToyModel(64), embeddings=False, labels=labels)
    other.save(tmp_path / "b.nsam")
    other.close()
    found.controller.files.combine(str(tmp_path / "b.nsam"))
    found.main.settle()
    flagged = [r for r in found.state.objects if r.review == "flagged"]
    assert [(r.object_id, r.note) for r in flagged] == [(2, "they have no such object")]
    assert "3 objects are the same, 1 are flagged" in found.state.status
    found.controller.undo()
    found.main.settle()
    assert {r.review for r in found.state.objects} == {"open"}
    found.controller.files.combine(str(tmp_path / "none.nsam"))
    found.main.settle()
    assert "none.nsam" in found.state.status


# -- what is seen --------------------------------------------------------------------


def test_columns_sort_both_ways_and_what_is_unknown_comes_last(view):
    view.show_state(state_of(rows_of(5), measured=measured(5)))
    assert ids(view) == [1, 2, 3, 4, 5]
    column = view.table.names.index("size")
    view.rows.sortByColumn(column, UP)
    assert ids(view) == [5, 4, 3, 2, 1]
    column = view.table.names.index("elongation")
    for order in (UP, DOWN):
        view.rows.sortByColumn(column, order)
        assert ids(view)[-1] == 1
    assert [i for i in ids(view) if i != 1] == [5, 4, 3, 2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("cell", [1, 3], id="a word"),
        pytest.param("class=cell size>20", [3], id="a text and a number"),
        pytest.param('class=""', [4], id="without a class"),
        pytest.param("size<=20 nucl", [2], id="a word after a number"),
        pytest.param("size!=10", [2, 3, 4], id="what is unknown is not ten"),
        pytest.param("shape=round", [], id="no such column is a word, too"),
    ],
)
def test_what_is_typed_above_the_table_chooses_rows(text, expected):
    cells = [
        {"object": 1, "class": "cell", "size": 10.0},
        {"object": 2, "class": "nucleus", "size": 20.0},
        {"object": 3, "class": "cell", "size": 30.0},
        {"object": 4, "class": None, "size": None},
    ]
    asked = RowFilter(text, ["object", "class", "size"])
    if asked.unknown:
        assert (asked.unknown, expected) == ("shape", [])
    else:
        rows = asked.rows(lambda name: [c[name] for c in cells], len(cells))
        assert [cells[n]["object"] for n in rows] == expected


def test_the_row_at_hand_and_those_chosen_stay_when_rows_change(view):
    rows = rows_of(40)
    view.show_state(state_of(rows, object_id=7))
    view.rows.setColumnWidth(1, 131)
    view.choose([3, 4, 9])
    other = (*rows[:8], replace(rows[8], class_name="zebra"), *rows[9:])
    for now in (other, other[1:], (*other[2:], replace(rows[0], object_id=99))):
        view.show_state(state_of(now, object_id=7))
        assert view.chosen == [3, 4, 9]
        assert view.table.rows[view.rows.currentIndex().row()].object_id == 7
    assert view.rows.columnWidth(1) == 131
    view.filter.setText("class=zebra")
    assert ids(view) == [9] and view.chosen == [9]
    view.filter.setText("colour=red")
    assert "no column 'colour'" in view.about.text()


def test_another_object_at_hand_is_scrolled_to(view):
    view.show_state(state_of(rows_of(400)))
    view.show_state(state_of(view.table.all, object_id=350))
    seen = view.rows.rowAt(view.rows.viewport().height() // 2)
    assert abs(seen - 349) < 30 and view.chosen == [350]


def test_keys_in_the_table_speak_of_the_rows_chosen(view, qtbot):
    view.show_state(state_of(rows_of(9)))
    view.choose([2, 5])
    said = []
    view.accept_wanted.connect(lambda found: said.append(("right", found)))
    view.reject_wanted.connect(lambda found: said.append(("wrong", found)))
    view.delete_wanted.connect(lambda found: said.append(("gone", found)))
    view.class_wanted.connect(lambda found, kind: said.append((kind, found)))
    view.undo_wanted.connect(lambda: said.append("undo"))
    for key in (Qt.Key.Key_Y, Qt.Key.Key_R, Qt.Key.Key_3, Qt.Key.Key_Delete):
        QTest.keyClick(view.rows, key)
    QTest.keyClick(view.rows, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    both = [2, 5]
    expected = [("right", both), ("wrong", both), (3, both), ("gone", both), "undo"]
    assert said == expected


def test_review_is_of_the_rows_that_are_shown(view, qtbot):
    view.show_state(state_of(rows_of(30)))
    view.filter.setText("class=cell")
    with qtbot.waitSignal(view.check_wanted) as asked:
        QTest.mouseClick(view.random, Qt.MouseButton.LeftButton)
    assert asked.args == ["random", ids(view)]
    told = CheckState("random", 12, "4 % wrong")
    view.show_state(state_of(view.table.all, check=told))
    assert view.rate.text() == "12 to look at. 4 % wrong"
    with qtbot.waitSignal(view.check_wanted) as asked:
        QTest.mouseClick(view.random, Qt.MouseButton.LeftButton)
    assert asked.args[0] == ""


def test_twenty_thousand_objects_sort_scroll_and_are_chosen_at_once(view, qtbot):
    n = 20_000
    view.show_state(state_of(rows_of(n), measured=measured(n)))

    def wait_s(act):
        spent = []
        for _ in range(3):
            start = time.process_time()
            act()
            view.repaint()
            view.rows.viewport().repaint()
            spent.append(time.process_time() - start)
        return min(spent)

    bar = view.rows.verticalScrollBar()
    acts = {
        "sort texts": lambda: view.rows.sortByColumn(1, DOWN),
        "sort numbers": lambda: view.rows.sortByColumn(3, UP),
        "scroll": lambda: bar.setValue((bar.value() + 7000) % bar.maximum()),
        "filter": lambda: view.table.set_filter("class=cell doubt>0.5"),
    }
    slow = {name: s for name, act in acts.items() if (s := wait_s(act)) > 0.2}
    assert not slow
    view.table.set_filter("")
    assert wait_s(lambda: view.choose(range(1, n, 4))) < 1.5
    assert len(view.chosen) == n // 4


def test_guesses_are_columns_for_objects_without_a_class(view, qtbot):
    rows = (ObjectRow(1), ObjectRow(2, class_name="cell"), ObjectRow(3))
    guessed = GuessedState({1: "dust", 3: "cell"}, {1: 0.75, 3: 0.25})
    view.show_state(state_of(rows, guessed=guessed, measured=measured(3)))
    table = view.table
    assert table.column("likely class", rows) == ["dust", None, "cell"]
    view.rows.sortByColumn(table.names.index("class doubt"), UP)
    assert ids(view) == [3, 1, 2]
    view.filter.setText("likely class=cell")
    assert ids(view) == [3]
    view.choose([3])
    with qtbot.waitSignal(view.guessed_wanted) as said:
        QTest.keyClick(view.rows, Qt.Key.Key_G)
    assert said.args == [[3]]
    view.filter.setText("")
    view.show_state(state_of(rows))
    assert "likely class" not in table.names


# -- the plot ------------------------------------------------------------------------


@pytest.fixture
def plot(view, qtbot):
    view.show_state(state_of(rows_of(100), measured=measured(100)))
    view.plotted.click()
    qtbot.waitUntil(view.plot.canvas.isVisible)
    return view.plot


def drag(canvas, left, right):
    """Drag over a share of the plot's width, at all its heights."""
    area = canvas._area()
    xs = [round(area.left() + share * area.width()) for share in (left, right)]
    start, end = QPoint(xs[0], area.top() - 2), QPoint(xs[1], area.bottom() + 2)
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas, button, none, start)
    QTest.mouseMove(canvas, end)
    QTest.mouseRelease(canvas, button, none, end)


def test_a_drag_over_the_histogram_chooses_its_objects(view, plot):
    assert (plot.x.currentText(), plot.y.currentText()) == ("size", "count")
    drag(plot.canvas, 0.5, 1.0)
    assert view.chosen == list(range(1, 51))
    assert plot.canvas.grab().toImage() != _after(plot, lambda: view.choose([]))
    drag(plot.canvas, 0.3, 0.3)
    assert view.chosen == []


def test_a_drag_over_the_scatter_leaves_out_what_is_unknown(view, plot):
    plot.y.setCurrentText("elongation")
    plot.y.activated.emit(plot.y.currentIndex())
    drag(plot.canvas, 0.9, 1.0)
    assert view.chosen == list(range(2, 11))


def test_the_plot_shows_the_rows_that_the_filter_leaves(view, plot):
    view.filter.setText("size>50")
    drag(plot.canvas, 0.0, 1.0)
    assert sorted(view.chosen) == list(range(1, 51))
    view.filter.setText("size<=50")
    drag(plot.canvas, 0.0, 1.0)
    assert sorted(view.chosen) == list(range(51, 101))


def _after(plot, act):
    act()
    return plot.canvas.grab().toImage()
