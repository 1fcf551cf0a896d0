"""Whether size costs anything: first clicks, memory, a second worker.

Run it from a checkout, on a quiet machine::

    python benchmarks/any_size.py --model nano
    python benchmarks/any_size.py --model toy --only clicks memory --json

Images are sparse zarr arrays, with real pictures where they are looked at. Budgets
are ratios within one run: a click on the largest image may take 1.2 times one on the
smallest, and one encoding and 150 ms; memory may grow by 1.2; a second worker must
give 1.8 times the tiles.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.models.protocol import PromptableModel

# One thread, here and in the workers: two workers on two cores are compared with one.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

CLICKED = (20_000, 100_000)
"""Sides of the images that are clicked on."""
EMBEDDED = (10_000, 50_000)
"""Sides of the images whose embedding is watched."""
SLICES = ("finest", "coarsest")
"""What is embedded of them: some tiles of level 0, and the one of the last level."""
COIN = (43, 334)
"""(y, x) of the middle of a coin in scikit-image's picture of coins."""
CHUNK = 1024


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name, file, or 'toy'")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=24, help="for memory and workers")
    parts = ("clicks", "memory", "workers")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--embed", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.embed:
        print(json.dumps(peak_memory(given.model, given.embed, given.tiles)))
        return
    result: dict[str, Any] = {"model": given.model}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "clicks" in given.only:
            result["clicks"] = clicks(load(given.model), folder, given.repeats)
        if "memory" in given.only:
            result["memory"] = memory(given.model, folder, given.tiles)
        if "workers" in given.only:
            result["workers"] = workers(load(given.model), folder, given.tiles)
    print(json.dumps(result, indent=2) if given.json else text(result))


def load(name: str) -> PromptableModel:
    """Load a model on the CPU; "toy" needs no weights."""
    if name == "toy":
        from napari_sam.testing import ToyModel

        return ToyModel(512)
    from napari_sam import load_model

    return load_model(name, device="cpu")


def picture() -> np.ndarray:
    """Real pixels, (1024, 1024) uint8: coins over and over, and a photograph."""
    from skimage import data

    coins = data.coins()
    wide = np.tile(coins, (4, 3))[:CHUNK, :CHUNK].copy()
    wide[512:, 512:] = data.camera()
    return wide


def image(path: Path, side: int, corners: list[tuple[int, int]]) -> Path:
    """Write a sparse image with 3 x 3 pictures at each corner, unless it is there."""
    import zarr

    if not path.exists():
        array = zarr.create_array(
            path, shape=(side, side), dtype="uint8", chunks=(CHUNK, CHUNK), fill_value=0
        )
        pixels = picture()
        for y, x in corners:
            for i in range(3):
                for j in range(3):
                    a, b = y + i * CHUNK, x + j * CHUNK
                    h, w = min(CHUNK, side - a), min(CHUNK, side - b)
                    array[a : a + h, b : b + w] = pixels[:h, :w]
    return path


# -- first clicks --------------------------------------------------------------------


def clicks(model: PromptableModel, folder: Path, repeats: int) -> dict[str, Any]:
    """Open and click at places never seen; one encoding alone for comparison."""
    encoded = counted(model)
    window = np.repeat(picture()[:512, :512, None], 3, axis=2)[None]
    model.encode(window)
    out: dict[str, Any] = {"encode_s": median(timed(model.encode, window, repeats))}
    for side in CLICKED:
        step = (side - 4 * CHUNK) // repeats // CHUNK * CHUNK
        corners = [(i * step, (repeats - 1 - i) * step) for i in range(repeats)]
        path = image(folder / f"{side}.zarr", side, corners)
        times: dict[str, list[float]] = {"open_s": [], "click_s": [], "encodings": []}
        for corner in corners:
            for name, value in one_click(path, model, corner, encoded).items():
                times[name].append(value)
        out[str(side)] = {name: median(values) for name, values in times.items()}
    small, large = (out[str(side)]["click_s"] for side in CLICKED)
    out["largest_over_smallest"] = large / small
    out["beyond_one_encoding_s"] = large - out["encode_s"]
    return out


def one_click(
    path: Path, model: PromptableModel, corner: tuple[int, int], encoded: list[int]
) -> dict[str, float]:
    """Time opening an image, and the first mask of a coin in it."""
    from napari_sam import Session, open_volume

    start = time.perf_counter()
    volume = open_volume(path)
    session = Session(volume, model, embeddings=False)
    _ = volume.intensity
    opened = time.perf_counter()
    before = len(encoded)
    # One picture further in, so that no edge of the image is near.
    y, x = (c + CHUNK + p for c, p in zip(corner, COIN, strict=True))
    found = session.segment(points=[(y, x)])
    done = time.perf_counter()
    assert found[0].area > 0, "the coin was not found"
    return {
        "open_s": opened - start,
        "click_s": done - opened,
        "encodings": len(encoded) - before,
    }


def counted(model: Any) -> list[int]:
    """Note every encoding of a model in the list returned."""
    calls: list[int] = []
    encode = model.encode

    def noting(batch: np.ndarray) -> Any:
        calls.append(len(batch))
        return encode(batch)

    model.encode = noting
    return calls


# -- memory --------------------------------------------------------------------------


def memory(model: str, folder: Path, tiles: int) -> dict[str, Any]:
    """Peak memory of embedding a slice of a level, each in a process of its own.

    The slice is the first tiles of level 0, and the coarsest level, for which every
    pixel of the image is read. Growth is that of the peak beyond the loaded model.
    """
    out: dict[str, Any] = {"tiles": tiles}
    for side in EMBEDDED:
        path = image(folder / f"{side}.zarr", side, [(0, 0), (0, 3 * CHUNK)])
        for what in SLICES:
            command = [
                sys.executable, __file__, "--model", model, "--tiles", str(tiles),
                "--embed", str(path), what,
            ]  # fmt: skip
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            out[f"{side} {what}"] = json.loads(run.stdout)
    small, large = ([out[f"{side} {w}"] for w in SLICES] for side in EMBEDDED)
    out["growth"] = max(
        b["beyond_model_mb"] / a["beyond_model_mb"]
        for a, b in zip(small, large, strict=True)
    )
    return out


def peak_memory(name: str, what: list[str], tiles: int) -> dict[str, float]:
    """Embed a slice in this process; megabytes at the peak, and what that adds."""
    from napari_sam import encode_volume, open_volume
    from napari_sam.embeddings.source import grid_for

    path, level = what
    model = load(name)
    loaded, _ = memory_mb()
    # A whole tile: the coarsest level of one image may be larger than of the other.
    side = model.spec.input_side
    model.encode(np.zeros((1, side, side, 3), np.uint8))
    _, one_tile = memory_mb()
    volume = open_volume(path)
    levels = [0 if level == "finest" else grid_for(volume, model).n_levels - 1]
    with tempfile.TemporaryDirectory() as folder:
        steps = encode_volume(volume, model, Path(folder) / "emb", levels=levels)
        done = last(steps, tiles)
    _, peak = memory_mb()
    return {
        "tiles": done,
        "peak_mb": peak,
        "beyond_model_mb": peak - loaded,
        "beyond_one_tile_mb": peak - one_tile,
    }


def memory_mb() -> tuple[float, float]:
    """Memory held now, and at the peak (Linux; elsewhere the peak, twice)."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return peak, peak
    # Not getrusage: its peak includes that of the process that started this one.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, peak = (float(lines[k].split()[0]) / 1e3 for k in ("VmRSS", "VmHWM"))
    return now, peak


# -- workers -------------------------------------------------------------------------


def workers(model: PromptableModel, folder: Path, tiles: int) -> dict[str, Any]:
    """Tiles a second with one and with two worker processes of one thread each.

    On busy cores only the processor time of a tile says something: where it is the
    same for two workers as for one, nothing but the cores keeps them from 2.0.
    """
    from napari_sam import encode_volume, open_volume
    from napari_sam.embeddings.distribute import connect

    # A worker that finishes first waits for the other's last task.
    per_side = max(3, round((4 * tiles) ** 0.5))
    grid = model.spec.input_side, model.spec.input_side * 3 // 4
    side = grid[0] + grid[1] * (per_side - 1)
    corners = [(y, x) for y in range(0, side, 3 * CHUNK) for x in range(0, side, 3072)]
    volume = open_volume(image(folder / f"workers {side}.zarr", side, corners))
    model = plain(model)
    rates, spent = [], []
    for n in (1, 2):
        with connect(workers=n) as client:
            client.wait_for_workers(n)
            # Every worker loads the model before the clock starts.
            *_, _ = encode_volume(
                volume, model, folder / f"warm {n}", levels=[1], client=client
            )
            start, before = time.perf_counter(), client.run(time.process_time)
            *_, (done, _) = encode_volume(
                volume, model, folder / f"emb {n}", levels=[0], client=client
            )
            rates.append(done / (time.perf_counter() - start))
            after = client.run(time.process_time)
            spent.append(sum(after[k] - before[k] for k in before) / done)
    return {
        "tiles": done,
        "tiles_per_s": rates,
        "cpu_s_per_tile": spent,
        "second_worker": rates[1] / rates[0],
    }


def plain(model: Any) -> Any:
    """Take `counted` back, so that the model can be described to workers."""
    model.__dict__.pop("encode", None)
    return model


def last(steps: Iterator[tuple[int, int]], tiles: int) -> int:
    """Run until so many tiles are there, or all; return how many."""
    done = 0
    for done, _ in steps:
        if done >= tiles:
            break
    return done


def timed(call: Any, argument: Any, repeats: int) -> list[float]:
    """Seconds of each of several calls."""
    out = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(argument)
        out.append(time.perf_counter() - start)
    return out


def median(values: list[float]) -> float:
    """Middle value."""
    return float(statistics.median(values))


def text(result: dict[str, Any], indent: str = "") -> str:
    """Values for people."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", text(value, indent + "  ")]
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else value
            lines.append(f"{indent}{name:<{26 - len(indent)}} {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
