"""What passes between the thread that owns a session and those that compute for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.engine.predict import choose, predict, refine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.objects import Rule
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Prompts to be answered: a frozen snapshot that any thread may work on."""

    engine: Engine
    """What answers it, whatever the session uses by then."""
    object_id: int
    plane: Plane
    prompts: Prompts
    generation: int
    """Counts the requests for this object and plane; only the latest is accepted."""
    previous: Prediction | None
    choices: tuple[int, ...]
    rule: Rule
    choice: int | None = None
    """Candidate to take of the prompts answered before; None for new prompts."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Answer to a request."""

    request: Request
    prediction: Prediction


def answer(
    request: Request, cancel: Callable[[], bool] | None = None
) -> Iterator[Result]:
    """Answer as `Session.iter_run` says."""
    engine, plane = request.engine, request.plane
    found = predict(
        engine,
        request.prompts,
        plane,
        previous=request.previous,
        choices=request.choices,
        cancel=cancel,
    )
    if request.choice is not None:
        found = choose(engine, found, plane, request.choice)
    yield Result(request, found)
    for sharper in refine(engine, found, plane, cancel):
        yield Result(request, sharper)
