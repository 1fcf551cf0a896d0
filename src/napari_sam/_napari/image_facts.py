"""What the panel says of an image layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam._napari.own_layers import TAG
from napari_sam._napari.plane_view import layer_over

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume


def volume_of(layer: Any) -> Volume:
    """Return the volume that our reader left with a layer, or open the layer."""
    from napari_sam.volume.opening import open_volume
    from napari_sam.volume.volume import Volume

    known = layer.metadata.get(TAG, {}).get("volume")
    if isinstance(known, Volume) and known.ndim == layer.ndim:
        return known
    return open_volume(layer)


def values_of(layer: Any) -> tuple[float, float] | None:
    """Least and greatest value of an image layer, as its contrast sliders have them."""
    given = getattr(layer, "contrast_limits_range", None)
    return None if layer.rgb or given is None else (float(given[0]), float(given[1]))


def modality(volume: Volume) -> str:
    """DICOM modality, as "CT"; "" where none is told."""
    return str(volume.metadata.get("Modality", volume.metadata.get("modality", "")))


def describe(volume: Volume) -> str:
    """Size, spacing and channels in one short line."""
    size = " × ".join(str(n) for n in volume.shape)
    facts = [f"{size} ({''.join(volume.axes)})", str(volume.dtype)]
    if any(unit not in ("pixel", "") for unit in volume.units):
        near = " × ".join(f"{s:.3g}" for s in volume.spacing)
        facts.append(f"{near} {volume.units[-1]}")
    if volume.n_channels > 1:
        facts.append("colour" if volume.rgb else f"{volume.n_channels} channels")
    return " · ".join(facts)


def covering(viewer: Any, image: Any) -> str:
    """What to say where another image lies over one; "" where none does."""
    over = layer_over(viewer, image)
    return f"Hide {over.name} to see {image.name} below it." if over else ""
