"""Classes in the panel: by key, of new objects, their list, and colours."""

import json
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam._napari.state import ClassRow, GuessedState, ObjectRow, PanelState
from napari_sam._napari.views.classes_view import ClassesView

CELL, DUST = (
    ClassRow("cell", "#00beff", "SCT:84640000", 1200),
    ClassRow("dust", "#ff0000"),
)


@pytest.fixture
def work(desk, cells):
    """A desk with two classes and one object of none."""
    desk.open(cells.image)
    desk.click(*cells.center(1))
    for name in ("cell", "dust"):
        desk.controller.classes.add(name)
    desk.main.settle()
    return desk


def test_a_class_chosen_before_the_first_click_is_that_of_all_that_follow(desk, cells):
    desk.open(cells.image)
    desk.controller.classes.set_class("nucleus")
    desk.main.settle()
    assert desk.state.class_name == "nucleus" and "from now on" in desk.state.status
    for n in (1, 2):
        desk.click(*cells.center(n))
        desk.controller.new_object()
    desk.main.settle()
    assert [row.class_name for row in desk.state.objects] == ["nucleus"] * 2
    assert desk.state.class_name == "nucleus"
    assert [(r.name, r.count) for r in desk.state.class_rows] == [("nucleus", 2)]
    desk.controller.undo()
    desk.main.settle()
    assert [row.object_id for row in desk.state.objects] == [1], "one step an object"


def test_keys_give_the_class_of_a_number_and_the_next_one(work):
    classes = work.controller.classes
    seen = []
    for _ in range(4):
        classes.next_class()
        work.main.settle()
        seen.append(work.state.class_name)
    assert seen == ["cell", "dust", "", "cell"]
    classes.set_number(2)
    assert work.session.objects[1].class_name == "dust"
    classes.set_number(3)
    assert "no class 3" in work.state.status
    keys = {str(k): call for k, call in work.annotation.layers.points.keymap.items()}
    keys["Alt+1"](None)
    assert work.session.objects[1].class_name == "cell"


def test_the_list_is_changed_with_its_objects_each_as_one_step(work, tmp_path):
    classes = work.controller.classes
    classes.set_class("cell")
    classes.rename("cell", "blast")
    classes.recolor("blast", "#112233")
    classes.set_codes("blast", "SCT:84640000, UBERON: 1")
    work.main.settle()
    first = ClassRow("blast", "#112233", "SCT:84640000, UBERON:1", 1)
    assert work.state.class_rows[0] == first
    classes.set_codes("blast", "84640000")
    assert "scheme" in work.state.status
    classes.rename("blast", "dust")
    work.main.settle()
    assert work.state.class_rows[0] == first
    classes.remove("blast")
    work.main.settle()
    assert work.state.classes == ("dust",) and work.state.class_name == ""
    for _ in range(4):
        work.controller.undo()
    work.main.settle()
    assert work.state.class_name == "cell"
    classes.write(str(tmp_path / "mine.json"))
    more = {"categories": [{"id": 1, "name": "dust"}, {"id": 2, "name": "hair"}]}
    (tmp_path / "coco.json").write_text(json.dumps(more))
    classes.read(str(tmp_path / "coco.json"))
    work.main.settle()
    assert work.state.classes == ("cell", "dust", "hair")
    classes.read(str(tmp_path / "none.json"))
    assert "no list of classes" in work.state.status


def test_colours_tell_object_class_or_both(work, cells):
    for n in (2, 3, 4):
        work.controller.new_object()
        work.click(*cells.center(n))
    classes = work.controller.classes
    work.session.describe([1, 2], class_name="cell")
    work.session.describe([3], class_name="dust")
    work.main.settle()
    color = work.annotation.writer.color
    alone = [color(n) for n in (1, 2, 3, 4)]
    assert len(set(alone)) == 4
    classes.set_view("semantic")
    work.main.settle()
    rows = {row.name: row.color for row in work.state.class_rows}
    assert [color(n) for n in (1, 2, 3)] == [rows["cell"], rows["cell"], rows["dust"]]
    assert color(4) not in rows.values()
    work.controller.undo()
    work.main.settle()
    assert color(3) == color(4), "it has no class any more"
    classes.recolor("cell", "#804020")
    work.main.settle()
    assert color(1) == "#804020"
    classes.set_view("panoptic")
    work.main.settle()
    assert color(1) != color(2)
    classes.set_view("instance")
    work.main.settle()
    assert [color(n) for n in (1, 2, 3, 4)] == alone


def test_the_rest_is_guessed_and_the_sure_ones_taken_as_one_step(work, cells):
    for n in (2, 3, 4):
        work.controller.new_object()
        work.click(*cells.center(n))
    classes = work.controller.classes
    classes.guess()
    work.main.settle()
    assert "No object has a class" in work.state.status and not work.state.guessing
    work.session.describe([1], class_name="cell")
    work.session.describe([2], class_name="dust")
    classes.guess()
    work.main.settle()
    guessed = work.state.guessed
    want = work.session.guess_classes().guesses
    assert guessed.names == {i: g.name for i, g in want.items()} and set(want) == {3, 4}
    classes.take([3, 1])
    work.main.settle()
    assert [row.class_name for row in work.state.objects][:2] == ["cell", "dust"]
    assert work.session.objects[3].class_name == want[3].name
    assert work.session.objects[4].class_name is None
    work.controller.undo()
    classes.take_below(1.0)
    work.main.settle()
    assert work.session.objects[4].class_name == want[4].name
    work.controller.undo()
    assert [work.session.objects[i].class_name for i in (3, 4)] == [None, None]
    classes.take_below(0.0)
    assert "0 objects" in work.state.status


@pytest.fixture
def view(qtbot):
    made = ClassesView()
    qtbot.addWidget(made)
    made.resize(340, 260)
    with qtbot.waitExposed(made):
        made.show()
    made.show_state(replace(PanelState(), image=0, class_rows=(CELL, DUST)))
    return made


def test_names_and_codes_are_typed_in_place(view, qtbot):
    texts = [view.table.item(0, c).text() for c in range(4)]
    assert texts == ["1", "cell", "SCT:84640000", "1,200"]
    with qtbot.waitSignal(view.rename_wanted) as said:
        view.table.item(1, 1).setText("hair")
    assert said.args == ["dust", "hair"]
    # What was refused is shown again as it is.
    view.show_state(replace(PanelState(), image=0, class_rows=(CELL, DUST), ndim=3))
    assert view.table.item(1, 1).text() == "dust"
    with qtbot.waitSignal(view.codes_wanted) as said:
        view.table.item(0, 2).setText("SCT:1")
    assert said.args == ["cell", "SCT:1"]
    view.table.setCurrentCell(1, 1)
    with qtbot.waitSignal(view.remove_wanted) as said:
        view.remove.click()
    assert said.args == ["dust"]
    with qtbot.waitSignal(view.add_wanted) as said:
        view.new.click()
    assert said.args == ["class 3"]


def test_how_many_guesses_would_be_taken_is_said_before(view, qtbot):
    assert not view.take.isVisibleTo(view) and view.guess.isEnabled()
    rows = (ObjectRow(1), ObjectRow(2), ObjectRow(3, class_name="cell"))
    guessed = GuessedState(
        {1: "cell", 2: "dust", 3: "dust"}, {1: 0.1, 2: 0.4, 3: 0.1}, "80 % right"
    )
    state = replace(
        PanelState(), image=0, class_rows=(CELL,), objects=rows, guessed=guessed
    )
    view.show_state(state)
    assert view.take.text() == "Take 2" and view.told.text() == "80 % right"
    view.doubt.setValue(0.2)
    assert view.take.text() == "Take 1"
    with qtbot.waitSignal(view.take_wanted) as said:
        view.take.click()
    assert said.args == [pytest.approx(0.2)]


def test_a_name_being_typed_is_not_taken_away(view):
    item = view.table.item(1, 1)
    view.table.editItem(item)
    editor = view.table.focusWidget() or view.table.viewport().focusWidget()
    view.show_state(replace(PanelState(), image=0, class_rows=(CELL,)))
    assert view.table.rowCount() == 2 and editor is not None
    QTest.keyClick(editor, Qt.Key.Key_Escape)
    view.show_state(replace(PanelState(), image=0, class_rows=(CELL,)))
    assert view.table.rowCount() == 1


def test_a_class_typed_in_the_window_is_that_of_the_next_click(bench):
    kind = bench.widget.panel.object.kind
    kind.setEditText("bar")
    QTest.keyClick(kind.lineEdit(), Qt.Key.Key_Return)
    bench.settle()
    bench.click(30, 20)
    assert bench.controller.session.objects[1].class_name == "bar"
    bench.key(Qt.Key.Key_X)
    bench.settle()
    assert bench.state.class_name == ""
    assert np.unique(bench.labels).tolist() == [0, 1]
