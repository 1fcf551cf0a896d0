"""Words in a real window: who reads them, what is found, and what becomes of it."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox
from word_models import ReadingModel, WordScorer, two_kinds

from napari_sam._napari.controller import Controller
from napari_sam.session.finding import Finding
from napari_sam.testing import ToyModel

pytestmark = pytest.mark.canvas


@pytest.fixture
def open_with(make_napari_viewer, qtbot, monkeypatch):
    """Open the image of two kinds with a model; return the widget and a way to wait."""
    opened = []

    def _open(model, scorer):
        monkeypatch.setattr(Finding, "scorer", scorer)
        monkeypatch.setitem(
            Controller.__init__.__kwdefaults__, "load_model", lambda name: model
        )
        viewer = make_napari_viewer(show=True)
        viewer.add_image(two_kinds()[0], name="objects")
        _, widget = viewer.window.add_plugin_dock_widget(
            "napari-sam-anysize", "Segment Anything"
        )
        opened.append(widget)

        def settle():
            def quiet():
                assert widget.controller.session is not None
                assert widget.contents.settled
                assert not widget.controller.review._drawing

            qtbot.waitUntil(quiet, timeout=60_000)

        settle()
        widget.panel.tabs.setCurrentIndex(widget.panel.names.index("Find"))
        return viewer, widget, settle

    yield _open
    for widget in opened:
        widget.controller.close()
        widget.jobs.close(timeout_s=5)
        assert not widget.jobs.alive


def test_instances_of_a_word_are_shown_accepted_and_undone(open_with):
    viewer, widget, settle = open_with(ReadingModel(256), WordScorer())
    view = widget.panel.text
    assert view.words.placeholderText() == "a word, read by reading toy"
    assert "reading toy reads words itself" in view.words.toolTip()
    assert "words of science are hardly known" in view.words.toolTip()
    assert not view.find.isEnabled()
    QTest.keyClicks(view.words, "dark")
    assert view.find.isEnabled()
    QTest.keyClick(view.words, Qt.Key.Key_Return)
    assert "words of science" in widget.controller.board.state.said
    settle()
    assert widget.panel.review.rows.count() == 3
    widget.controller.review.reject_all()
    view.words.setText("bright")
    view.find.click()
    settle()
    assert widget.panel.review.rows.count() == 3
    widget.panel.review.accept_all.click()
    settle()
    labels = np.asarray(viewer.layers["objects · masks"].data)
    assert np.array_equal(labels > 0, np.isin(two_kinds()[1], (1, 2, 3)))
    widget.controller.session.undo()
    assert not np.asarray(widget.controller.session.labels).any()


def test_a_download_is_agreed_to_first_and_other_models_are_scored(
    open_with, monkeypatch, tmp_path
):
    from napari_sam.models.clip import clip
    from napari_sam.models.download import CACHE_VARIABLE

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(clip, "load_scorer", lambda name: WordScorer())
    asked = []
    buttons = QMessageBox.StandardButton
    answers = [buttons.No, buttons.Yes]
    monkeypatch.setattr(
        QMessageBox,
        "question",
        lambda *given: asked.append(given[2]) or answers[len(asked) - 1],
    )
    _, widget, settle = open_with(ToyModel(256), "clip_vit_b32")
    view = widget.panel.text
    assert "clip_vit_b32, 605 MB to download" in view.words.toolTip()
    view.words.setText("square")
    view.find.click()
    settle()
    assert len(asked) == 1 and "MIT" in asked[0]
    assert widget.panel.review.rows.count() == 0
    view.find.click()
    settle()
    assert len(asked) == 2 and widget.panel.review.rows.count() == 3


def test_what_goes_wrong_is_said(open_with):
    class Broken(WordScorer):
        def score(self, text, crops):
            raise RuntimeError("no such tensor")

    _, widget, settle = open_with(ToyModel(256), Broken())
    widget.panel.text.words.setText("square")
    widget.panel.text.find.click()
    settle()
    assert "no such tensor" in widget.controller.board.state.said
    assert not widget.controller.board.state.review.running
