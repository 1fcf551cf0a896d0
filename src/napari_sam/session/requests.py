"""What passes between the thread that owns a session and those that compute for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.engine.predict import choose, iter_predict, predict
from napari_sam.engine.refine import refine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam.core.objects import Key, Rule
    from napari_sam.core.planes import Plane
    from napari_sam.core.prompts import Prompts
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.prediction import Prediction
    from napari_sam.session.entries import ObjectState


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
    order: int = 0
    """Place among all requests: masks of later ones lie above those of earlier ones."""
    position: int = 0
    """Steps in the journal when it was sent: what a hand changed after them stays."""
    redraws: bool = False
    """Whether the object's painted and imported pixels on the plane, which are its
    mask prompt, give way to the answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """Answer to a request."""

    request: Request
    prediction: Prediction


def answer(
    request: Request, cancel: Callable[[], bool] | None = None
) -> Iterator[Result]:
    """Answer as `Session.iter_run` says."""
    for found in _answers(request, cancel):
        # Drawn here, in the worker: whoever accepts the answer only writes it.
        _ = found.chosen.mask
        yield Result(request, found)


def _answers(
    request: Request, cancel: Callable[[], bool] | None
) -> Iterator[Prediction]:
    engine, plane, found = request.engine, request.plane, request.previous
    if request.choice is None or found is None:
        answers = iter_predict(
            engine,
            request.prompts,
            plane,
            previous=request.previous,
            choices=request.choices,
            cancel=cancel,
        )
        for each in answers:
            found = each
            if request.choice is None:
                yield found
    assert found is not None
    if request.choice is not None:
        found = choose(engine, found, plane, request.choice)
        yield found
    yield from refine(engine, found, plane, cancel)


class Requests:
    """Which requests still count, and what the latest answers were."""

    def __init__(self) -> None:
        self.predictions: dict[Key, Prediction] = {}
        """Candidates and logits, where they are in memory."""
        self._generations: dict[Key, int] = {}

    def predicted(self, key: Key, state: ObjectState, engine: Engine) -> Prediction:
        """Return the answer in force; predicted again where it was forgotten."""
        if key not in self.predictions:
            found = predict(engine, state.prompts, state.plane, choices=state.choices)
            *_, found = (found, *refine(engine, found, state.plane))
            self.predictions[key] = found
        return self.predictions[key]

    def supersede(self, key: Key) -> int:
        """Make every request under way for an object and plane stale; count it."""
        self._generations[key] = self._generations.get(key, 0) + 1
        return self._generations[key]

    def supersede_object(self, object_id: int) -> None:
        """Make every request under way for an object stale, and forget its answers."""
        for key in [k for k in self._generations if k[0] == object_id]:
            self.supersede(key)
            self.predictions.pop(key, None)

    def supersede_all(self) -> None:
        """Make every request under way stale, and forget candidates and logits."""
        for key in self._generations:
            self._generations[key] += 1
        self.predictions.clear()

    def is_current(self, key: Key, generation: int) -> bool:
        """Whether a request is the latest for its object and plane."""
        return self._generations.get(key) == generation
