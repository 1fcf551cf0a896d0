"""SAM and MobileSAM here and in their authors' code: time, peak memory, difference.

Both run the same seeded weights, read from one checkpoint file, each in a process of
its own, so that peak memory is theirs alone.

    python benchmarks/models.py                   # all: about a quarter of an hour
    python benchmarks/models.py --size tiny --prompts 1 4   # to see that it runs
    python benchmarks/models.py --threads 0 --prompts 1 64
    python benchmarks/models.py --mobile-sam ~/MobileSAM   # a checkout of its authors'

Needs segment-anything (in the dev extra); torchvision and timm are stood in for where
they are missing. MobileSAM stands beside its authors' code where that can be imported,
or is given as a checkout of github.com/ChaoningZhang/MobileSAM, and alone elsewhere.
Prompts are decoded in slices: 64 at a time by the authors' code, as their mask
generator does it and because its memory grows with each, and one at a time by ours, as
it does on a CPU. Times are CPU seconds and, in brackets, elapsed ones; the best of some
runs, of one where that takes minutes. One thread unless asked: CPU seconds of one
thread hardly depend on what else the machine does, while threads that wait for each
other burn them. Prints a table, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import importlib.util
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
"""Prompts that the authors' code gets at a time."""
MOBILE = "MobileSAM"


def main() -> None:
    args = parse()
    if args.mobile_sam:
        sys.path.insert(0, str(args.mobile_sam))
    if args.part is not None:
        print(json.dumps(run_part(args)))
        return
    both = has_mobile_sam(args.mobile_sam)
    if args.mobile_sam and not both:
        sys.exit(f"no package mobile_sam in {args.mobile_sam}: give its checkout")
    counts = [n for n in args.prompts if n <= AT_ONCE]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        measure(args, work, "weights", "reference")
        parts = ["encoder", *(f"decoder {n}" for n in args.prompts)]
        parts += [f"{MOBILE} encoder", *(f"{MOBILE} decoder {n}" for n in counts)]
        results = {}
        for part in parts:
            alone = part.startswith(MOBILE) and not both
            whose = ("ours",) if alone else ("reference", "ours")
            results[part] = {who: measure(args, work, part, who) for who in whose}
            if not alone:
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
    parser.add_argument(
        "--mobile-sam", type=Path, help="a checkout of MobileSAM's repository"
    )
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
    if args.mobile_sam:
        command += ["--mobile-sam", str(args.mobile_sam)]
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
        torch.save(official_state("full"), mobile_file(args.work))
        return {}
    part, mobile = args.part.removeprefix(f"{MOBILE} "), args.part.startswith(MOBILE)
    part, _, count = part.partition(" ")
    n = int(count or 1)
    model = model_of(args.who, args.size, args.work, mobile=mobile)
    call = CALLS[args.who, part](model, n)
    runs = 1 if n > AT_ONCE else {"encoder": 2, "click": 5}.get(part, 2 + (n < 64))
    with torch.inference_mode():
        result, found = best_of(call, runs)
    if found is not None:
        np.save(saved(args.work, args.who, args.part), found.numpy())
    return {**result, "peak_mb": peak_mb()}


def model_of(who: str, size: str, work: Path, *, mobile: bool) -> Any:
    """The network under test, from the file that both read."""
    import torch

    path = mobile_file(work) if mobile else work / "weights.pth"
    if who == "ours":
        from napari_sam.models.registry import load_model

        return load_model(path, device="cpu")
    state = torch.load(path, weights_only=True)
    if mobile:
        from reference_sam import reference_mobile_sam

        return reference_mobile_sam(state)
    sam = reference(size)
    sam.load_state_dict(state)
    return sam


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


def their_encoder(sam: Any, _: int) -> Callable[[], Any]:
    side, channels = sam.image_encoder.img_size, sam.prompt_encoder.embed_dim
    frame = inputs(side, channels, 1)[0]
    return lambda: sample(sam.image_encoder(frame)[0])


def their_decoder(sam: Any, n: int) -> Callable[[], Any]:
    import torch

    side, channels = sam.image_encoder.img_size, sam.prompt_encoder.embed_dim
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


def our_encoder(model: Any, _: int) -> Callable[[], Any]:
    frame = inputs(*sizes(model), 1)[0]
    return lambda: sample(model.network.encode(frame)["image_embedding"][0])


def our_decoder(model: Any, n: int) -> Callable[[], Any]:
    import torch

    from napari_sam.models.sam.decoder import PromptBatch

    _, embedding, points, labels = inputs(*sizes(model), n)
    decode = model.network.decode

    def masks(image: Any, xy: Any, one: Any) -> Any:
        prompt = PromptBatch(xy[None], one[None])
        return sample(decode(image, prompt, multimask_output=True)[0][0])

    def call() -> Any:
        image = model.network.prepare({"image_embedding": embedding})
        some = zip(points, labels, strict=True)
        return torch.cat([masks(image, xy, one) for xy, one in some])

    return call


def our_click(model: Any, _: int) -> Callable[[], Any]:
    import numpy as np

    from napari_sam.core.prompts import WindowPrompts

    side = model.spec.input_side
    window = np.random.RandomState(0).randint(0, 256, (1, side, side, 3))
    embedding = model.encode(window.astype(np.uint8))[0]
    prompts = WindowPrompts(np.array([[side / 2, side / 2]]), np.array([1]))

    def call() -> None:
        model.decode(embedding, prompts)

    return call


CALLS = {
    ("reference", "encoder"): their_encoder,
    ("reference", "decoder"): their_decoder,
    ("ours", "encoder"): our_encoder,
    ("ours", "decoder"): our_decoder,
    ("ours", "click"): our_click,
}


def sizes(model: Any) -> tuple[int, int]:
    """Side of the frame, channels of the embedding."""
    return model.spec.input_side, model.spec.feature_shapes["image_embedding"][0]


def mobile_file(work: Path) -> Path:
    return work / "mobile.pth"


def has_mobile_sam(checkout: Path | None) -> bool:
    if checkout is not None:
        return (checkout / "mobile_sam" / "__init__.py").is_file()
    return importlib.util.find_spec("mobile_sam") is not None


def saved(work: Path, who: str, part: str) -> Path:
    return work / f"{who}_{part.replace(' ', '_')}.npy"


def sample(found: Any) -> Any:
    """A part of the values, to compare: (N, h, w) -> (N, h / 4, w / 8)."""
    return found[:, ::4, ::8].clone()


def difference(work: Path, part: str) -> float:
    import numpy as np

    theirs, ours = (np.load(saved(work, w, part)) for w in ("reference", "ours"))
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
    print(f"Prompts: theirs {AT_ONCE} at a time at most, ours one at a time.")
    wanted = ", ".join(f"{k} >= {v}" for k, v in BUDGETS.items())
    print(f"Budgets (ViT-B): {wanted}; differences <= 1e-4 encoder, 5e-5 decoder.")


def seconds(found: dict[str, float]) -> str:
    return f"{found['cpu_s']:.3f} ({found['wall_s']:.3f})"


if __name__ == "__main__":
    main()
