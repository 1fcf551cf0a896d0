"""What accepting, sharpening and undoing cost the thread that calls.

Everything else (compressing, writing, syncing) is the journal's thread's. Objects are
discs in a square image; masks are given, so no model runs.

Run with ``python benchmarks/session.py [--side 4096 8192] [--repeats 9]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.core.masks import MaskCandidate, crop_mask
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Window
from napari_sam.engine.prediction import Prediction
from napari_sam.session import Result, Session
from napari_sam.testing import ToyModel

if TYPE_CHECKING:
    from collections.abc import Callable


def disc(side: int, radius: float) -> MaskCandidate:
    """A round mask in the middle of a square."""
    y, x = np.ogrid[:side, :side]
    mask = (y - side / 2) ** 2 + (x - side / 2) ** 2 < radius**2
    bbox, cropped = crop_mask(mask)
    return MaskCandidate(bbox, cropped, 0.9, 0.9, np.zeros((4, 4), np.float32))


def measure(side: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of each, with a session on the disk.

    ``_cpu``: of the calling thread alone, as a busy machine does not change it.
    """
    coarse, sharp = disc(side, 0.45 * side), disc(side, 0.452 * side)
    taken: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], object]) -> None:
        start, cpu = time.perf_counter(), time.thread_time()
        call()
        cpu = time.thread_time() - cpu
        taken.setdefault(what, []).append(1000 * (time.perf_counter() - start))
        taken.setdefault(f"{what}_cpu", []).append(1000 * cpu)

    with tempfile.TemporaryDirectory() as folder:
        session = Session(
            np.zeros((side, side), np.uint8), ToyModel(64), embeddings=False,
            path=Path(folder) / "a.nsam",
        )  # fmt: skip
        session.labels[:] = 1  # touched once, as a session at work has them
        session.labels[:] = 0
        for _ in range(repeats):
            prompts = Prompts.of(points=[(side / 2, side / 2)])
            request = session.set_prompts(1, Plane(()), prompts)

            def accept(found: MaskCandidate, request: object = request) -> None:
                whole = Window(0, 0, 0, side, side)
                answer = Prediction(prompts, (found,), whole, (0,))  # noqa: B023
                session.accept(Result(request, answer))  # type: ignore[arg-type]

            timed("accept", lambda a=accept: a(coarse))
            time.sleep(0.5)
            timed("sharper", lambda a=accept: a(sharp))
            time.sleep(0.5)
            timed("undo", session.undo)
            timed("redo", session.redo)
            session.delete_object(1)
            session.flush()
        journal = Path(session.path or "", "journal.bin").stat().st_size
        session.close()
    out = {what: round(statistics.median(ms), 1) for what, ms in taken.items()}
    return {"Mpx": round(coarse.area / 1e6, 1), **out, "journal_kB": journal // 1000}


def main() -> None:
    """Print one line of JSON a size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    for side in given.side:
        print(json.dumps(measure(side, given.repeats)))


if __name__ == "__main__":
    main()
