"""Take the screenshots of docs/dicom.md from the real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/images/study.py

Writes a study of nine series, a scout and a file of another program beside them, lets
the window open its folder, chooses a series and writes PNG files next to this one.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "support"))


def write_study(folder: Path) -> Path:
    """Write the study."""
    from dicom_phantoms import ct_slice, write_ct_series

    for k in range(9):
        write_ct_series(
            folder / f"{k:02d}", SeriesNumber=201 + k // 2, seed=k, count=8 + 3 * k,
            description=("thorax", "abdomen", "spine")[k % 3], step=(0, 0, 1.0 + k % 3),
        )  # fmt: skip
    scout = ct_slice()
    scout.SeriesNumber, scout.SeriesDescription = 1, "scout"
    scout.SeriesInstanceUID = "1.2.826.0.1.1"
    scout.save_as(folder / "scout")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" * 20)
    return folder


def main() -> None:
    """Open the study, choose, and take the pictures."""
    import napari
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    from napari_sam._napari.series_chooser import SeriesChooser

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1200, 780)

    def take_chooser(dialog: Any) -> None:
        dialog.grab().save(str(HERE / "series_chooser.png"))
        dialog.accept()

    def look_for_chooser() -> None:
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, SeriesChooser):
                QTimer.singleShot(3000, partial(take_chooser, widget))
                return
        QTimer.singleShot(50, look_for_chooser)

    def take_window() -> None:
        viewer.screenshot(str(HERE / "head_up.png"), canvas_only=False, flash=False)
        viewer.close()
        QApplication.instance().quit()

    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder))
        QTimer.singleShot(50, look_for_chooser)
        viewer.open(study, plugin="napari-sam-anysize")
        viewer.window.add_plugin_dock_widget("napari-sam-anysize", "Segment Anything")
        viewer.dims.order = (1, 0, 2)
        viewer.reset_view()
        QTimer.singleShot(6000, take_window)
        napari.run()


if __name__ == "__main__":
    main()
