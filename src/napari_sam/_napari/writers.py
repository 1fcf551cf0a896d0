"""napari's Save dialog for Labels layers: one writer for each format of results."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam._napari.label_writer import ROLE
from napari_sam._napari.own_layers import TAG
from napari_sam.results.registry import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume


def write_labels(
    format_name: str, path: str, data: Any, attributes: dict[str, Any]
) -> list[str]:
    """Write a Labels layer; what the format does not hold is shown as a warning.

    Parameters
    ----------
    format_name : str
    path : str
    data : array-like
        Of the layer; of a pyramid, the finest level is written.
    attributes : dict
        Of the layer, as napari gives them to writers.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    ExportError, VolumeError
    """
    from napari.utils.notifications import show_warning

    from napari_sam.results.incoming import incoming_labels
    from napari_sam.results.registry import write
    from napari_sam.results.results import Results

    results = _results_at_work(attributes)
    if results is None:
        volume = _volume_of(data, attributes)
        results = Results(incoming_labels(volume, _finest(data)), volume)
    path = FORMATS[format_name].with_suffix(path)
    for line in write(path, results, format_name):
        show_warning(line)
    return [path]


def _results_at_work(attributes: dict[str, Any]) -> Results | None:
    """What is known of the masks that the panel works on, if this is their layer."""
    import napari

    from napari_sam._napari.widget import widget_of

    tag = (attributes.get("metadata") or {}).get(TAG, {})
    widget = widget_of(napari.current_viewer()) if tag.get("role") == ROLE else None
    annotation = widget and widget.contents.controller.annotation
    if not annotation or annotation.image.unique_id != tag.get("image"):
        return None
    return None if annotation.session is None else annotation.session.results()


def _finest(data: Any) -> Any:
    many = isinstance(data, (list, tuple)) or type(data).__name__ == "MultiScaleData"
    return data[0] if many else data


def _volume_of(data: Any, attributes: dict[str, Any]) -> Volume:
    """The image that the layer was made for, or else one of the layer's own place."""
    from napari.layers import Layer

    from napari_sam.volume.opening import open_volume

    finest = _finest(data)
    tag = (attributes.get("metadata") or {}).get(TAG, {})
    image = tag if "volume" in tag else _tag_of_image(tag.get("image"))
    known: Volume | None = image.get("volume")
    if known is not None and known.shape == tuple(finest.shape):
        return known
    place = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    kept = {k: attributes[k] for k in (*place, "name") if attributes.get(k) is not None}
    return open_volume(Layer.create(finest, kept, "labels"))


def _tag_of_image(unique_id: Any) -> dict[str, Any]:
    """What is noted at the image layer that masks of ours belong to."""
    import napari

    viewer = napari.current_viewer()
    layers = viewer.layers if viewer is not None and unique_id is not None else ()
    found = (x.metadata.get(TAG, {}) for x in layers if x.unique_id == unique_id)
    return dict(next(found, {}))


def __getattr__(name: str) -> Callable[[str, Any, dict[str, Any]], list[str]]:
    """Give ``write_<format>``, the commands that the manifest names."""
    chosen = name.removeprefix("write_")
    if name == chosen or chosen not in FORMATS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(write_labels, chosen)
