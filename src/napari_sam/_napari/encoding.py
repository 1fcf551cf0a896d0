"""Embedding ahead of clicks: what the view shows by itself, everything when asked."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam._napari.workers import BACKGROUND
from napari_sam.embeddings.encode import encode_queue
from napari_sam.embeddings.scheduler import EncodingQueue, Pace, Viewport
from napari_sam.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_sam._napari.annotation import Annotation
    from napari_sam._napari.state import Board, EncodingState
    from napari_sam._napari.workers import Jobs
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.engine.engine import Engine
    from napari_sam.session import Session

KEY = "embed"
"""Key of the one job that embeds."""
STILL_S = 0.15
"""Seconds for which the view has to stay where it is before it is embedded."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far the work is."""

    done: int
    total: int
    workers: str | None = None
    """What is known of a cluster's workers; None where this process does the work."""
    place: str = ""
    """Where the embeddings are kept, in words."""


class Encoding:
    """Decides what is embedded in the background, and shows how far it is.

    Everything here runs on the main thread, except what it gives to `jobs`.

    Parameters
    ----------
    board : Board
    jobs : Jobs
    """

    agreement_wanted = Signal(str)
    """Embedding everything reads this much from a server: call `start(agreed=True)`."""

    def __init__(self, board: Board, jobs: Jobs) -> None:
        self.board = board
        self.jobs = jobs
        self._annotation: Annotation | None = None
        self._queue: EncodingQueue | None = None
        self._looked: Viewport | None = None
        self._pace = Pace()

    @property
    def state(self) -> EncodingState:
        """What the panel shows of it."""
        return self.board.state.encoding

    def use(self, annotation: Annotation | None) -> None:
        """Work on another image or none."""
        self.stop()
        self._annotation = annotation
        remote = annotation is not None and _is_remote(annotation.volume.source)
        self._show(ahead=not remote, remote=remote)

    def renew(self) -> None:
        """Go on with another session, model or intensity window."""
        going = self.state.phase == "all"
        self.stop()
        if going:
            self.start(agreed=True)
        else:
            self.look()

    def look(self) -> None:
        """Follow the view: what it shows comes first from now on."""
        view = None if self._annotation is None else self._annotation.view
        if view is None or self._session is None:
            return
        if self._queue is None or self._queue.axis != view.plane.axis:
            going = self.state.phase == "all"
            self.stop()
            self._queue = self._new_queue(view)
            if going:
                self.start(agreed=True)
        self._queue.look(view)
        if view != self._looked and self.state.phase == "idle":
            self._looked = view
            if self.state.ahead:
                self._submit(everything=False)

    def set_ahead(self, ahead: bool) -> None:
        """Embed what the view shows without being asked, or no longer."""
        self._show(ahead=ahead)
        self._looked = None
        if ahead:
            self.look()
        elif self.state.phase == "idle":
            self.stop()

    def start(self, *, agreed: bool = False) -> None:
        """Embed every plane along the shown axis, in the order of the view.

        Reading a whole image from a server is started only once that was agreed to.
        """
        annotation, session = self._annotation, self._session
        plane = None if annotation is None else annotation.plane
        if annotation is None or session is None or plane is None:
            return
        if self.state.remote and not agreed:
            self.agreement_wanted(_bill(session, plane.axis))
            return
        if self._queue is None or self._queue.axis != plane.axis:
            self._queue = self._new_queue(annotation.view or Viewport(plane))
        self._show(phase="all", seconds_left=None)
        self.board.say(
            "Embedding, what you look at first. You can go on clicking meanwhile.",
            "busy",
        )
        self._submit(everything=True)

    def pause(self) -> None:
        """Stop for now; `start` goes on where it was."""
        if self.state.phase == "all":
            self.jobs.cancel(KEY)
            self._pace.rest()
            self._show(phase="paused", seconds_left=None)
            self.board.say("Paused; what is embedded is kept.")

    def stop(self) -> None:
        """Stop, and forget what was wanted; what is embedded is kept."""
        self.jobs.cancel(KEY)
        self._queue = None
        self._looked = None
        self._pace.rest()
        self._show(phase="idle", done=0, total=0, seconds_left=None)

    def use_scheduler(self, address: str) -> None:
        """Embed everything on the workers of a dask scheduler; "": on this computer."""
        address = address.strip()
        if address == self.state.scheduler:
            return
        going = self.state.phase == "all"
        self._show(scheduler=address, workers="looking for workers…" if address else "")
        if going:
            self.jobs.cancel(KEY)
            self._submit(everything=True)
        elif address:
            self.jobs.submit(
                "workers",
                lambda _: _ask_workers(address),
                lambda found: self._show(workers=found),
                self._on_no_scheduler,
                priority=BACKGROUND,
            )

    # -- inside ----------------------------------------------------------------------

    @property
    def _session(self) -> Session | None:
        return None if self._annotation is None else self._annotation.session

    def _new_queue(self, view: Viewport) -> EncodingQueue:
        assert self._session is not None
        engine, axis = self._session.engine, view.plane.axis

        def present(plane: int) -> Any:
            store = engine.stores(axis)
            if store is None:
                return ()
            if engine.volume.is_remote:  # compared with the image when it is used
                return store.numbers(plane)
            return store.checked_numbers(plane)  # the others are compared on the way

        return EncodingQueue.of(engine.volume, engine.model, present, view)

    def _submit(self, *, everything: bool) -> None:
        session, queue = self._session, self._queue
        assert session is not None and queue is not None
        engine = session.engine  # another model or mapping is another engine
        if everything != queue.everything:
            queue.everything = everything
        address = self.state.scheduler if everything else ""

        def work(cancelled: Callable[[], bool]) -> Iterator[Step]:
            return _steps(engine, queue, address, cancelled)

        self.jobs.submit(
            KEY,
            work,
            lambda _: self._on_done(everything),
            self._on_failed,
            progress=self._on_step,
            priority=BACKGROUND,
        )

    def _on_step(self, step: Step) -> None:
        self.look()
        if step.place != self.state.place:
            self._show(place=step.place)
        if step.workers is not None and step.workers != self.state.workers:
            self._show(workers=step.workers)
        if self.state.phase == "all":
            self._pace.note(step.done, time.monotonic())
            left = self._pace.seconds_left(step.total)
            self._show(done=step.done, total=step.total, seconds_left=left)

    def _on_done(self, everything: bool) -> None:
        if not everything:
            self.look()  # it may have moved just now
            return
        self._show(phase="idle", done=0, total=0, seconds_left=None)
        self._looked = None if self._queue is None else self._queue.view
        self.board.say("All planes are embedded: clicks are answered at once.")

    def _on_failed(self, error: Exception) -> None:
        if self.state.phase == "all":
            self._pace.rest()
            self._show(phase="paused", seconds_left=None)
        else:  # clicks still keep their embeddings in memory
            self._show(ahead=False)
        self.board.fail(error)

    def _on_no_scheduler(self, error: Exception) -> None:
        self._show(workers="no scheduler answers there")
        self.board.fail(error)

    def _show(self, **fields: Any) -> None:
        new = replace(self.state, **fields)
        if new != self.state:  # drawing the panel takes milliseconds
            self.board.update(encoding=new)


def _steps(
    engine: Engine,
    queue: EncodingQueue,
    address: str,
    cancelled: Callable[[], bool],
) -> Iterator[Step]:
    """Encode what a queue wants; runs in a worker."""
    if not queue.everything:
        time.sleep(STILL_S)  # a view that goes on moving cancels this work
        if cancelled():
            return
    store = engine.stores(queue.axis)
    if store is None or not store.writable:
        if not queue.everything:
            return
        raise StoreError(
            "embeddings cannot be kept: the user's cache cannot be written. Set "
            "NAPARI_SAM_CACHE to a folder that can"
        )
    place = _place(store)
    if queue.everything:
        _check_room(engine, store, queue.axis)
    source = engine.source
    if not address:
        for done, total in encode_queue(source, store, queue, cancel=cancelled):
            yield Step(done, total, place=place)
        return
    from napari_sam.embeddings.distribute import connect

    with connect(address) as client:
        for done, total in encode_queue(
            source, store, queue, client=client, cancel=cancelled
        ):
            yield Step(done, total, describe_workers(client), place)


def _place(store: EmbeddingStore) -> str:
    """Where embeddings are kept, in words."""
    from pathlib import Path

    from napari_sam.embeddings.cache import cache_folder, cache_limit

    if store.max_bytes is not None:
        return (
            "The embeddings of this image are kept in memory: how it was opened does "
            "not tell which file it is. napari-sam view, or File › Open with its "
            "reader, keeps them for the next time."
        )
    where, limit = Path(str(store.path)), cache_limit()
    if cache_folder() not in where.parents:
        return f"Embeddings are kept in {where}."
    most = "without a limit" if limit is None else f"at most {_size(limit)} in all"
    return f"Embeddings are kept in your cache, {cache_folder()} ({most})."


def _check_room(engine: Engine, store: EmbeddingStore, axis: int) -> None:
    """Refuse to embed what would push itself out again."""
    from napari_sam.embeddings.cache import cache_limit, in_cache
    from napari_sam.embeddings.estimate import estimate_encoding

    limit = store.max_bytes
    place = "an image in memory keeps in memory: save it to a file and open that"
    if limit is None and in_cache(store.path):
        limit = cache_limit()
        place = "the cache may take: set NAPARI_SAM_CACHE_LIMIT to more"
    wanted = estimate_encoding(engine.volume, engine.model, axis=axis).disk_bytes
    if limit is not None and wanted > limit:
        raise StoreError(
            f"embeddings of all planes take {_size(wanted)}, more than the "
            f"{_size(limit)} that {place}. What you look at is embedded as before"
        )


def _ask_workers(address: str) -> str:
    from napari_sam.embeddings.distribute import connect

    with connect(address) as client:
        return describe_workers(client)


def describe_workers(client: Any) -> str:
    """Return how many workers a `distributed.Client` has, and on which machines."""
    try:
        info = client.scheduler_info(n_workers=-1)
    except TypeError:  # before distributed 2025 it told of all without being asked
        info = client.scheduler_info()
    workers = info["workers"].values()
    if not workers:
        return "no workers yet: start some with `dask worker ADDRESS`"
    threads = sum(int(w["nthreads"]) for w in workers)
    hosts = sorted({str(w.get("host", "?")) for w in workers})
    shown = ", ".join(hosts[:3]) + (", …" if len(hosts) > 3 else "")
    some = f"{len(workers)} worker{'s' * (len(workers) > 1)}"
    return f"{some}, {threads} thread{'s' * (threads > 1)} on {shown}"


def duration(seconds: float) -> str:
    """Time that is left, for people."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _is_remote(source: str | None) -> bool:
    from napari_sam.core.urls import is_url

    return source is not None and is_url(source)


def _bill(session: Session, axis: int) -> str:
    """What embedding everything takes from a server."""
    from napari_sam.embeddings.estimate import estimate_encoding

    volume = session.volume
    estimate = estimate_encoding(volume, session.model, axis=axis)
    pixels = 1
    for n in volume.shape:
        pixels *= int(n)
    size = pixels * volume.n_channels * volume.dtype.itemsize
    return (
        f"{volume.name} is on a server. Embedding all of it reads about "
        f"{_size(1.8 * size)} from there, uncompressed, and keeps "
        f"{estimate.tiles:,} tiles of {_size(estimate.bytes_per_tile)} on this "
        "computer. Reading may cost money, and can be paused at any moment. Start?"
    )


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
