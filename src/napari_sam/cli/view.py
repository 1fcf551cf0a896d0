"""``napari-sam view``: an image in napari with the widget beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.cli.arguments import VolumeOptions


def run(source: VolumeOptions, *, session: Path | None, labels: str | None) -> None:
    """Open the window and stay until it is closed."""
    volume = source.open()
    shown = _labels(volume, session, labels)  # before a window opens
    open_viewer(volume, shown)
    import napari

    napari.run()


def open_viewer(volume: Any, labels: Iterable[tuple[str, Any]] = ()) -> Any:
    """Return a viewer that shows a volume, with the Segment Anything widget.

    The widget goes on with the first of the labels, which lie on the image.
    """
    napari = import_napari()
    from napari_sam._napari.label_writer import adopt
    from napari_sam._napari.layer_data import label_layer, layer_data
    from napari_sam._napari.widget import controller_of

    viewer = napari.Viewer(title=f"napari-sam: {volume.name}")
    for data, options, _ in layer_data(volume):
        viewer.add_image(data, **options)
    if volume.crs is not None:  # north is up
        getattr(viewer, "scene", viewer).camera.orientation2d = ("up", "right")
    for number, (name, data) in enumerate(labels):
        data, options, _ = label_layer(data, volume, name)
        layer = viewer.add_labels(data, **options)
        if number == 0:
            adopt(layer, viewer.layers[0])
    controller_of(viewer)
    return viewer


def import_napari() -> Any:
    """Import napari, where it is installed and there is a screen to draw on.

    Raises
    ------
    NapariSamError
    """
    from napari_sam.errors import NapariSamError

    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, screens)):
        raise NapariSamError(
            "napari needs a screen, and there is none here (DISPLAY is not set): run "
            "this on a desktop, or connect with ssh -X"
        )
    try:
        import napari
    except ImportError as error:
        raise NapariSamError(
            'this needs napari, which is not installed: pip install "napari[pyqt6]"'
        ) from error
    return napari


def _labels(
    volume: Any, session: Path | None, labels: str | None
) -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    if session is not None:
        from napari_sam.session import Session
        from napari_sam.testing import ToyModel

        # Only the labels are shown, so no weights are loaded.
        saved = Session.load(session, volume=volume, model=ToyModel(), read_only=True)
        out.append((session.stem, saved.labels))
    if labels is not None:
        from napari_sam.results.existing import shown_labels

        name = Path(labels.rstrip("/\\")).name.partition(".")[0]
        out.append((name or "labels", shown_labels(volume, labels)))
    return out
