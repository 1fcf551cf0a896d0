"""What the panel shows: one frozen snapshot, made by the controller, drawn by views."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from psygnal import Signal

from napari_sam._napari.hints import hint
from napari_sam.core.objects import FOLLOWED
from napari_sam.core.thresholds import Thresholds
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    import numpy as np

    from napari_sam._napari.drawn import Tool
    from napari_sam.core.objects import Origin, Rule
    from napari_sam.results.views import View

logger = logging.getLogger(__name__)

StatusKind = Literal["info", "busy", "error"]

AXES = ("z", "y", "x")
"""Names of the last three axes, as the panel shows them."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One line of the model list."""

    name: str
    where: str = "here"
    """Where its weights are, as `KnownModel.where` says."""
    license: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """One candidate as a small picture."""

    score: float
    """Predicted IoU, about 0..1."""
    picture: np.ndarray | None = None
    """(h, w, 3), uint8; None until it has been drawn."""


@dataclass(frozen=True, slots=True)
class EncodingState:
    """How far embedding is, ahead of clicks."""

    phase: Literal["idle", "all", "paused"] = "idle"
    """At work on everything, paused at that, or neither."""
    done: int = 0
    total: int = 0
    """Tiles, unless idle."""
    seconds_left: float | None = None
    """At the present pace; None while that is not known."""
    ahead: bool = True
    """Whether what the view shows is embedded without being asked for."""
    remote: bool = False
    """Whether the image comes from a server, where reading may cost money."""
    scheduler: str = ""
    """Address of the dask scheduler whose workers embed; "" for this computer."""
    workers: str = ""
    """What is known of those workers."""
    place: str = ""
    """Where embeddings are kept, in words."""


@dataclass(frozen=True, slots=True)
class ImageListState:
    """The images that are gone through one after another."""

    at: int = -1
    """The one in use, from 0; -1 for none."""
    total: int = 0
    name: str = ""
    """Its name in the list; "" where the layers of the viewer are gone through."""
    begun: int = 0
    """How many of the others have a session."""
    place: str = ""
    """Folder of their sessions and exports."""
    format: str = ""
    """Name of the format that each is exported in when it is left; "" for none."""


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One proposal in the list."""

    number: int
    doubt: float
    text: str


@dataclass(frozen=True, slots=True)
class ReviewState:
    """What was suggested, and how far the search and the review are."""

    rows: tuple[ReviewRow, ...] = ()
    """Proposals that wait and pass the thresholds, in the order of the list; the first
    of them where there are very many."""
    pending: int = 0
    """How many these are in all."""
    hidden: int = 0
    """Proposals that wait, and that the thresholds leave out."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    largest: float = 0
    """Pixels of the largest that waits."""
    like: bool = False
    """Whether some were compared with examples."""
    current: int = 0
    """Number of the one at hand; 0 for none."""
    rejected: int = 0
    doubtful_first: bool = True
    running: bool = False
    done: int = 0
    total: int = 0
    """Steps of the search."""


@dataclass(frozen=True, slots=True)
class StripPlane:
    """What an object is on one plane of the stack in view."""

    number: int
    origin: Origin
    doubtful: bool = False
    reviewed: bool = False

    @property
    def is_key(self) -> bool:
        """Whether a person made it."""
        return self.origin not in FOLLOWED


@dataclass(frozen=True, slots=True)
class VolumeState:
    """The object at hand through the stack in view, and how far the filling is."""

    strip: tuple[StripPlane, ...] = ()
    """Planes the object is on, by number."""
    n_planes: int = 0
    """Planes of the stack; 0 where the image is one."""
    current: int = -1
    """Plane shown."""
    doubtful: int = 0
    """Planes of all objects that are doubtful and not reviewed."""
    conflict: str = ""
    """What the object on the plane shown disagrees with; "" for nothing."""
    running: bool = False
    done: int = 0
    total: int = 0
    """Planes."""


@dataclass(frozen=True, slots=True)
class TimeState:
    """Tracks of the image, and how far the linking is."""

    n_frames: int = 0
    """0 where the image has no first axis to track along."""
    frame: int = -1
    """Frame shown."""
    summary: str = ""
    """What tracks there are, in words; "" while none are known."""
    to_check: int = 0
    """Gaps and doubtful links that nobody has said anything of."""
    marked: str = ""
    """Object and frame that the next correction begins at; "" for none."""
    shown: bool = False
    """Whether the tracks are drawn."""
    running: bool = False
    done: int = 0
    total: int = 0
    """Frames."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """How far fine-tuning is, and what came of it."""

    running: bool = False
    stage: str = ""
    done: float = 0.0
    """Share of the stage, 0..1."""
    seconds_left: float | None = None
    """Of the stage, at most."""
    name: str = ""
    table: str = ""
    """Scores before and after."""
    message: str = ""
    offer: Literal["", "use", "keep"] = ""
    """What the user may do with the result."""


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object in the table."""

    object_id: int
    color: str = ""
    """Its own, as #rrggbb; "" for the layer's."""
    class_name: str = ""
    review: str = "open"
    doubt: float | None = None
    """Greatest of its planes; None where it is not known."""
    planes: int = 1
    """On how many planes it is known to be."""
    score: float | None = None
    """Best predicted IoU; None where a hand drew it."""
    how: str = ""
    """How most of its pixels came."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of the list."""

    name: str
    color: str
    """As #rrggbb."""
    codes: str = ""
    """As "SCT:84640000, UBERON:0002107"."""
    count: int = 0
    """Objects of the class."""


@dataclass(frozen=True, slots=True, eq=False)
class GuessedState:
    """What classes objects may be of."""

    names: dict[int, str] = field(default_factory=dict)
    doubts: dict[int, float] = field(default_factory=dict)
    told: str = ""
    """How far to trust them."""

    def below(self, max_doubt: float) -> dict[int, str]:
        """Return the guesses that are doubted no more than this."""
        return {i: n for i, n in self.names.items() if self.doubts[i] <= max_doubt}


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredState:
    """What was measured of the objects, at the time point in view."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    """Values by name; None where one has no meaning."""
    place: dict[int, int] = field(default_factory=dict)
    """Where in them an object is; those that changed since are missing."""
    size_unit: str = ""

    def of(self, name: str, object_id: int) -> Any:
        """Return one value; None where it is not known."""
        at, values = self.place.get(object_id), self.columns.get(name)
        return None if at is None or values is None else values[at]


@dataclass(frozen=True, slots=True)
class CheckState:
    """Going through objects, and what is known of them all."""

    order: Literal["", "doubt", "random"] = ""
    """How they are gone through; "" when they are not."""
    left: int = 0
    """Objects to look at yet."""
    error_rate: str = ""
    """In words; "" when nothing was drawn at random."""
    measuring: bool = False
    outdated: int = 0
    """Objects that changed since they were measured."""


@dataclass(frozen=True, slots=True)
class PanelState:
    """Everything the panel shows."""

    models: tuple[ModelChoice, ...] = ()
    model: str = "nano"
    """Name or checkpoint path of the one that answers."""
    loading: str = ""
    """Name or path of the one that is to answer, until it can."""
    model_note: str = ""
    """Device and licence, or what is missing."""
    images: tuple[str, ...] = ()
    image: int = -1
    """Index into `images`; -1 for none."""
    image_list: ImageListState = ImageListState()
    ndim: int = 2
    """Spatial axes of the image."""
    axis: int = 0
    image_note: str = ""
    """Size, channels and spacing of the image."""
    window: tuple[float, float] | None = None
    """Raw values shown to the model as black and white; None until they are known."""
    values: tuple[float, float] | None = None
    """Least and greatest raw value, as far as they are known."""
    own_colors: bool = False
    """Colour images go to the model as they are."""
    follow: bool = False
    is_ct: bool = False
    object_id: int = 1
    color: str = "#888888"
    class_name: str = ""
    """Class of the current object, or that it will have; "" for none."""
    objects: tuple[ObjectRow, ...] = ()
    class_rows: tuple[ClassRow, ...] = ()
    guessed: GuessedState | None = None
    guessing: bool = False
    view: View = "instance"
    """What the colours of objects tell."""
    measured: MeasuredState | None = None
    check: CheckState = CheckState()
    elsewhere: str = ""
    """Where clicks on the canvas go when they give no prompts; "" when they do."""
    stuck: bool = False
    """Whether no tool of ours leads back to prompts, as the view has to be changed."""
    rule: Rule = "keep"
    tool: Tool = "point"
    kinds: frozenset[str] = frozenset({"points", "box", "mask"})
    """Kinds of prompt that the model understands."""
    polarity: int = 1
    thumbnails: tuple[Thumbnail, ...] = ()
    chosen: int = 0
    can_undo: bool = False
    can_redo: bool = False
    can_export: bool = False
    """Whether there are masks to write."""
    can_embed: bool = False
    encoding: EncodingState = EncodingState()
    review: ReviewState = ReviewState()
    words: str = ""
    """Who reads words, and what to expect; "" without an image."""
    words_by: str = ""
    """Name of what reads them."""
    volume: VolumeState = VolumeState()
    time: TimeState = TimeState()
    training: TrainingState = TrainingState()
    progress: tuple[int, int] | None = None
    """(done, total) of the long work under way; None when there is none."""
    progress_text: str = ""
    kept_in: str = ""
    """Folder that every change is kept in."""
    unsaved: str = ""
    """Why changes are in memory only; "" when they are kept."""
    said: str = ""
    """What happened last."""
    status_kind: StatusKind = "info"
    guided: bool = True
    """Whether what to do now follows."""

    @property
    def status(self) -> str:
        """What happened last, and what to do now."""
        if self.status_kind != "info" or not self.guided:
            return self.said
        return f"{self.said} {hint(self)}".strip()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their keys."""
        return tuple(row.name for row in self.class_rows)


class Board:
    """Holds the snapshot on show and tells when it changes."""

    changed = Signal(PanelState)
    failed = Signal(str)
    """Something could not be done; the text says what to do about it."""

    def __init__(self, state: PanelState) -> None:
        self.state = state

    def update(self, **fields: Any) -> None:
        """Show other values; the panel is drawn anew even when nothing differs."""
        self.state = replace(self.state, **fields)
        self.changed(self.state)

    def say(self, text: str, kind: StatusKind = "info", *, guide: bool = True) -> None:
        """Say what happened, or is happening ("busy"); the hint follows by itself."""
        self.update(said=text, status_kind=kind, guided=guide)

    def fail(self, error: Exception) -> None:
        """Show an error; nothing else changes."""
        text = str(error)
        if not isinstance(error, NapariSamError):
            logger.error("unexpected error", exc_info=error)
            text = f"{type(error).__name__}: {error}"
        text = as_sentence(text)
        self.say(text, "error")
        self.failed(text)


def as_sentence(text: str) -> str:
    """Begin with a capital, unless the text begins with a name.

    Examples
    --------
    >>> as_sentence("only negative points"), as_sentence("cells.pth cannot be read")
    ('Only negative points', 'cells.pth cannot be read')
    """
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text
