"""Everything at once: beside SAM's own generator, and a slider over 10 000 proposals.

    python benchmarks/everything.py                  # ViT-B, 32 x 32 points: minutes
    python benchmarks/everything.py --size tiny --points 8   # to see that it runs
    python benchmarks/everything.py --only slider

Both run the same seeded weights on the same picture, each in a process of its own, so
that peak memory is theirs alone; weights are scaled so that masks are objects. One
thread, CPU seconds. Needs segment-anything (in the dev extra). The slider moves a
threshold over candidates of 10 000 cells in 64 tiles: what is measured is choosing and
joining, not drawing. Prints tables, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))

BUDGETS = {"faster": 3.0, "less memory": 2.0, "slider_ms": 100.0}
OPTIONS = {"pred_iou_thresh": 0.65, "stability_score_thresh": 0.3}
CELLS = 10_000


def main() -> None:
    args = parse()
    if args.who is not None:
        print(json.dumps(run(args)))
        return
    results: dict[str, Any] = {}
    if args.only != "slider":
        for who in ("reference", "ours"):
            results[who] = measure(args, who)
        theirs, ours = results["reference"], results["ours"]
        print("| | theirs | ours | ratio | budget |\n|---|---|---|---|---|")
        for what, budget in (("cpu_s", "faster"), ("peak_mb", "less memory")):
            ratio = theirs[what] / ours[what]
            print(
                f"| {what} | {theirs[what]:.1f} | {ours[what]:.1f} | {ratio:.2f} | "
                f">= {BUDGETS[budget]} |"
            )
        print(f"| masks | {theirs['masks']} | {ours['masks']} | | within 2 % |")
    if args.only != "sam":
        results["slider"] = slider()
        print(
            f"slider: {results['slider']['proposals']} proposals of "
            f"{results['slider']['candidates']} candidates, worst of 9 thresholds "
            f"{results['slider']['worst_ms']:.0f} ms "
            f"(budget {BUDGETS['slider_ms']:.0f})"
        )
    print(json.dumps({"size": args.size, "points": args.points, **results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["vit_b", "tiny"], default="vit_b")
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--only", choices=["sam", "slider"])
    parser.add_argument("--who", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace, who: str) -> Any:
    """Run one side in a process of its own."""
    command = [
        sys.executable, __file__, "--size", args.size, "--points", str(args.points),
        "--who", who,
    ]  # fmt: skip
    print(f"{who} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(args: argparse.Namespace) -> dict[str, Any]:
    import resource

    import skimage.data
    import torch
    from reference_sam import TINY, VIT_B, reference_sam, with_objects

    torch.set_num_threads(1)
    image = skimage.data.astronaut()
    network = with_objects(reference_sam({"tiny": TINY, "vit_b": VIT_B}[args.size]))
    work = theirs if args.who == "reference" else ours
    call = work(network, image, args.points)
    del network
    start, wall = time.process_time(), time.perf_counter()
    masks = call()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "masks": masks,
        "cpu_s": time.process_time() - start,
        "wall_s": time.perf_counter() - wall,
        "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
    }


def theirs(network: Any, image: Any, points: int) -> Any:
    from reference_sam import import_segment_anything

    kind = import_segment_anything().SamAutomaticMaskGenerator
    generator = kind(network, points_per_side=points, **OPTIONS)
    return lambda: len(generator.generate(image))


def ours(network: Any, image: Any, points: int) -> Any:
    from test_sam_parity import ours as model_of

    from napari_sam.core.planes import Plane
    from napari_sam.engine.engine import Engine
    from napari_sam.engine.propose import propose
    from napari_sam.engine.propose_options import parted
    from napari_sam.engine.select import select
    from napari_sam.volume.opening import open_volume

    model = model_of(network)
    asked, chosen = parted(
        OPTIONS | {"points_per_side": points, "least_stability_score": 0.3}
    )
    engine = Engine.of(open_volume(image), model)
    return lambda: len(list(select(propose(engine, Plane(()), asked), chosen)))


def slider() -> dict[str, float]:
    """Move a threshold over candidates of many cells, each seen in up to four tiles."""
    import numpy as np

    from napari_sam.core.planes import Plane
    from napari_sam.core.tiles import TileGrid
    from napari_sam.engine.candidates import Candidates, PackedMask
    from napari_sam.engine.propose_options import SelectOptions
    from napari_sam.engine.select import select

    rng = np.random.default_rng(0)
    n = round(CELLS**0.5)
    grid = TileGrid((n * 40, n * 40), 640, 160, 1)
    at = (np.indices((n, n)).reshape(2, -1).T + 0.5) * 40 + rng.integers(
        -6, 7, (n * n, 2)
    )
    ys, xs = np.mgrid[-12:13, -12:13]
    disc = np.hypot(ys, xs) <= 12
    parts, scores = [], rng.uniform(0.5, 1, n * n)
    for tile in grid.tiles(0):
        w = tile.window
        local = (at - (w.y0, w.x0)).astype(int)
        inside = np.flatnonzero(((local >= -6) & (local < (w.h + 6, w.w + 6))).all(1))
        boxes, masks, cuts, whose = [], [], [], []
        for k in inside:
            y, x = local[k]
            a0, b0, a1, b1 = (
                max(y - 12, 0),
                max(x - 12, 0),
                min(y + 13, w.h),
                min(x + 13, w.w),
            )
            crop = disc[a0 - y + 12 : a1 - y + 12, b0 - x + 12 : b1 - x + 12]
            if not crop.any():
                continue
            for _ in range(2):  # and a second mask, a little worse
                boxes.append(w.box_to_plane((a0, b0, a1, b1)))
                masks.append(PackedMask.of((a0, b0, a1, b1), crop))
                cuts.append((a0 == 0 and w.y0 > 0, b0 == 0 and w.x0 > 0,
                             a1 == w.h, b1 == w.w))  # fmt: skip
                whose.append(k)
        m = len(masks)
        iou = scores[whose] - 0.01 * (np.arange(m) % 2)
        areas = np.array([np.count_nonzero(p.mask) for p in masks], float)
        parts.append(
            Candidates(
                Plane(()), grid.shape, (w,), (tile.core,), False, np.zeros(m, np.int32),
                tuple(masks), bboxes=np.array(boxes, float), areas=areas,
                predicted_iou=iou, stability_score=np.ones(m), cut=np.array(cuts),
                near_edge=np.zeros(m, bool), points=at[whose].astype(float),
                choice=np.zeros(m, np.int32), scores=iou[:, None],
                likeness=np.ones(m), free=np.ones(m), own_areas=areas,
            )
        )  # fmt: skip
    candidates = Candidates.together(parts)
    start = time.process_time()
    proposals = len(select(candidates, SelectOptions(pred_iou_thresh=0.0)))
    first = time.process_time() - start
    times = []
    for threshold in np.linspace(0.1, 0.9, 9):
        start = time.process_time()
        select(candidates, SelectOptions(pred_iou_thresh=float(threshold)))
        times.append(time.process_time() - start)
    return {
        "proposals": proposals, "candidates": len(candidates), "first_s": first,
        "worst_ms": max(times) * 1000,
    }  # fmt: skip


if __name__ == "__main__":
    main()
