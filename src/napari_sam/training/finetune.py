"""Fine-tuning: from labelled images to a model of one's own in the list."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ModelError
from napari_sam.models import user_models
from napari_sam.models.registry import (
    FAMILIES,
    add_model,
    check_own_name,
    list_models,
    load_model,
)
from napari_sam.training.datasets import read_labelled
from napari_sam.training.decoder_loop import DecoderLoop, LoopOptions, Progress
from napari_sam.training.examples import examples_of, labelled_planes, split_planes
from napari_sam.training.features import EncodedFeatures, StoredFeatures
from napari_sam.training.held_back import Judge, compared, overall
from napari_sam.training.trainable import (
    TrainableLora,
    check_family,
    private_copy,
    trainable_of,
    weights_hash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event

    from napari_sam.models.protocol import PromptableModel
    from napari_sam.training.examples import Shares
    from napari_sam.training.labelled import LabelledVolume
    from napari_sam.training.scores import Evaluation
    from napari_sam.training.trainable import Trainable

    Cancel = Callable[[], bool] | Event | None
    Tell = Callable[[Progress], None] | None

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """What came of a training."""

    name: str
    """The model's name in the list, where `kept`."""
    path: Path
    """Its checkpoint."""
    kept: bool
    """Whether it is better than before, and has its name now."""
    message: str
    """What happened, in a sentence or two for people."""
    before: Evaluation
    """Scores of the model that training began with, on images held back."""
    after: Evaluation
    """Scores of the trained model, on the same."""
    history: tuple[dict[str, float], ...]
    """One row an epoch: loss, score on the images that training stops by, ..."""
    images: tuple[int, int, int]
    """Planes trained on, planes to stop by, planes to judge by."""

    def __repr__(self) -> str:
        """Say what happened and where the checkpoint is."""
        return f"<TrainingResult: {self.message} {self.path}>"

    def table(self) -> str:
        """Compare before and after, as text."""
        return compared(self.before, self.after)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        train, stop, held_back = self.images
        return {
            "name": self.name,
            "path": str(self.path),
            "kept": self.kept,
            "message": self.message,
            "before": self.before.mean,
            "after": self.after.mean,
            "history": list(self.history),
            "planes": {"train": train, "stop": stop, "held_back": held_back},
        }


def train(
    model: PromptableModel | str | Path,
    images: Any,
    labels: Any = None,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    axes: str | Sequence[str] | None = None,
    channels: int | Sequence[int] | None = None,
    lora: bool = False,
    epochs: int = 40,
    validation: float = 0.2,
    patience: int = 8,
    seed: int = 0,
    device: str = "auto",
    replace: bool = False,
    progress: Tell = None,
    cancel: Cancel = None,
) -> TrainingResult:
    """Fine-tune a model on labelled images, and add the result to the model list.

    What reads prompts and draws masks is trained; the image encoder stays as it is,
    so that images are encoded once and an epoch is quick. Objects are prompted as
    people do: a click or a box first, then clicks where the mask is wrong. Some images
    are held back to say when to stop, and as many others to compare before and after.

    Stopped or killed, it goes on where it was when called again with the same
    arguments, and ends in the same weights. On a CPU the same arguments (and number of
    threads) always give the same weights, bit by bit.

    Parameters
    ----------
    model : str, Path or PromptableModel
        What to begin with: nano, or a SAM, MobileSAM, TinySAM or MedSAM, by name, file
        or as an object, which is left as it is.
    images, labels
        As `napari_sam.training.datasets.read_labelled` takes them: two folders, lists
        of arrays, a COCO file, an OME-Zarr with labels, a saved session. At least
        three images or planes with objects; twenty are a good start.
    out : path-like, optional
        Folder of the checkpoint and of the work on it; by default one for this name
        among the user's own models.
    name : str, optional
        The result's name in the model list; ``<model>_tuned`` when left out.
    axes, channels : optional
        Of every image, as `open_volume` takes them.
    lora : bool
        Also train low-rank additions to the attention of SAM's encoder. Every step
        then runs the encoder: hours on a CPU, for images that look like none before.
    epochs : int
        At most.
    validation : float
        Share of the images (planes, for fewer than five images) to stop by, and again
        to compare before and after by.
    patience : int
        Epochs without a better score after which training ends.
    seed : int
        Decides the shares, and every draw.
    device : str
        As in `load_model`.
    replace : bool
        Give the result its name even where it is worse than what it began with, or
        than the model that has the name already.
    progress : callable, optional
        Called with a `Progress` now and then.
    cancel : callable or threading.Event, optional
        Asked between steps; once true, `Cancelled` is raised.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ModelError
        If the model cannot be trained, the name not be given, or `out` is a file's.
    VolumeError
        If there are no labelled objects, or too few images.
    Cancelled
        When asked to stop.

    Examples
    --------
    >>> result = train("nano", "images/", "labels/", name="my_cells")  # doctest: +SKIP
    >>> print(result.table())  # doctest: +SKIP
    """
    if epochs < 1 or patience < 1:
        raise ModelError(f"epochs and patience are 1 or more; got {epochs}, {patience}")
    if out is not None and Path(out).suffix in (".safetensors", ".pth", ".pt"):
        raise ModelError(
            f"out is a folder, for the checkpoint and the work on it; got {out}: name "
            "the result by name="
        )
    called = _called(model)
    name = name or f"{called}_tuned"
    check_own_name(name)
    family = family_of(model)
    check_family(called, family)
    volumes = read_labelled(images, labels, axes=axes, channels=channels)
    planes, digest = labelled_planes(volumes)
    shares = split_planes(planes, validation, seed)
    if isinstance(model, (str, Path)):
        own = load_model(model, device=device)
    else:
        own = private_copy(model, device)
    options = LoopOptions(epochs=epochs, patience=patience, seed=seed)
    weights = weights_hash(own)[:16]
    trainable = trainable_of(own, with_lora=lora, seed=seed)
    run = _Run(
        trainable, volumes, shares, options, Path(out or default_folder(name)), name,
        weights,
        _key(
            weights, digest, [v.volume.identity() for v in volumes],
            [v.volume.intensity.to_json() for v in volumes], validation, lora,
            asdict(options), trainable.learning_rate,
        ),
        progress or (lambda _: None), cancel,
    )  # fmt: skip
    return run.result(family, replace=replace)


def default_folder(name: str) -> Path:
    """Folder of an own model that nobody gave a place."""
    if os.environ.get(user_models.CONFIG_VARIABLE):
        return user_models.config_folder() / "trained" / name
    import platformdirs

    data = platformdirs.user_data_dir("napari-sam", appauthor=False)
    return Path(data) / "trained" / name


def family_of(model: PromptableModel | str | Path) -> str:
    """Which code runs a model, as in `FAMILIES`; "" where its tensors tell."""
    given = str(model) if isinstance(model, (str, Path)) else model.spec.source
    for known in list_models():
        if known.name in (given, getattr(getattr(model, "spec", None), "name", None)):
            return known.family
    family = given.partition(":")[0]
    return family if family in FAMILIES else ""


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One training, from data to checkpoint."""

    trainable: Trainable
    volumes: list[LabelledVolume]
    shares: Shares
    options: LoopOptions
    folder: Path
    name: str
    weights: str
    """Hash of the weights that it begins with."""
    key: str
    tell: Callable[[Progress], None]
    cancel: Cancel

    def result(self, family: str, *, replace: bool) -> TrainingResult:
        """Train, judge, and keep what is better."""
        model = self.trainable.model
        before = self._judged(model, "score before")
        loop = self._trained()
        work = self.folder / "work" / self.key
        new = work / "model.safetensors"
        self.trainable.write(new)
        # Judged as it will be loaded: files may round weights.
        trained = load_model(_named(family, new), device=model.device)
        after = self._judged(trained, "score after")
        del trained
        kept, why = self._is_better(before, after)
        path = self.folder / f"{self.name}.safetensors"
        if not kept and replace:
            kept, why = True, f"{why} It has the name all the same, as asked."
        if kept:
            self._keep(new, path, family)
        else:
            path = self.folder / f"{self.name}.rejected.safetensors"
            os.replace(new, path)
            why += (
                f" Nothing was replaced. The new weights are in {path}, under no name; "
                "train again with replace=True to use them all the same, or with more "
                "images."
            )
            logger.warning("%s", why)
        shares = self.shares
        result = TrainingResult(
            self.name, path, kept, why, before, after, tuple(loop.rows),
            (len(shares.train), len(shares.stop), len(shares.held_back)),
        )  # fmt: skip
        text = json.dumps(result.to_json(), indent=1)
        (self.folder / f"{self.name}.json").write_text(text, "utf-8")
        self._tidy()
        return result

    def _trained(self) -> DecoderLoop:
        """Encode what is needed, and train to the end."""
        work = self.folder / "work"
        train = examples_of(self.shares.train, self.volumes, self.trainable)
        stop = examples_of(self.shares.stop, self.volumes, self.trainable)
        features: StoredFeatures | EncodedFeatures
        if isinstance(self.trainable, TrainableLora):
            features = EncodedFeatures(self.trainable, self.volumes)
        else:
            stored = work / f"embeddings-{self.weights}"
            features = StoredFeatures(self.trainable, self.volumes, stored)
        loop = DecoderLoop(
            self.trainable, train, stop, features, work / self.key, self.key,
            self.options,
        )  # fmt: skip
        if isinstance(features, StoredFeatures) and not loop.finished:
            for done, total in features.encode([*train, *stop], self.cancel):
                self.tell(Progress("embed", done=done / total))
        for progress in loop.run(self.cancel):
            self.tell(progress)
        loop.keep_best()
        return loop

    def _judged(self, model: PromptableModel, stage: str) -> Evaluation:
        judge = Judge(self.volumes, self.shares.held_back, self.options.seed)
        return judge.score(
            model, lambda done: self.tell(Progress(stage, done=done)), self.cancel
        )

    def _is_better(self, before: Evaluation, after: Evaluation) -> tuple[bool, str]:
        """Compare with what training began with, and with who has the name."""
        old, new = overall(before), overall(after)
        gain = f"{old:.3f} -> {new:.3f} mean IoU on images held back"
        if new < old:
            return False, f"Training made the model worse ({gain})."
        noted = user_models.models().get(self.name)
        if noted is not None:
            try:
                present = load_model(self.name, device=self.trainable.model.device)
            except ModelError as error:
                logger.warning("%s is replaced unseen: %s", self.name, error)
                return True, f"{self.name}: {gain}."
            if present.spec.sha256[:16] == self.weights:  # what training began with
                return True, f"{self.name}: {gain}."
            score = overall(self._judged(present, "score present"))
            if new < score:
                return False, (
                    f"The model that is called {self.name!r} now is better than the "
                    f"new one ({score:.3f} against {new:.3f} mean IoU on images "
                    "held back)."
                )
        return True, f"{self.name}: {gain}."

    def _keep(self, new: Path, path: Path, family: str) -> None:
        """Give the file its place and its name; an earlier one is set aside."""
        if path.exists():
            os.replace(path, path.with_name(f"{self.name}.previous.safetensors"))
        os.replace(new, path)
        add_model(self.name, _named(family, path))

    def _tidy(self) -> None:
        """Remove what other runs and other weights left."""
        mine = {self.key, f"embeddings-{self.weights}"}
        for entry in (self.folder / "work").iterdir():
            if entry.is_dir() and entry.name not in mine:
                shutil.rmtree(entry, ignore_errors=True)


def _called(model: PromptableModel | str | Path) -> str:
    """Name of a model, or of its file without folder, family and ending."""
    if not isinstance(model, (str, Path)):
        return model.spec.name
    family, colon, rest = str(model).partition(":")
    file = Path(rest if colon and family in FAMILIES else model).name
    for suffix in (".safetensors", ".pth", ".pt"):
        file = file.removesuffix(suffix)
    return file


def _named(family: str, path: Path) -> str:
    return f"{family}:{path}" if family else str(path)


def _key(weights: str, digest: str, *parts: Any) -> str:
    """Name everything that decides the result."""
    text = json.dumps([weights, digest, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
