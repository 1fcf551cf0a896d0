"""Open what a person points at in the window: ask which series, tell what is odd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.errors import SeriesError, VolumeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.volume.series import Contents, SeriesInfo
    from napari_sam.volume.volume import Volume

MOST_SERIES = 8
"""Series that are opened together where nobody can be asked."""
MOST_TOLD = 5
"""Files left out that one message names."""


def open_for_window(source: Any, **options: Any) -> list[Volume]:
    """Open a path, a URL or files; several series are a person's choice.

    Uneven slices are resampled, and that is told; so is what is left out.

    Parameters
    ----------
    source : path, URL or list of paths
    **options
        As for `open_volume`.

    Returns
    -------
    list of Volume
        Empty where the person chose none.

    Raises
    ------
    VolumeError
        If nothing can be opened.
    SeriesError
        If there are more series than can be opened together, and nobody to ask.
    """
    from napari_sam.volume.opening import open_volume
    from napari_sam.volume.series import read_contents

    options = {k: v for k, v in options.items() if v is not None}
    if "series" in options or "spacing" in options:
        return [_told(open_volume(source, **options))]
    contents = read_contents(source)
    chosen = _choose(contents, source)
    volumes = [_told(info.open(**options)) for info in chosen]
    bad = [i for i in contents.series if i.problem]
    if bad and chosen:
        _say([f"{i.description or i.key} cannot be opened: {i.problem}" for i in bad])
    return volumes


def _choose(contents: Contents, source: Any) -> list[SeriesInfo]:
    real = [i for i in contents.series if not (i.problem or i.is_odd)]
    if not real:
        first = contents.series[0]
        raise VolumeError(f"{str(source)!r} cannot be opened: {first.problem}")
    if len(real) == 1:
        return real
    from napari_sam._napari import series_chooser

    if series_chooser.can_ask():
        return series_chooser.ask(contents.series)
    if len(real) <= MOST_SERIES:
        return real
    listing = "".join(f"\n  {i.short or i.key}  {i.description}" for i in real)
    raise SeriesError(
        f"{str(source)!r} holds {len(real)} series; choose one with series=:{listing}",
        {i.key or "": i.description for i in real},
    )


def _told(volume: Volume) -> Volume:
    """Tell what is odd about a volume that is about to be shown."""
    from napari_sam.volume.formats.dicom_series import NO_DICOM

    notes = [f"{volume.name}: {note}" for note in volume.metadata.get("notes", ())]
    if volume.metadata.get("slices") == "resampled":
        notes.append(
            f"{volume.name} is shown resampled to planes {volume.spacing[-3]:.3g} mm "
            "apart, because its slices are uneven"
        )
    odd = [s for s in volume.metadata.get("skipped", ()) if s[1] != NO_DICOM]
    notes += [f"{file} is left out: {reason}" for file, reason in odd[:MOST_TOLD]]
    if len(odd) > MOST_TOLD:
        notes.append(f"and {len(odd) - MOST_TOLD} more are left out")
    _say(notes)
    return volume


def _say(notes: Sequence[str]) -> None:
    if not notes:
        return
    from napari.utils.notifications import show_warning

    show_warning("\n".join(dict.fromkeys(notes)))
