"""Segment Anything for scientific images of any size.

Names are imported when they are first used, so ``import napari_sam`` costs next to
nothing.

Examples
--------
>>> import napari_sam as ns
>>> from napari_sam.testing import ToyModel, phantom_image
>>> cells = phantom_image((64, 96), n_objects=2)
>>> session = ns.Session(cells.image, ToyModel(), embeddings=False)
>>> best, *others = session.segment(points=[cells.center(1)])
>>> int(session.labels[cells.center(1)])
1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.core.candidates import PlaneCandidate
    from napari_sam.core.intensity import CT_PRESETS, IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.embeddings.encode import encode_volume
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.errors import NapariSamError
    from napari_sam.models.registry import list_models, load_model
    from napari_sam.session import Session
    from napari_sam.training.evaluate import evaluate
    from napari_sam.training.finetune import train
    from napari_sam.volume.opening import open_volume
    from napari_sam.volume.volume import Volume

    __version__: str

_HOMES = {
    "CT_PRESETS": "core.intensity",
    "EmbeddingStore": "embeddings.store",
    "IntensityMapping": "core.intensity",
    "PlaneCandidate": "core.candidates",
    "NapariSamError": "errors",
    "Plane": "core.planes",
    "Prompts": "core.prompts",
    "Session": "session",
    "Volume": "volume.volume",
    "encode_volume": "embeddings.encode",
    "evaluate": "training.evaluate",
    "list_models": "models.registry",
    "load_model": "models.registry",
    "open_volume": "volume.opening",
    "train": "training.finetune",
}
"""Module of each public name."""

__all__ = [
    "CT_PRESETS",
    "EmbeddingStore",
    "IntensityMapping",
    "NapariSamError",
    "Plane",
    "PlaneCandidate",
    "Prompts",
    "Session",
    "Volume",
    "encode_volume",
    "evaluate",
    "list_models",
    "load_model",
    "open_volume",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name == "__version__":
        from napari_sam.core.distribution import version

        value = version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
