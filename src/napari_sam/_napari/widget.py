"""The dock widget: joins the panel to the controller, and asks for files."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSettings
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_sam._napari import autosave, log_file, opening
from napari_sam._napari.anatomy import show_anatomy
from napari_sam._napari.controller import Controller
from napari_sam._napari.main_thread import MainThread
from napari_sam._napari.preferences import apply_cache, preferences
from napari_sam._napari.views.panel import Panel
from napari_sam._napari.workers import Jobs
from napari_sam.results.registry import FORMATS, formats_of

if TYPE_CHECKING:
    import napari

BOXES = "Boxes and points (*.csv *.json *.txt);;All files (*)"
CHECKPOINTS = "Checkpoints (*.pth *.pt *.safetensors);;All files (*)"

CLASSES = "Lists of classes, COCO (*.json)"

DOCK = "Segment Anything (napari-sam)"
"""Name of the dock, as the Plugins menu gives it."""


class SegmentWidget(QWidget):  # type: ignore[misc]
    """Segment Anything in napari: click on the image, get a mask.

    A viewer has one such widget: a second one takes over what the first one shows,
    and the first one's dock closes. Two that work on one image would each take the
    other's prompts for what the user drew.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(
        self, napari_viewer: napari.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        # Layers are told apart by identity, which napari's proxy for plugins hides.
        viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        # Else napari puts a stretch below, and half of the height stays empty.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        former = widget_of(viewer)
        self._contents: Contents | None
        if former is None:
            self._contents = Contents(viewer)
        else:
            self._contents, former._contents = former._contents, None
        layout.addWidget(self._contents)
        if former is not None:
            viewer.window.remove_dock_widget(former)

    @property
    def contents(self) -> Contents:
        """Panel, controller and threads."""
        if self._contents is None:
            raise RuntimeError("another dock of this viewer has taken the panel over")
        return self._contents

    @property
    def controller(self) -> Controller:
        """Joins viewer and session."""
        return self.contents.controller

    @property
    def jobs(self) -> Jobs:
        """Threads that work for it."""
        return self.contents.jobs

    @property
    def panel(self) -> Panel:
        """What is seen."""
        return self.contents.panel

    def changeEvent(self, event: QEvent) -> None:
        """Closing the dock takes its widget out of it, and nothing else."""
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and self._contents is not None:
            self._contents.finish()
        super().changeEvent(event)


class Contents(QWidget):  # type: ignore[misc]
    """The panel with its controller, and the dialogs that ask for files.

    Parameters
    ----------
    viewer : napari.Viewer
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._showing = False
        self.main_thread = MainThread()
        self.jobs = Jobs(self.main_thread.post)
        self.panel = Panel(_memory())
        wanted = preferences()
        wrong = apply_cache(wanted)
        log_file.start()
        self.controller = Controller(
            viewer, self.jobs, model=opening.first_model(wanted.model)
        )
        show_anatomy(viewer)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.panel)
        self._connect_wishes()
        board = self.controller.board
        board.changed.connect(self._show_soon)
        board.failed.connect(_notify)
        self.controller.download_wanted.connect(self._on_download_wanted)
        if wrong:
            board.say(wrong, "error")
        self.panel.show_state(board.state)
        # Qt deletes the widget with its window, without a close event.
        self.finish = partial(_close, self.controller)
        self.destroyed.connect(self.finish)
        weakref.finalize(self, self.finish)

    @property
    def settled(self) -> bool:
        """Whether no work is under way and the panel shows all there is."""
        return not self.jobs.keys and not self._showing

    def _show_soon(self) -> None:
        """Draw the panel once for all changes made in one go."""
        if not self._showing:
            self._showing = True
            self.main_thread.post(self._show_now)

    def _show_now(self) -> None:
        self._showing = False
        if not self.controller.closed:
            self.panel.show_state(self.controller.board.state)

    def _connect_wishes(self) -> None:
        do, panel = self.controller, self.panel
        panel.model.model_chosen.connect(do.use_model)
        panel.model.file_wanted.connect(self.choose_checkpoint)
        panel.image.image_chosen.connect(lambda i: do.use_image(do.images[i]))
        panel.image.axis_chosen.connect(do.use_axis)
        panel.image.previous_wanted.connect(do.image_list.previous)
        panel.image.next_wanted.connect(do.image_list.next)
        panel.image_list.folder_wanted.connect(self.open_folder)
        panel.image_list.files_wanted.connect(self.open_files)
        panel.image_list.format_chosen.connect(do.image_list.set_format)
        panel.intensity.window_chosen.connect(do.intensity.set_window)
        panel.intensity.follow_chosen.connect(do.intensity.follow_contrast)
        panel.encoding.ahead_chosen.connect(do.encoding.set_ahead)
        panel.encoding.start_wanted.connect(lambda: do.embed())
        panel.encoding_bar.pause_wanted.connect(do.encoding.pause)
        panel.encoding_bar.resume_wanted.connect(lambda: do.embed(agreed=True))
        panel.encoding_bar.stop_wanted.connect(do.encoding.stop)
        panel.encoding.scheduler_chosen.connect(do.encoding.use_scheduler)
        do.encoding.agreement_wanted.connect(self._on_agreement_wanted)
        panel.object.object_chosen.connect(do.select_object)
        panel.object.class_chosen.connect(do.classes.set_class)
        panel.object.new_wanted.connect(do.new_object)
        panel.object.delete_wanted.connect(do.delete_object)
        objects, many = panel.objects, do.reviewing
        objects.table.color_of = self._color_of
        objects.row_chosen.connect(do.go_to_object)
        objects.accept_wanted.connect(many.accept)
        objects.reject_wanted.connect(many.reject)
        objects.delete_wanted.connect(many.delete)
        objects.class_wanted.connect(many.set_class)
        objects.measure_wanted.connect(many.measure)
        objects.check_wanted.connect(many.check)
        objects.undo_wanted.connect(do.undo)
        objects.redo_wanted.connect(do.redo)
        kinds = do.classes
        panel.classes.view_chosen.connect(kinds.set_view)
        panel.classes.add_wanted.connect(kinds.add)
        panel.classes.rename_wanted.connect(kinds.rename)
        panel.classes.color_wanted.connect(kinds.recolor)
        panel.classes.codes_wanted.connect(kinds.set_codes)
        panel.classes.remove_wanted.connect(kinds.remove)
        panel.classes.guess_wanted.connect(kinds.guess)
        panel.classes.take_wanted.connect(kinds.take_below)
        objects.guessed_wanted.connect(kinds.take)
        panel.classes.read_wanted.connect(self._read_classes)
        panel.classes.write_wanted.connect(self._write_classes)
        panel.prompt.rule_chosen.connect(do.set_rule)
        panel.prompt.tool_chosen.connect(do.tools.arm)
        panel.prompt.refine_wanted.connect(do.reshaping.refine)
        panel.prompt.layers_wanted.connect(
            lambda: panel.prompt.offer_layers([x.name for x in do.many.layers])
        )
        panel.prompt.layer_chosen.connect(
            lambda i: do.many.from_layer(do.many.layers[i])
        )
        panel.prompt.file_wanted.connect(self.open_many)
        panel.prompt.candidate_chosen.connect(do.choose)
        panel.prompt.undo_wanted.connect(do.undo)
        panel.prompt.redo_wanted.connect(do.redo)
        review, words = do.review, do.words
        panel.text.find_wanted.connect(
            lambda text: words.find(text, panel.review.scope.currentData())
        )
        words.download_wanted.connect(self._on_words_wanted)
        panel.review.everything_wanted.connect(review.finding.everything)
        panel.review.suggest_wanted.connect(review.finding.suggest)
        panel.review.stop_wanted.connect(review.stop)
        panel.review.row_chosen.connect(review.show)
        panel.review.previous_wanted.connect(review.previous)
        panel.review.next_wanted.connect(review.next)
        panel.review.accept_wanted.connect(review.accept)
        panel.review.reject_wanted.connect(review.reject)
        panel.review.correct_wanted.connect(review.correct)
        panel.review.redraw_wanted.connect(review.redraw)
        panel.review.restore_wanted.connect(review.restore)
        panel.review.accept_all_wanted.connect(review.accept_all)
        panel.review.reject_all_wanted.connect(review.reject_all)
        panel.review.thresholds_chosen.connect(review.select)
        panel.review.order_chosen.connect(lambda v: review.order(doubtful_first=v))
        follow = do.following
        panel.volume.fill_wanted.connect(follow.fill)
        panel.volume.stop_wanted.connect(follow.stop)
        panel.volume.doubtful_wanted.connect(follow.next_doubtful)
        panel.volume.reviewed_wanted.connect(follow.set_reviewed)
        panel.volume.plane_chosen.connect(follow.show_plane)
        panel.volume.tidy_wanted.connect(follow.tidy)
        panel.time.track_wanted.connect(do.time.track)
        panel.time.stop_wanted.connect(do.time.stop)
        panel.time.check_wanted.connect(do.time.next_check)
        panel.time.shown_chosen.connect(do.time.show_tracks)
        panel.time.edit_wanted.connect(lambda name: getattr(do.time, name)())
        train = do.training
        panel.training.start_wanted.connect(train.start)
        panel.training.stop_wanted.connect(train.stop)
        panel.training.use_wanted.connect(train.use_result)
        panel.training.keep_wanted.connect(train.keep_anyway)
        panel.output.export_wanted.connect(self.export)
        panel.output.save_wanted.connect(self.save)
        panel.output.open_wanted.connect(self.open)
        panel.output.read_wanted.connect(self.read)
        panel.output.combine_wanted.connect(self.combine)
        panel.output.report_wanted.connect(self.copy_report)
        panel.status.cancel_wanted.connect(do.cancel)

    def _color_of(self, object_id: int) -> str:
        shown = self.controller.annotation
        return "#888888" if shown is None else shown.writer.color(object_id)

    def choose_checkpoint(self) -> None:
        """Ask for a checkpoint file, and go on with the model in it."""
        path, _ = QFileDialog.getOpenFileName(self, "Checkpoint", "", CHECKPOINTS)
        if not path:
            return
        name, agreed = QInputDialog.getText(
            self,
            "Checkpoint",
            "Name for the list of models; leave it empty to use the file only now:",
            text=Path(path).stem,
        )
        if agreed:
            self.controller.use_checkpoint(path, name.strip())

    def _on_download_wanted(self, name: str, notice: str) -> None:
        answer = QMessageBox.question(self, f"Download {name}?", notice)
        if answer == QMessageBox.StandardButton.Yes:
            self.controller.use_model(name, agreed=True)

    def _on_words_wanted(self, text: str, scope: Any, notice: str) -> None:
        answer = QMessageBox.question(self, "Download what reads words?", notice)
        if answer == QMessageBox.StandardButton.Yes:
            self.controller.words.find(text, scope, agreed=True)

    def _on_agreement_wanted(self, bill: str) -> None:
        answer = QMessageBox.question(self, "Read all of it from the server?", bill)
        if answer == QMessageBox.StandardButton.Yes:
            self.controller.embed(agreed=True)

    def export(self, name: str | None = None) -> None:
        """Ask for a file, and write the objects; None: its suffix says the format."""
        filters = {f.filter: f for f in FORMATS.values() if not f.missing}
        wanted = FORMATS[name].filter if name else next(iter(filters))
        start = f"masks{filters[wanted].suffixes[0]}"
        offered = wanted if name else ";;".join(filters)
        path, chosen = QFileDialog.getSaveFileName(
            self, "Export", start, offered, wanted
        )
        if not path:
            return
        kind = filters.get(chosen, filters[wanted])
        if name is None and formats_of(path):
            kind = formats_of(path)[0]
        path = kind.with_suffix(path)
        plane = None if "volume" in kind.holds else self.controller.shown_plane
        replace = Path(path).is_dir() and self._may_replace(path)
        self.controller.files.run(
            f"Writing {path}…",
            lambda s: s.export(path, kind.name, plane=plane, overwrite=replace),
            lambda told: ". ".join((f"Wrote {path}", *told)) + ".",
        )

    def read(self) -> None:
        """Ask for a file, and take in its objects."""
        offered = [f.filter for f in FORMATS.values() if f.reads and not f.missing]
        path, _ = QFileDialog.getOpenFileName(
            self, "Read objects", "", ";;".join(("All files (*)", *offered))
        )
        if path:
            self.controller.read_objects(path)

    def _read_classes(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Classes", "", CLASSES)
        if path:
            self.controller.classes.read(path)

    def _write_classes(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Classes", "classes.json", CLASSES)
        if path:
            self.controller.classes.write(path)

    def _may_replace(self, path: str) -> bool:
        """Ask what file dialogs do not ask for folders that stand for files."""
        answer = QMessageBox.question(
            self, "Replace labels?", f"{path} is there. Replace the labels in it?"
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def copy_report(self) -> None:
        """Put what a bug report should tell on the clipboard."""
        from napari_sam._napari.doctor import as_text, examine

        def copied(text: str) -> str:
            QGuiApplication.clipboard().setText(text)
            return "The report is on the clipboard: paste it into your question."

        self.controller.files.report(lambda: as_text(list(examine())), copied)

    def save(self) -> None:
        """Ask for a folder, and save the session there."""
        path, _ = QFileDialog.getSaveFileName(
            self, "Save session", "work.nsam", "Sessions (*.nsam)"
        )
        if path:
            path = path if path.endswith(".nsam") else f"{path}.nsam"
            self.controller.files.save(path)

    def combine(self) -> None:
        """Ask for somebody else's session, and join it to the one at work."""
        path = QFileDialog.getExistingDirectory(self, "Session folder (.nsam) to join")
        if path:
            self.controller.files.combine(path)

    def open_many(self) -> None:
        """Ask for a file of boxes, points or outlines, and make an object of each."""
        path, _ = QFileDialog.getOpenFileName(
            self, "An object for each box or point", "", BOXES
        )
        if path:
            self.controller.many.from_file(path)

    def open_folder(self) -> None:
        """Ask for a folder, and go through its images."""
        path = QFileDialog.getExistingDirectory(self, "Go through a folder of images")
        if path:
            self.controller.image_list.open(path)

    def open_files(self) -> None:
        """Ask for images, and go through them."""
        paths, _ = QFileDialog.getOpenFileNames(self, "Go through these images")
        if paths:
            self.controller.image_list.open(paths)

    def open(self) -> None:
        """Ask for a saved session, and go on with it."""
        start = autosave.folder()
        path = QFileDialog.getExistingDirectory(
            self, "Open a session folder (.nsam)", str(start) if start.is_dir() else ""
        )
        if path:
            self.controller.open_saved(path)


def _memory() -> QSettings:
    """Where the panel keeps what it looked like."""
    from napari_sam.models.user_models import config_folder

    return QSettings(str(config_folder() / "panel.ini"), QSettings.Format.IniFormat)


def _close(controller: Controller, *_: Any) -> None:
    """Let go of everything; the panel may be gone already."""
    controller.board.changed.disconnect()
    controller.board.failed.disconnect()
    controller.close()


def _notify(text: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(text)


def widget_of(viewer: Any) -> SegmentWidget | None:
    """Return the widget of a viewer, or None; whatever its dock is called."""
    window = getattr(viewer, "window", None)
    docked = () if window is None else window.dock_widgets.values()
    mine = (w for w in docked if isinstance(w, SegmentWidget))
    return next((w for w in mine if w._contents is not None), None)


def contents_of(viewer: Any) -> Contents:
    """Return what a viewer's widget holds; the widget is opened when it is not."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    widget = widget_of(viewer)
    if widget is None:
        widget = SegmentWidget(viewer)
        viewer.window.add_dock_widget(widget, name=DOCK)
    else:
        dock = widget.parent()
        dock.show()
        dock.raise_()
    return widget.contents


def controller_of(viewer: Any) -> Controller:
    """Return the controller of a viewer's widget, which is opened when it is not."""
    return contents_of(viewer).controller
