"""``napari-sam view``: an image in napari with the panel beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.cli.arguments import VolumeOptions
    from napari_sam.volume.volume import Volume


def run(source: VolumeOptions, *, session: Path | None, labels: str | None) -> None:
    """Open the window and stay until it is closed."""
    from napari_sam._napari.viewing import import_napari, view_volume

    napari = import_napari()
    volume = _volume(source, napari)
    if volume is None:
        return
    if session is not None:
        _check(session, volume)  # before a window opens
    saved = None if session is None else str(session)
    view_volume(volume, _labels(volume, labels), saved=saved)
    napari.run()


def _volume(source: VolumeOptions, napari: Any) -> Volume | None:
    """Open the source; of several series a person chooses one in the window."""
    if source.series is not None or source.spacing is not None:
        return source.open()
    from napari_sam._napari.study import open_for_window
    from napari_sam.cli.arguments import channels

    napari.qt.get_qapp()
    volumes = open_for_window(
        source.source, axes=source.axes, channels=channels(source.channels)
    )
    return source.with_intensity(volumes[0]) if volumes else None


def _check(session: Path, volume: Any) -> None:
    """Refuse what is no session of this image."""
    from napari_sam.session import Session
    from napari_sam.testing import ToyModel

    # Only looked at, so no weights are loaded.
    Session.load(session, volume=volume, model=ToyModel(), read_only=True)


def _labels(volume: Any, labels: str | None) -> list[tuple[str, Any]]:
    if labels is None:
        return []
    from napari_sam.results.existing import shown_labels

    name = Path(labels.rstrip("/\\")).name.partition(".")[0]
    return [(name or "labels", shown_labels(volume, labels))]
