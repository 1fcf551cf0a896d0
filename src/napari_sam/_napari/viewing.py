"""Windows that open with the panel at work: on an image, or on a given session."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.session import Session
    from napari_sam.session.worklist import Worklist
    from napari_sam.volume.volume import Volume


def view_session(session: Session, viewer: Any = None) -> Any:
    """Open napari with the panel on a session that goes on belonging to the caller.

    What is clicked there happens in the session, and what the session does shows
    there. Closing the panel leaves the session open.

    Parameters
    ----------
    session : Session
    viewer : napari.Viewer, optional
        A window to show it in; a new one when left out.

    Returns
    -------
    napari.Viewer

    Raises
    ------
    NapariSamError
        If there is no napari, or no screen.
    """
    napari = import_napari()
    from napari_sam._napari.widget import controller_of

    volume = session.volume
    viewer = viewer or napari.Viewer(title=f"napari-sam: {volume.name}")
    controller = controller_of(viewer)  # first: it takes the first image by itself
    controller.use_image(add_images(viewer, volume)[-1], session)
    return viewer


def view_volume(
    volume: Volume,
    labels: Iterable[tuple[str, Any]] = (),
    *,
    saved: str | None = None,
) -> Any:
    """Open napari with a volume, and the panel at work on it.

    Parameters
    ----------
    volume : Volume
    labels : iterable of (str, array-like)
        Names and labels to show on it; the panel goes on with the first.
    saved : str, optional
        Folder of a session of this volume for the panel to go on with instead.

    Returns
    -------
    napari.Viewer
    """
    napari = import_napari()
    from napari_sam._napari.label_images import labels_inside
    from napari_sam._napari.label_writer import adopt
    from napari_sam._napari.layer_data import label_layer
    from napari_sam._napari.widget import controller_of

    viewer = napari.Viewer(title=f"napari-sam: {volume.name}")
    controller = controller_of(viewer)
    layer = add_images(viewer, volume)[-1]
    for data, options, _ in labels_inside(volume):
        viewer.add_labels(data, **options)
    for number, (name, data) in enumerate(labels):
        data, options, _ = label_layer(data, volume, name)
        shown = viewer.add_labels(data, **options)
        if number == 0 and saved is None:
            adopt(shown, layer)
    controller.use_image(layer, saved=saved)
    return viewer


def view_images(work: Worklist) -> Any:
    """Open napari with the panel going through a list of images.

    Parameters
    ----------
    work : Worklist
        It goes on at the image that was reached.

    Returns
    -------
    napari.Viewer
    """
    napari = import_napari()
    from napari_sam._napari.widget import controller_of

    viewer = napari.Viewer(title=f"napari-sam: {work.results.parent.name}")
    controller_of(viewer).image_list.use(work)
    return viewer


def add_images(viewer: Any, volume: Volume) -> list[Any]:
    """Add the layers of a volume, north up where it knows of north."""
    from napari_sam._napari.layer_data import layer_data

    added = [
        viewer.add_image(data, **options) for data, options, _ in layer_data(volume)
    ]
    if volume.crs is not None:
        getattr(viewer, "scene", viewer).camera.orientation2d = ("up", "right")
    return added


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
