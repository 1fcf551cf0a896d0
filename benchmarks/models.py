"""SAM and MobileSAM here and in their authors' code: time, peak memory, difference.

Both run the same seeded weights, read from one checkpoint file, each in a process of
its own, so that peak memory is theirs alone.

    python benchmarks/models.py                   # ViT-B; several minutes on two cores
    python benchmarks/models.py --size tiny       # seconds, to see that it runs
    python benchmarks/models.py --threads 0 --prompts 1 64

Needs segment-anything (in the dev extra); torchvision is stood in for. The row of
MobileSAM's encoder compares where the package mobile_sam, from its authors' repository,
can be imported, and gives our time alone elsewhere. The authors' decoder gets 64
prompts at a time, as their mask generator does it. Times are CPU seconds and, in
brackets, elapsed ones; the best of some runs. One thread unless asked:
CPU seconds of one thread hardly depend on what else the machine does, while threads
that wait for each other burn them. Prints a table, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))

BUDGETS = {"encoder": 1.7, "decoder": 2.0, "memory": 2.0}
"""Least ratio of theirs to ours."""
AT_ONCE = 64


def main() -> None:
    args = parse()
    if args.part is not None:
        print(json.dumps(run_part(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        measure(args, work, "weights", "reference")
        parts = ["encoder", *(f"decoder {n}" for n in args.prompts), "mobile"]
        results = {}
        for part in parts:
            both = part != "mobile" or has_mobile_sam()
            whose = ("reference", "ours") if both else ("ours",)
            results[part] = {who: measure(args, work, part, who) for who in whose}
            if both:
                results[part]["difference"] = difference(work, part)
        results["click"] = {"ours": measure(args, work, "click", "ours")}
    show(results)
    print(json.dumps({"size": args.size, "threads": args.threads, **results}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["vit_b", "tiny"], default="vit_b")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 4, 16, 64, 1024])
    parser.add_argument("--threads", type=int, default=1, help="0: torch's choice")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--who", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace, work: Path, part: str, who: str) -> Any:
    """Run one part in a process of its own."""
    command = [
        sys.executable, __file__, "--size", args.size, "--threads", str(args.threads),
        "--part", part, "--who", who, "--work", str(work),
    ]  # fmt: skip
    print(f"{who}: {part} ...", file=sys.stderr, flush=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_part(args: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    weights = args.work / "weights.pth"
    if args.part == "weights":
        from test_mobile_sam import official_state

        torch.save(reference(args.size).state_dict(), weights)
        small = args.size == "tiny"
        torch.save(official_state("tiny" if small else "full"), mobile_file(args.work))
        return {}
    part, _, count = args.part.partition(" ")
    build = {"reference": reference_calls, "ours": our_calls}[args.who]
    n = int(count or 1)
    call = build(args.size, weights)[part](n)
    runs = 1 if n > 64 else {"encoder": 2, "click": 5}.get(part, 3)
    with torch.inference_mode():
        result, found = best_of(call, runs)
    if found is not None:
        np.save(args.work / f"{args.who}_{args.part}.npy", found.numpy())
    return {**result, "peak_mb": peak_mb()}


def best_of(call: Callable[[], Any], n: int) -> tuple[dict[str, float], Any]:
    cpu_s, wall_s, found = [], [], None
    for _ in range(n):
        cpu, wall = time.process_time(), time.perf_counter()
        found = call()
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    return {"cpu_s": min(cpu_s), "wall_s": min(wall_s)}, found


def peak_mb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def reference(size: str) -> Any:
    from reference_sam import TINY, VIT_B, reference_sam

    return reference_sam({"tiny": TINY, "vit_b": VIT_B}[size])


def inputs(side: int, channels: int, prompts: int) -> tuple[Any, Any, Any, Any]:
    """Frame, embedding, points (P, 1, 2) and labels (P, 1), always the same."""
    import torch

    draw = torch.Generator().manual_seed(0)
    frame = torch.randn(1, 3, side, side, generator=draw)
    embedding = torch.randn(channels, side // 16, side // 16, generator=draw)
    points = torch.rand(prompts, 1, 2, generator=draw) * side
    return frame, embedding, points, torch.ones(prompts, 1)


def reference_calls(size: str, weights: Path) -> dict[str, Any]:
    import torch

    sam = reference(size)
    sam.load_state_dict(torch.load(weights, weights_only=True))
    side = sam.image_encoder.img_size
    channels = sam.prompt_encoder.embed_dim

    def encoder(_: int) -> Callable[[], Any]:
        frame = inputs(side, channels, 1)[0]
        return lambda: sample(sam.image_encoder(frame)[0])

    def decoder(n: int) -> Callable[[], Any]:
        _, embedding, points, labels = inputs(side, channels, n)

        def masks(xy: Any, one: Any) -> Any:
            sparse, dense = sam.prompt_encoder((xy, one), None, None)
            found, _ = sam.mask_decoder(
                image_embeddings=embedding[None],
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            return sample(found.flatten(0, 1))

        def call() -> Any:
            some = zip(points.split(AT_ONCE), labels.split(AT_ONCE), strict=True)
            return torch.cat([masks(xy, one) for xy, one in some])

        return call

    def mobile(_: int) -> Callable[[], Any]:
        from mobile_sam import sam_model_registry

        sam = sam_model_registry["vit_t"](str(mobile_file(weights.parent)))
        sam.train()
        encoder = sam.eval().image_encoder  # once more: see docs/models.md
        frame = inputs(1024, 256, 1)[0]
        return lambda: sample(encoder(frame)[0])

    return {"encoder": encoder, "decoder": decoder, "mobile": mobile}


def our_calls(size: str, weights: Path) -> dict[str, Any]:
    import numpy as np
    import torch

    from napari_sam.core.prompts import WindowPrompts
    from napari_sam.models.decoder import PromptBatch
    from napari_sam.models.registry import load_model

    model: Any = load_model(weights, device="cpu")
    side = model.spec.input_side
    channels = model.spec.feature_shapes["image_embedding"][0]

    def encoder(_: int) -> Callable[[], Any]:
        frame = inputs(side, channels, 1)[0]
        return lambda: sample(model.network.encode(frame)["image_embedding"][0])

    def decoder(n: int) -> Callable[[], Any]:
        _, embedding, points, labels = inputs(side, channels, n)

        def call() -> Any:
            image = model.network.prepare({"image_embedding": embedding})
            masks = [
                sample(
                    model.network.decode(
                        image, PromptBatch(xy[None], one[None]), multimask_output=True
                    )[0][0]
                )
                for xy, one in zip(points, labels, strict=True)
            ]
            return torch.cat(masks)

        return call

    def click(_: int) -> Callable[[], Any]:
        window = np.random.RandomState(0).randint(0, 256, (1, side, side, 3))
        embedding = model.encode(window.astype(np.uint8))[0]
        prompts = WindowPrompts(np.array([[side / 2, side / 2]]), np.array([1]))

        def call() -> None:
            model.decode(embedding, prompts)

        return call

    def mobile(_: int) -> Callable[[], Any]:
        small: Any = load_model(mobile_file(weights.parent), device="cpu")
        frame = inputs(1024, 256, 1)[0]
        return lambda: sample(small.network.encode(frame)["image_embedding"][0])

    return {"encoder": encoder, "decoder": decoder, "click": click, "mobile": mobile}


def mobile_file(work: Path) -> Path:
    return work / "mobile.pth"


def has_mobile_sam() -> bool:
    command = [sys.executable, "-c", "import mobile_sam"]
    return subprocess.run(command, capture_output=True).returncode == 0


def sample(found: Any) -> Any:
    """A part of the values, to compare: (N, h, w) -> (N, h / 4, w / 8)."""
    return found[:, ::4, ::8].clone()


def difference(work: Path, part: str) -> float:
    import numpy as np

    theirs, ours = (np.load(work / f"{w}_{part}.npy") for w in ("reference", "ours"))
    return float(np.abs(theirs - ours).max())


def show(results: dict[str, Any]) -> None:
    print("| part | theirs, s | ours, s | ratio | peak, MB | ratio | max difference |")
    print("|---|---|---|---|---|---|---|")
    for part, found in results.items():
        if "reference" not in found:
            print(f"| {part} | | {seconds(found['ours'])} | | | | |")
            continue
        theirs, ours = found["reference"], found["ours"]
        faster, smaller = (theirs[k] / ours[k] for k in ("cpu_s", "peak_mb"))
        print(
            f"| {part} | {seconds(theirs)} | {seconds(ours)} | {faster:.2f} | "
            f"{theirs['peak_mb']:.0f} / {ours['peak_mb']:.0f} | {smaller:.2f} | "
            f"{found['difference']:.1e} |"
        )
    wanted = ", ".join(f"{k} >= {v}" for k, v in BUDGETS.items())
    print(f"Budgets (ViT-B): {wanted}; differences <= 1e-4 encoder, 5e-5 decoder.")


def seconds(found: dict[str, float]) -> str:
    return f"{found['cpu_s']:.3f} ({found['wall_s']:.3f})"


if __name__ == "__main__":
    main()
