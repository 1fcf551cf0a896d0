"""Embed an image of 2048 x 2048 with ViT-B, tile by tile, here and in micro-sam.

Full resolution only: clicks far out need coarser levels here, too, a third more for
large images. Both write to a zarr store, each with the tiles it advises: here 1024
pixels, of which neighbours share a quarter, there 512 with a halo of 64, which
micro-sam enlarges to the 1024 that the encoder takes. Same seeded weights; each in a
process of its own.

    python benchmarks/against_micro_sam.py               # some minutes
    python benchmarks/against_micro_sam.py --side 1024   # to see that it runs

Needs micro-sam (``pip install micro-sam``) and segment-anything (in the dev extra);
torchvision is stood in for where it is missing. Times are elapsed seconds, with torch's
own choice of threads. Prints one line each, and one JSON line for machines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=1, help="of each, in turns")
    parser.add_argument("--who", choices=list(EMBED), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.who is not None:
        print(json.dumps(EMBED[args.who](args.side, args.work)))
        return
    results: dict[str, list[dict[str, float]]] = {who: [] for who in EMBED}
    for _ in range(args.runs):
        for who, found in results.items():
            with tempfile.TemporaryDirectory() as work:
                command = [
                    sys.executable, __file__, "--side", str(args.side),
                    "--who", who, "--work", work,
                ]  # fmt: skip
                print(f"{who} ...", file=sys.stderr, flush=True)
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {w: float(np.median([r["s"] for r in f])) for w, f in results.items()}
    for who, found in results.items():
        n = found[0]["encodings"]
        print(
            f"{who}: {seconds[who]:.1f} s, {n} encodings, {seconds[who] / n:.2f} each"
        )
    print(f"ratio: {seconds['micro-sam'] / seconds['napari-sam']:.2f}")
    print(json.dumps({"side": args.side, **results}))


def picture(side: int) -> np.ndarray:
    """A photograph, repeated."""
    from skimage import data

    coins = data.coins()
    times = [-(-side // n) for n in coins.shape]
    return np.tile(coins, times)[:side, :side].copy()


def with_micro_sam(side: int, work: Path) -> dict[str, float]:
    import importlib.util

    from reference_sam import VIT_B, _torchvision, reference_sam

    sam = reference_sam(VIT_B)
    if importlib.util.find_spec("torchvision") is None:
        sys.modules.update(_torchvision())
    from micro_sam import util

    predictor = util.SamPredictor(sam)
    predictor.model_type = predictor.model_name = "vit_b"
    predictor._hash = "of random weights"
    n = counted(sam.image_encoder)
    began = time.perf_counter()
    util.precompute_image_embeddings(
        predictor, picture(side), save_path=str(work / "theirs.zarr"), ndim=2,
        tile_shape=(512, 512), halo=(64, 64), verbose=False,
    )  # fmt: skip
    return {"s": time.perf_counter() - began, "encodings": n[0]}


def with_napari_sam(side: int, work: Path) -> dict[str, float]:
    import torch
    from reference_sam import VIT_B, reference_sam

    from napari_sam import encode_volume, load_model, open_volume

    torch.save(reference_sam(VIT_B).state_dict(), work / "vit_b.pth")
    model: Any = load_model(work / "vit_b.pth", device="cpu")
    n = counted(model.network.image_encoder)
    volume = open_volume(picture(side))
    began = time.perf_counter()
    for _ in encode_volume(volume, model, store=work / "ours.zarr", levels=[0]):
        pass
    return {"s": time.perf_counter() - began, "encodings": n[0]}


def counted(encoder: Any) -> list[int]:
    """Count the images that an encoder is given."""
    n = [0]

    def note(_: Any, args: tuple[Any, ...], __: Any) -> None:
        n[0] += len(args[0])

    encoder.register_forward_hook(note)
    return n


EMBED = {"micro-sam": with_micro_sam, "napari-sam": with_napari_sam}


if __name__ == "__main__":
    main()
