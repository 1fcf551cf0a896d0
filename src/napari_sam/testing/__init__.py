"""Public test tools: a model without weights, phantoms with known labels, contracts.

`ToyModel` answers like a real model and needs no checkpoint; `phantom_image` and
`phantom_volume` draw objects whose labels are known; `ModelContract` and
`StoreContract` hold the tests that every model and every store has to pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.testing.phantoms import Phantom, phantom_image, phantom_volume
from napari_sam.testing.toy import ToyModel

if TYPE_CHECKING:
    from napari_sam.testing.contracts import ModelContract, StoreContract

__all__ = [
    "ModelContract",
    "Phantom",
    "StoreContract",
    "ToyModel",
    "phantom_image",
    "phantom_volume",
]


def __getattr__(name: str) -> Any:
    # The contracts need pytest, which users of ToyModel may not have.
    if name in ("ModelContract", "StoreContract"):
        from napari_sam.testing import contracts

        return getattr(contracts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
