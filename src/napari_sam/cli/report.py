"""What commands say: text for people, JSON for machines, progress, time."""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_sam.models.protocol import PromptableModel


@dataclass
class Report:
    """Collects what a command did; prints it as it happens, or as JSON at the end."""

    as_json: bool
    data: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Tell people; silent when JSON is asked for."""
        if not self.as_json:
            print(text, flush=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[dict[str, Any]]:
        """Time a step; its line tells what ``detail`` it was given."""
        step: dict[str, Any] = {}
        start = time.perf_counter()
        yield step
        step["seconds"] = round(time.perf_counter() - start, 3)
        detail = step.get("detail", "")
        self.say(f"  {what:<9}{_seconds(step['seconds']):>9}  {detail}".rstrip())

    def finish(self) -> None:
        """Print the JSON, where asked for."""
        if self.as_json:
            print(json.dumps(self.data, indent=2))


LINE_EVERY_S = 30.0
"""How often a log is told how far a command is."""


def bar(what: str, **options: Any) -> Any:
    """Give a tqdm bar on stderr; where that is no terminal, a line now and then.

    Logs of jobs and of CI get nothing in the first half minute, then a line every half
    minute, without a bar.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        return tqdm(desc=what, file=sys.stderr, leave=False, **options)

    class Lines(tqdm):  # type: ignore[misc]
        """Writes whole lines, where a bar would return to the line's start."""

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            line = str(self) if msg is None else msg
            if line:
                print(line, file=self.fp, flush=True)

    if "bar_format" in options:
        options["bar_format"] = options["bar_format"].replace("|{bar}|", "")
    return Lines(
        desc=what, file=sys.stderr, leave=False, ncols=0, delay=LINE_EVERY_S,
        mininterval=LINE_EVERY_S, maxinterval=LINE_EVERY_S, miniters=1, **options,
    )  # fmt: skip


def progress(steps: Iterable[tuple[int, int]], what: str, unit: str) -> tuple[int, int]:
    """Show ``(done, total)`` as a bar on stderr; return the last."""
    steps = iter(steps)
    # The first step tells the total: a bar without one says nothing.
    last = next(steps, (0, 0))
    with bar(what, total=last[1] or None, unit=unit, unit_scale=unit == "B") as shown:
        for done, total in itertools.chain([last], steps):
            shown.total = total or None
            shown.update(done - shown.n)
            last = (done, total)
    return last


def load_with_progress(
    name: str, device: str, precision: str = "float32"
) -> PromptableModel:
    """Load a model; before a download, show what it is and its licence."""
    from napari_sam.models.registry import (
        accept_license,
        download,
        list_models,
        load_model,
    )

    known = {m.name: m for m in list_models()}.get(name)
    if known is not None and not known.cached and known.url:
        print(known.notice, file=sys.stderr)
        accept_license(name)
        progress(download(name), name, "B")
    return load_model(name, device=device, precision=precision)


def megabytes(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """Time that work will take, for people."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
