"""What passes between the thread that owns a session and those that compute for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.core.history import Rule
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.engine.predict import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Prompts to be answered: a frozen snapshot that any thread may work on."""

    object_id: int
    plane: Plane
    prompts: Prompts
    generation: int
    """Counts the requests for this object and plane; only the latest is accepted."""
    previous: Prediction | None
    choices: tuple[int, ...]
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Answer to a request."""

    request: Request
    prediction: Prediction
