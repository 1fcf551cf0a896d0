"""Take the screenshots of docs/napari.md from the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/images/take.py [NAME ...]

Opens the sample images, clicks with the mouse and writes PNG files next to this one.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
SIZE = (1400, 900)


class Desk:
    """A viewer with a sample open and the widget at work on it."""

    def __init__(self, sample: Any, model: str, theme: str = "dark") -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        from napari_sam._napari.widget import contents_of

        self.viewer = napari.Viewer(show=True)
        self.viewer.theme = theme
        self.viewer.window._qt_window.resize(*SIZE)
        self.app = QApplication.instance()
        if isinstance(sample, str):
            self.viewer.open_sample("napari-sam-anysize", sample)
        else:
            self.viewer.add_image(sample, name="coins")
        self.widget = contents_of(self.viewer)
        self.controller = self.widget.controller
        if model != "nano":
            self.controller.use_model(model)
        self.wait(lambda: self.controller.session is not None)
        self.settle()

    def wait(self, until: Callable[[], Any], limit_s: float = 120) -> None:
        """Run the event loop until something holds."""
        end = time.monotonic() + limit_s
        while not until():
            self.app.processEvents()
            if time.monotonic() > end:
                raise SystemExit("gave up")
            time.sleep(0.005)

    def settle(self) -> None:
        """Run the event loop until all is drawn."""
        self.wait(lambda: not self.widget.jobs.keys)
        end = time.monotonic() + 0.8
        self.wait(lambda: time.monotonic() > end)

    def click(self, y: float, x: float, *, settle: bool = True) -> None:
        """Click at a pixel of the image."""
        image = self.controller.annotation.image
        self.click_world(image.data_to_world((y, x)), settle=settle)

    def click_world(self, point: Sequence[float], *, settle: bool = True) -> None:
        """Click at a place of the world; its last two axes are those in view."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        canvas, world = self.viewer.window._qt_viewer.canvas, point[-2:]
        at = canvas.view.scene.transform.map([world[1], world[0], 0, 1])
        where = QPoint(round(at[0]), round(at[1]))
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(canvas.native, where)
        QTest.mouseClick(canvas.native, left, none, where)
        if settle:
            self.settle()

    def drag(self, *places: tuple[float, float]) -> None:
        """Hold the button from the first pixel of the image to the last."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest

        canvas = self.viewer.window._qt_viewer.canvas
        image = self.controller.annotation.image
        at = []
        for place in places:
            y, x = image.data_to_world(place)[-2:]
            to = canvas.view.scene.transform.map([x, y, 0, 1])
            at.append(QPoint(round(to[0]), round(to[1])))
        left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mousePress(canvas.native, left, none, at[0])
        for start, stop in pairwise(at):
            for part in (0.25, 0.5, 0.75, 1.0):
                QTest.mouseMove(canvas.native, start + (stop - start) * part)
                self.app.processEvents()
                time.sleep(0.02)
        QTest.mouseRelease(canvas.native, left, none, at[-1])
        self.app.processEvents()
        self.settle()

    def show_tab(self, name: str) -> None:
        """Show a tab of the panel."""
        tabs = self.widget.panel.tabs
        names = [tabs.tabText(i) for i in range(tabs.count())]
        tabs.setCurrentIndex(names.index(name))
        self.settle()

    def shoot(self, name: str, *, settle: bool = True) -> None:
        """Write the whole window."""
        if settle:
            self.settle()
        self.viewer.screenshot(str(HERE / name), canvas_only=False, flash=False)

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()
        end = time.monotonic() + 0.5
        self.wait(lambda: time.monotonic() > end)


class Film:
    """Pictures of a window one after the other, saved as a moving one."""

    def __init__(self, desk: Desk, share: float = 0.625) -> None:
        self.desk, self.share = desk, share
        self.frames: list[Any] = []

    def keep(self, times: int = 1) -> None:
        """Take the window as it is, shown for some frames."""
        from PIL import Image

        shot = Image.fromarray(
            self.desk.viewer.screenshot(canvas_only=False, flash=False)[..., :3]
        )
        size = round(shot.width * self.share), round(shot.height * self.share)
        self.frames += [shot.resize(size, Image.Resampling.LANCZOS)] * times

    def save(self, name: str, duration_ms: int = 350) -> None:
        """Write a WebP that repeats."""
        self.frames[0].save(
            HERE / name, save_all=True, append_images=self.frames[1:],
            duration=duration_ms, loop=0, quality=60,
        )  # fmt: skip


def first_steps(model: str) -> None:
    """An MR image, moving: a click, too much taken away, undone, done again; a box."""
    desk = Desk("mr", model)
    film, do = Film(desk), desk.controller
    desk.viewer.reset_view()
    desk.settle()
    film.keep(2)
    desk.click(218, 152)  # a kidney
    film.keep(3)
    do.new_object()
    desk.click(115, 80)  # the liver, and more
    film.keep(2)
    do.tools.toggle_polarity()
    desk.click(170, 48)  # not this
    film.keep(2)
    do.undo()
    desk.settle()
    film.keep(2)
    do.redo()
    desk.settle()
    do.new_object()
    do.tools.arm("box")
    desk.settle()
    film.keep()
    desk.drag((187, 295), (258, 368))  # the other kidney
    film.keep(2)
    do.new_object()
    do.tools.point()
    desk.click(167, 254)  # the aorta
    film.keep(5)
    film.save("first_steps.webp", 450)
    desk.close()


def first_click(model: str) -> None:
    """An MR image: liver with one click."""
    desk = Desk("mr", model)
    desk.shoot("widget.png")
    desk.click(115, 80)
    desk.shoot("first_click.png")
    desk.close()


def fill_volume(model: str) -> None:
    """An MR volume: prompted, filled, the doubtful plane corrected, filled again."""
    desk = Desk("mr_volume", model)
    film = Film(desk)

    def fill() -> None:
        desk.widget.panel.volume.fill.click()
        desk.wait(lambda: not desk.controller.following.state.running)
        desk.settle()
        film.keep(3)

    def show(number: int) -> None:
        desk.controller.following.show_plane(number)
        desk.settle()
        film.keep()

    def prompt(
        number: int, box: tuple[int, int, int, int], *clicks: tuple[int, int]
    ) -> None:
        tools, image = desk.controller.tools, desk.controller.annotation.image
        tools.arm("box")
        desk.drag((number, *box[:2]), (number, *box[2:]))
        film.keep(2)
        tools.arm("point")
        for y, x in clicks:
            desk.click_world(image.data_to_world((number, y, x)))
            film.keep(2)

    desk.show_tab("Volume")
    desk.viewer.reset_view()
    show(19)
    prompt(19, (34, 53, 66, 75), (50, 64))
    desk.shoot("volume_click.png")
    fill()
    desk.controller.following.next_doubtful()
    desk.settle()
    film.keep(4)
    desk.shoot("volume_doubtful.png")
    number = desk.controller.annotation.plane.index[0]
    prompt(number, (36, 54, 66, 75), (50, 58), (50, 70))
    show(16)
    prompt(16, (32, 53, 65, 75), (38, 64), (57, 60))
    fill()
    desk.shoot("volume_filled.png")
    for plane in [*range(16, 21), *range(19, 15, -1)]:
        show(plane)
    film.save("volume.webp", duration_ms=450)
    desk.close()


def refine(model: str) -> None:
    """A CT image with its presets: a point too much, taken back by a negative one."""
    desk = Desk("ct", model, theme="light")
    desk.controller.intensity.set_window(-160, 240)
    desk.click(275, 160)
    desk.controller.tools.toggle_polarity()
    desk.click(275, 250)
    desk.shoot("refine.png")
    desk.close()


def tools(model: str) -> None:
    """Coins: a scribble, a lasso, and two coins in one mask split by two clicks."""
    from skimage.data import coins

    desk = Desk(coins(), model)
    desk.viewer.reset_view()
    desk.settle()
    do = desk.controller
    do.tools.arm("scribble")
    desk.drag((62, 88), (54, 96), (58, 104), (66, 110))
    do.new_object()
    do.tools.arm("lasso")
    ring = [(a, 32 * math.sin(a), 32 * math.cos(a)) for a in range(7)]
    desk.drag(*((58 + y, 45 + x) for _, y, x in ring))
    do.new_object()
    do.tools.arm("box")
    desk.drag((248, 140), (300, 250))
    do.tools.arm("split")
    desk.click(275, 168)
    desk.click(275, 224)
    do.select_object(1)
    do.tools.arm("scribble")
    desk.shoot("tools.png")
    desk.close()


def proposals(model: str) -> None:
    """Coins: three annotated, the rest proposed, to be gone through."""
    from skimage.data import coins

    desk = Desk(coins(), model)
    for y, x in ((55, 45), (60, 108), (55, 162)):
        desk.click(y, x)
        desk.controller.new_object()
    desk.show_tab("Find")
    desk.widget.panel.review.suggest.click()
    desk.settle()
    desk.controller.review.next()
    desk.shoot("suggestions.png")
    desk.close()


def words(model: str) -> None:
    """Made objects of two kinds, of which a word is to name the round ones.

    What reads the word is the tests' scorer, which measures shapes: trained weights of
    a CLIP are no part of this repository.
    """
    import numpy as np

    sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))
    from word_models import WordScorer, two_kinds

    image = np.kron(two_kinds()[0], np.ones((4, 4), np.uint8))
    desk = Desk(np.maximum(image, 20), "nano")
    desk.controller.session.scorer = WordScorer()
    desk.controller.words.use(desk.controller.session)
    desk.show_tab("Find")
    desk.widget.panel.text.words.setText("round")
    desk.widget.panel.text.find.click()
    desk.settle()
    desk.viewer.reset_view()
    desk.shoot("words.png")


def everything(model: str) -> None:
    """Coins: all proposed, a threshold moved, reviewed, named, exported and undone."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest
    from skimage.data import coins

    desk = Desk(coins(), model)
    desk.viewer.reset_view()
    desk.show_tab("Find")
    film, do, view = Film(desk), desk.controller, desk.widget.panel.review
    film.keep(2)
    view.everything.click()
    desk.wait(lambda: do.board.state.review.done, 600)
    film.keep()
    desk.wait(lambda: not do.board.state.review.running, 600)
    desk.settle()
    film.keep(3)
    slider = view.thresholds.sliders["max_doubt"]
    for most in (0.9, 0.6, 0.4, 0.25, 0.3, 0.6):
        slider.setValue(most)
        desk.settle()
        film.keep()
    canvas = desk.viewer.window._qt_viewer.canvas.native
    for _ in range(3):
        do.review.next()
        desk.settle()
        film.keep()
        QTest.keyClick(canvas, Qt.Key.Key_R)
        desk.settle()
    for _ in range(2):
        do.review.next()
        desk.settle()
        y0, x0, y1, x1 = do.review.current.bbox
        view.redraw.click()
        desk.settle()
        film.keep()
        desk.drag((max(y0 - 2, 0), max(x0 - 2, 0)), (min(y1 + 1, 302), x1 + 1))
        if do.review.current is not None:
            QTest.keyClick(canvas, Qt.Key.Key_R)
            desk.settle()
        film.keep()
    view.accept_all.click()
    desk.viewer.reset_view()
    desk.settle()
    film.keep(2)
    do.classes.add("coin")
    do.classes.add("worn coin")
    labels = do.session.labels
    do.tools.arm("split")
    desk.click(275, 150)
    desk.click(275, 190)
    film.keep(2)
    for y, x, key in ((55, 162, Qt.Key.Key_1), (60, 108, Qt.Key.Key_2)):
        do.select_object(int(labels[y, x]))
        QTest.keyClick(canvas, key, Qt.KeyboardModifier.AltModifier)
        desk.settle()
    desk.show_tab("Objects")
    table = desk.widget.panel.objects
    table.rows.sortByColumn(table.table.names.index("class"), descending())
    desk.settle()
    film.keep(3)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("coins.json", "coins.csv"):
            do.files.run(
                "Writing…",
                lambda s, name=name: s.export(Path(folder) / name),
                lambda told: "Wrote.",
            )
            desk.settle()
            written = Path(folder) / name
            print(name, written.stat().st_size, "bytes,", len(do.session.objects))
    while do.session.can_undo:
        QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        desk.settle()
    film.keep(2)
    print("left after undo:", int((do.session.labels != 0).sum()), "pixels")
    film.save("everything.webp", 500)
    desk.close()


def objects(model: str) -> None:
    """Coins from a threshold: measured, the large ones chosen in the plot and named."""
    import numpy as np
    from skimage import data, filters, measure, morphology, segmentation
    from superqt import QCollapsible

    from napari_sam.session import Session

    image, disk = data.coins(), morphology.disk(4)
    inside = morphology.opening(image > filters.threshold_local(image, 151), disk)
    labels = measure.label(segmentation.clear_border(inside))
    desk = Desk(image, model)
    made = Session(image, desk.controller.session.model, labels=labels)
    desk.controller.use_image(desk.viewer.layers[0], made)
    desk.settle()
    view, many = desk.widget.panel.objects, desk.controller.reviewing
    desk.show_tab("Objects")
    many.measure()
    desk.settle()
    size = desk.controller.board.state.measured.columns["size"]
    large = [n + 1 for n, v in enumerate(size) if v > np.median(size)]
    many.set_class(large, "large")
    many.set_class(sorted({*range(1, len(size) + 1)} - {*large}), "small")
    many.accept(large[:4])
    desk.controller.tools.point()
    desk.settle()
    view.plotted.click()
    column = view.table.names.index("size")
    view.rows.sortByColumn(column, descending())
    view.choose(large)
    view.plot.show_table(view.table, large)
    desk.shoot("objects.png")
    view.plotted.click()
    folded = desk.widget.panel.classes.findChild(QCollapsible)
    folded.expand(animate=False)
    desk.controller.classes.set_view("semantic")
    desk.shoot("classes.png")
    desk.close()


def descending() -> Any:
    """The order of sorting that puts the largest first."""
    from qtpy.QtCore import Qt

    return Qt.SortOrder.DescendingOrder


def many_images(model: str) -> None:
    """A folder of three images, the second at hand with one object."""
    from PIL import Image
    from skimage import data

    with tempfile.TemporaryDirectory() as folder:
        wells = Path(folder) / "wells"
        wells.mkdir()
        for name in ("camera", "coins", "immunohistochemistry"):
            Image.fromarray(getattr(data, name)()).save(wells / f"{name}.png")
        desk = Desk(data.coins(), model)
        desk.viewer.layers.clear()
        desk.controller.image_list.open(wells)
        desk.settle()
        desk.controller.image_list.next()
        desk.settle()
        desk.click(55, 162)
        desk.show_tab("Results")
        desk.shoot("many_images.png")
        desk.close()


def embedding(model: str) -> None:
    """A mosaic of coins, segmented while all of it is embedded."""
    import numpy as np
    from skimage.data import coins

    desk = Desk(np.tile(coins(), (12, 10)), model)
    desk.show_tab("Image")
    desk.viewer.scene.camera.center, desk.viewer.scene.camera.zoom = (0, 1800, 1900), 1
    desk.settle()
    desk.controller.embed()
    desk.wait(lambda: desk.controller.board.state.encoding.done > 4)
    desk.click(1818 + 52, 1920 + 45, settle=False)
    desk.wait(lambda: desk.controller.session.objects)
    end = time.monotonic() + 3
    desk.wait(lambda: time.monotonic() > end)
    desk.shoot("embedding.png", settle=False)
    desk.controller.cancel()
    desk.close()


PICTURES = (
    first_steps, first_click, refine, fill_volume, tools, proposals, words,
    everything, objects, many_images, embedding,
)  # fmt: skip
"""What can be taken, by name."""


def main() -> None:
    """Take all of them, or those named."""
    names = {take.__name__: take for take in PICTURES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="NAME")
    parser.add_argument("--model", default="nano", help="a name or a checkpoint file")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"] = folder
        os.environ["NAPARI_SAM_SESSIONS"] = folder
        os.environ["NAPARI_SAM_CONFIG"] = folder
        for name in asked.names or names:
            names[name](asked.model)


if __name__ == "__main__":
    main()
