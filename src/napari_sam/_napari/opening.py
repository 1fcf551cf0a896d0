"""What runs in the worker before the first mask: weights, libraries, a session."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam._napari import autosave
from napari_sam._napari.label_pyramid import LabelPyramid, is_huge
from napari_sam._napari.preferences import preferences
from napari_sam._napari.state import ModelChoice
from napari_sam.core.masks import LabelPatch, crop_mask
from napari_sam.core.planes import Plane
from napari_sam.errors import SessionLockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam._napari.state import StatusKind
    from napari_sam.models.protocol import PromptableModel
    from napari_sam.session import Session
    from napari_sam.volume.volume import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a session is to be made of."""

    volume: Volume
    model: str
    labels: Any = None
    """Labels to continue, or None for new ones."""
    name: str = "image"
    """Name of the image, for the folder that keeps every change."""
    path: str | None = None
    """Folder of a saved session to open instead of a new one."""
    returning: bool = False
    """Whether `labels` were shown with that session, and may be newer."""
    keep: str | None = None
    """Folder to keep a new session in; None: one among those of the widget."""


def model_choices() -> tuple[ModelChoice, ...]:
    """Every model known by name, for the list in the panel."""
    from napari_sam.models.registry import list_models

    return tuple(ModelChoice(m.name, m.where, m.license) for m in list_models())


def first_model(preferred: str) -> str:
    """Return the model a panel begins with: nano where the preferred is not here."""
    here = {m.name for m in model_choices() if m.where == "here"}
    return preferred if preferred in here or Path(preferred).is_file() else "nano"


def download_notice(name: str) -> str:
    """What to read before a model is downloaded; "" when nothing has to be."""
    from napari_sam.models.registry import list_models

    known = next((m for m in list_models() if m.name == name), None)
    return "" if known is None or known.cached or not known.url else known.notice


def fetch_by_hand(name: str) -> str:
    """What to do for weights that only a person may fetch; "" for others."""
    from napari_sam.models.registry import list_models

    known = next((m for m in list_models() if m.name == name), None)
    if known is None or known.where != "fetch by hand":
        return ""
    return f"{known.by_hand}. {known.notice}"


def load_model(name: str) -> PromptableModel:
    """Load a model by name or path, without holding up the other threads for long."""
    preload_torch()
    from napari_sam.models.registry import load_model as load

    model = load(name, device=preferences().device)
    leave_a_core()
    return model


def leave_a_core() -> None:
    """Keep one core for the GUI, unless somebody chose torch's threads already.

    Lowering the worker's priority instead would not do: a worker that waits for a core
    while it holds the interpreter's lock keeps the GUI waiting too.
    """
    torch = sys.modules.get("torch")
    cores = os.cpu_count() or 1
    if torch is None or "OMP_NUM_THREADS" in os.environ:
        return
    if torch.get_num_threads() >= cores > 1:
        torch.set_num_threads(cores - 1)


def download(name: str) -> Iterator[tuple[int, int]]:
    """Fetch a model's weights; yields (megabytes so far, megabytes in all)."""
    from napari_sam.models.registry import accept_license
    from napari_sam.models.registry import download as fetch

    accept_license(name)  # who got here has agreed to the notice
    for done, total in fetch(name):
        yield round(done / 1e6), round(total / 1e6)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session and what the annotation needs to know of its labels."""

    session: Session
    highest: int
    """Largest value in its labels."""
    pyramid: LabelPyramid | None = None
    """For planes too large to be drawn whole."""
    unsaved: str = ""
    """Why its changes are not kept; "" when they are."""
    fresh: bool = False
    """Whether it was begun now."""
    copied: bool = False
    """Whether it is a copy of one that another process has open."""
    foreign: bool = False
    """Whether it goes on belonging to whoever gave it."""


def open_session(wanted: Wanted, load: Callable[[str], PromptableModel]) -> Opened:
    """Make or open a session; takes seconds, so call it in the worker."""
    model = load(wanted.model)
    from napari_sam.session import Session

    unsaved, copied = "", False
    if wanted.path is not None:
        given: dict[str, Any] = {"volume": wanted.volume, "model": model}
        try:
            session = Session.load(wanted.path, **given)
        except SessionLockedError:
            session = Session.load(wanted.path, read_only=True, **given)
            unsaved, copied = autosave.keep(session, wanted.name), True
        if wanted.returning and isinstance(wanted.labels, np.ndarray):
            take_over(session, wanted.labels)
    else:
        session = Session(wanted.volume, model, labels=wanted.labels)
        unsaved = autosave.keep(session, wanted.name, wanted.keep)
    labels = session.labels
    filled = wanted.path is not None or wanted.labels is not None
    highest = highest_label(labels) if filled else 0
    huge = is_huge(labels.shape)
    pyramid = LabelPyramid(labels, fill=highest > 0) if huge else None
    fresh = wanted.path is None
    return Opened(session, highest, pyramid, unsaved, fresh, copied)


def told(made: Opened, image: str) -> tuple[str, StatusKind] | None:
    """What to say of a session that is open now, and how; None for a new one."""
    session = made.session
    if session.differing:
        return (
            "This session was made on another image of the same size "
            f"({', '.join(session.differing)}): its masks may not fit this one."
        ), "error"
    if made.copied:
        return (
            "This session is open in another window or process: you go on with a copy "
            "of it."
        ), "info"
    if made.fresh and autosave.others(image, session):
        return (
            "Ready. Earlier work on an image of this name was kept: Open…, under "
            "Results, continues it."
        ), "info"
    if made.fresh or made.foreign or not session.objects:
        return None
    return f"The session is open: {len(session.objects)} object(s).", "info"


def saved_model(path: str) -> tuple[str | None, str]:
    """Model that a saved session was made with, as far as it can be loaded here.

    Returns
    -------
    name : str or None
        Name or path; None where there is none to load.
    missing : str
        Its name where its weights are not here; else "".
    """
    try:
        head = json.loads((Path(path) / "session.json").read_text())
        name = str(head["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""  # opening it says what is wrong
    family, _, file = name.partition(":")
    if name in {m.name for m in model_choices()}:
        return (None, name) if download_notice(name) else (name, "")
    return (name, "") if Path(file or family).exists() else (None, short(name))


def take_over(session: Session, labels: np.ndarray) -> None:
    """Take in what was painted in a Labels layer while its session was closed."""
    session.make_room(int(labels.max(initial=0)))
    for index in np.ndindex(labels.shape[:-2]):
        was = np.array(session.labels[index])
        now = labels[index].astype(was.dtype)
        (y0, x0, y1, x1), _ = crop_mask(was != now)
        if y1 > y0:
            box = slice(y0, y1), slice(x0, x1)
            patch = LabelPatch(Plane(index), (y0, x0, y1, x1), was[box], now[box])
            patch.write(session.labels)
            session.record_paint(patch)


def highest_label(labels: Any, rows: int = 1024) -> int:
    """Largest value in an array of labels, read a block at a time."""
    if labels.ndim > 2:
        return max((highest_label(labels[i]) for i in range(len(labels))), default=0)
    starts = range(0, len(labels), rows)
    return max((int(np.max(labels[y : y + rows])) for y in starts), default=0)


def short(name: str) -> str:
    """Name of a model, or the last part of a checkpoint's path."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def preload_torch() -> None:
    """Map torch's big libraries into the process before it is imported.

    ``import torch`` maps them while it holds the interpreter's lock, and every other
    thread stands still for 0.3 to 0.5 s. A foreign call gives the lock away meanwhile;
    the import then finds them there.
    """
    if "torch" in sys.modules or sys.platform == "win32":
        return
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    folder = Path(spec.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_int]
    for name in ("torch_cpu", "torch_cuda"):
        library = folder / f"lib{name}.{suffix}"
        if library.exists() and not dlopen(os.fsencode(library), os.RTLD_NOW):
            logger.debug("could not load %s ahead of torch", library)
