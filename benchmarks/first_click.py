"""How long the first click takes, and what it is made of.

Run it from a checkout::

    python benchmarks/first_click.py --model nano --repeats 10
    python benchmarks/first_click.py --model sam_vit_b --json > result.json

Times are medians of several runs in one process; compare rows of one run, because
machines and their load differ. The budgets are ratios or differences within the run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.models.protocol import PromptableModel

SIDE = 20_000
"""Side of the large image, in pixels."""
CORNER = (9_000, 11_000)
"""Where the large image holds pixels; elsewhere it is empty."""
COIN = (43, 334)
"""(y, x) of the middle of a coin in scikit-image's picture of coins."""
COINS = (303, 384)
"""(height, width) of that picture."""


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name, file, or 'toy'")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()

    rows: list[dict[str, Any]] = [*imports(given.repeats)]
    start = time.perf_counter()
    model = load(given.model, given.device)
    rows.append(row("load model", [time.perf_counter() - start]))
    rows += parts(model, given.repeats)
    with tempfile.TemporaryDirectory() as folder:
        rows += large_image(model, Path(folder), given.repeats)
    result = {
        "model": model.spec.name,
        "device": model.device,
        "machine": f"{platform.machine()}, {platform.system()}",
        "rows": rows,
    }
    print(json.dumps(result, indent=2) if given.json else table(result))


def load(name: str, device: str) -> PromptableModel:
    """Load a model; "toy" needs no weights."""
    if name == "toy":
        from napari_sam.testing import ToyModel

        return ToyModel()
    from napari_sam import load_model

    return load_model(name, device=device)


def imports(repeats: int) -> list[dict[str, Any]]:
    """Time ``import napari_sam`` beyond the interpreter, in fresh processes."""
    code = (
        "import time; t = time.perf_counter(); import napari_sam; "
        "print(time.perf_counter() - t)"
    )
    runs = [
        float(subprocess.check_output([sys.executable, "-c", code]))
        for _ in range(repeats)
    ]
    return [row("import napari_sam", runs, budget_ms=200.0)]


def parts(model: PromptableModel, repeats: int) -> list[dict[str, Any]]:
    """Time encoder, decoder and a click whose embedding is there."""
    import napari_sam as ns
    from napari_sam.core.prompts import WindowPrompts

    side = model.spec.input_side
    image = tile(side)
    batch = np.repeat(image[None, ..., None], 3, axis=3)
    embedding = model.encode(batch)[0]
    center = np.array([[side / 2, side / 2]], np.float32)
    one = WindowPrompts(points=center, point_labels=np.array([1]))
    encode = timed(lambda: model.encode(batch), repeats)
    decode = timed(lambda: model.decode(embedding, one), repeats)
    many = timed(lambda: model.decode_many(embedding, [one] * 64), max(1, repeats // 2))

    session = ns.Session(image, model, embeddings=False)
    spots = iter(np.linspace(side * 0.4, side * 0.6, repeats + 2))
    click = timed(
        lambda: session.segment(session.new_object(), points=[(next(spots), side / 2)]),
        repeats,
    )
    return [
        row(f"encode {side} x {side}", encode),
        row("decode 1 prompt", decode),
        row("decode 64 prompts", many),
        row(
            "click to mask, embedding there", click,
            budget_ms=1000 * statistics.median(decode) + 50,
        ),
    ]  # fmt: skip


def large_image(
    model: PromptableModel, folder: Path, repeats: int
) -> list[dict[str, Any]]:
    """Time opening a large zarr and the first click on it, each time anew."""
    import zarr

    import napari_sam as ns

    path = folder / "large.zarr"
    array = zarr.create_array(
        path, shape=(SIDE, SIDE), chunks=(512, 512), dtype="uint8", fill_value=0
    )
    side = model.spec.input_side
    size = 4 * side
    pixels = tile(size)
    area = tuple(slice(c, c + size) for c in CORNER)
    array[area] = pixels
    coin = zip(CORNER, COINS, COIN, strict=True)
    click = tuple(c + n * (size // (2 * n)) + p for c, n, p in coin)
    batch = np.repeat(pixels[None, :side, :side, None], 3, axis=3)
    encode = timed(lambda: model.encode(batch), repeats)
    opened, first, sharp = [], [], []
    for run in range(repeats):
        start = time.perf_counter()
        session = ns.Session(path, model, embeddings=folder / f"{run}.nsam-emb")
        middle = time.perf_counter()
        prompts = ns.Prompts.of(points=[click])
        request = session.set_prompts(1, ns.Plane.of(session.volume.shape), prompts)
        results = session.iter_run(request)
        session.accept(next(results))
        opened.append(middle - start)
        first.append(time.perf_counter() - middle)
        for result in results:
            session.accept(result)
        sharp.append(time.perf_counter() - middle)
    budget = 1000 * statistics.median(encode) + 150
    return [
        row(f"open {SIDE} x {SIDE} zarr", opened),
        row("first click on it, mask shown", first, budget_ms=budget),
        row("first click on it, outline sharp", sharp),
    ]


def tile(side: int) -> np.ndarray:
    """(side, side) uint8: coins, repeated."""
    import skimage.data

    coins = skimage.data.coins()
    tiles = -(-side // min(coins.shape))
    return np.ascontiguousarray(np.tile(coins, (tiles, tiles))[:side, :side])


def timed(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each run, after one that does not count."""
    work()
    out = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        out.append(time.perf_counter() - start)
    return out


def row(
    what: str, seconds: list[float], budget_ms: float | None = None
) -> dict[str, Any]:
    """One line of the table."""
    return {
        "what": what,
        "median_ms": round(1000 * statistics.median(seconds), 2),
        "best_ms": round(1000 * min(seconds), 2),
        "runs": len(seconds),
        "budget_ms": None if budget_ms is None else round(budget_ms, 2),
    }


def table(result: dict[str, Any]) -> str:
    """Lay the rows out as Markdown."""
    lines = [
        f"{result['model']} on {result['device']} ({result['machine']})",
        "",
        "| what | median ms | best ms | runs | budget ms | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for r in result["rows"]:
        budget = r["budget_ms"]
        verdict = "" if budget is None else "ok" if r["median_ms"] <= budget else "over"
        lines.append(
            f"| {r['what']} | {r['median_ms']:.1f} | {r['best_ms']:.1f} | {r['runs']} "
            f"| {'' if budget is None else f'{budget:.0f}'} | {verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
