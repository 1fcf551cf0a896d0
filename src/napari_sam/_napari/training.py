"""Fine-tuning on what is annotated: started, followed, and its model taken up."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam._napari import opening
from napari_sam._napari.workers import PROGRESS_EVERY_S, TRAINING
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board, TrainingState
    from napari_sam._napari.workers import Jobs
    from napari_sam.session import Session
    from napari_sam.training.decoder_loop import Progress
    from napari_sam.training.finetune import TrainingResult

    Train = Callable[..., TrainingResult]

KEY = "train"
STAGES = {
    "embed": "embedding",
    "score before": "scoring the model as it is",
    "train": "training",
    "score after": "scoring the trained model",
    "score present": "scoring the model of that name",
}
"""What a run does, in words."""
FEW = 5
"""Objects held back, below which the scores before and after say little."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How `napari_sam.train` is to train; names and meanings are its own."""

    validation: float = field(default=0.2, metadata={"range": (0.05, 0.45)})
    """Share held back to stop by, and as much again to compare before and after by."""
    epochs: int = field(default=40, metadata={"range": (1, 500)})
    """At most: training ends when it helps no more."""
    patience: int = field(default=8, metadata={"range": (1, 100)})
    """Epochs without a better score after which training ends."""
    lora: bool = False
    """Also train the encoder a little: hours without a GPU, for unusual images."""


class Training:
    """Runs `train` in the background on the session's own objects.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    train : callable, optional
        Trains; `napari_sam.training.finetune.train`.
    """

    model_wanted = Signal(str)
    """The user wants to go on with this model."""

    def __init__(self, board: Board, jobs: Jobs, train: Train | None = None) -> None:
        self.board = board
        self.jobs = jobs
        self._train = train
        self._annotation: Annotation | None = None
        self._last: tuple[Any, ...] = ()

    @property
    def state(self) -> TrainingState:
        """What the panel shows of it."""
        return self.board.state.training

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.stop()
        self._annotation = annotation
        self._show(table="", message="", offer="")

    def start(
        self,
        name: str,
        options: TrainingOptions | None = None,
        *,
        replace_worse: bool = False,
    ) -> None:
        """Train the model in use on the session's objects, under a new name.

        Parameters
        ----------
        name : str
            In the model list; empty: the model's name with "_tuned".
        options : TrainingOptions, optional
        replace_worse : bool
            Whether a result that is no better gets the name all the same.
        """
        session = None if self._annotation is None else self._annotation.session
        if session is None:
            self.board.say("Open an image and annotate a few objects first.")
            return
        name = name.strip() or f"{session.model.spec.name.removesuffix('_tuned')}_tuned"
        try:
            _check_name(name)
        except NapariSamError as error:
            self.board.fail(error)
            return
        options = options or TrainingOptions()
        self._last = (name, options)
        self._show(
            running=True, stage="reading the objects", done=0.0, seconds_left=None,
            table="", message="", offer="", name=name,
        )  # fmt: skip
        self.board.say(
            "Training on the objects annotated so far. You can go on working "
            "meanwhile; what you annotate now counts next time.",
            "busy",
        )
        planes = sorted(
            {p for one in session.objects.values() for p in one.planes},
            key=lambda p: (p.axis, p.index),
        )
        told = [0.0]

        def tell(progress: Progress) -> None:
            now = time.monotonic()
            if now - told[0] >= PROGRESS_EVERY_S:
                told[0] = now
                self.jobs.post(lambda: self._on_progress(progress))

        def work(cancelled: Callable[[], bool]) -> TrainingResult:
            return _trained(
                session, planes, self._train, name=name, **asdict(options),
                replace=replace_worse, progress=tell, cancel=cancelled,
            )  # fmt: skip

        self.jobs.submit(KEY, work, self._on_done, self._on_failed, priority=TRAINING)

    def stop(self) -> None:
        """Stop; the same training goes on where it was when it is started again."""
        self.jobs.cancel(KEY)
        if self.state.running:
            self._show(running=False)
            self.board.say("Training was stopped; Train goes on where it was.")

    def keep_anyway(self) -> None:
        """Give the result its name although it is no better."""
        if self._last and self.state.offer == "keep":
            name, options = self._last
            self.start(name, options, replace_worse=True)

    def use_result(self) -> None:
        """Go on with the trained model; prompts and masks stay."""
        if self.state.offer == "use":
            self._show(offer="")
            self.model_wanted(self.state.name)

    # -- inside ----------------------------------------------------------------------

    def _on_progress(self, progress: Progress) -> None:
        if not self.state.running:
            return
        stage = STAGES.get(progress.stage, progress.stage)
        if progress.stage == "train" and progress.of:
            stage = f"epoch {progress.epoch} of {progress.of} at most"
        if progress.score is not None:
            stage += f", IoU {progress.score:.2f}"
        self._show(stage=stage, done=progress.done, seconds_left=progress.seconds_left)

    def _on_done(self, result: TrainingResult) -> None:
        offer = "use" if result.kept else "keep"
        message = f"{result.message} {_doubts(result)}".rstrip()
        self._show(
            running=False, table=result.table(), message=message, offer=offer,
            name=result.name,
        )  # fmt: skip
        if result.kept:
            self.board.update(models=opening.model_choices())
            self.board.say(f"{result.name} is trained, and in the list of models.")
        else:
            self.board.say(result.message)

    def _on_failed(self, error: Exception) -> None:
        self._show(running=False)
        self.board.fail(error)

    def _show(self, **fields: Any) -> None:
        new = replace(self.state, **fields)
        if new != self.state:  # drawing the panel takes milliseconds
            self.board.update(training=new)


def _doubts(result: TrainingResult) -> str:
    """What to think of scores that few objects gave; "" where there are enough."""
    judged = round(result.before.mean["objects"])
    if judged >= FEW:
        return ""
    some = "1 object was" if judged == 1 else f"{judged} objects were"
    return (
        f"Only {some} held back to judge by, so the scores say little: look at what "
        "it does, and annotate more."
    )


def _check_name(name: str) -> None:
    from napari_sam.models.registry import check_own_name

    check_own_name(name)


def _trained(
    session: Session, planes: list[Any], train: Train | None, **options: Any
) -> TrainingResult:
    """Train on a session's objects; runs in the worker."""
    from napari_sam.training.crops import pieces_of
    from napari_sam.training.finetune import train as tune

    images = pieces_of(
        session.volume,
        session.labels,
        planes,
        side=session.model.spec.input_side,
        intensity=session.engine.intensity,
    )
    return (train or tune)(session.model, images, **options)
