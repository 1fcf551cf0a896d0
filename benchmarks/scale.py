"""Time and memory of clicks at any scale: background, discs, and large boxes.

Run ``python benchmarks/scale.py`` with ``--only background``, ``discs`` or ``boxes``.
IoU is with the truth; times are of this machine, with whatever else it does.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time

import numpy as np

import napari_sam as ns
from napari_sam.core.masks import mask_iou
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import iter_predict, predict
from napari_sam.engine.refine import refine
from napari_sam.testing import ToyModel

PLANE = Plane(())


def disc(size: int, diameter: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image (size, size) uint8 of a disc in its middle, and the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:size, :size]
    middle = (size - 1) / 2
    distance = np.hypot(y - middle, x - middle, dtype=np.float32)
    image = 80 + 75 * np.clip((diameter / 2 - distance) / 2 + 0.5, 0, 1)
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), distance < diameter / 2


def background(size: int = 50_000) -> None:
    """Click on the background of a black image of which nothing is on the disk."""
    import zarr

    image = zarr.create_array(
        f"{tempfile.mkdtemp()}/black", shape=(size, size), chunks=(2048, 2048),
        dtype="u1", fill_value=0,
    )  # fmt: skip
    session = ns.Session(image, ToyModel(256), embeddings=False)
    session.segment(1, points=[(100, 100)])  # what is imported late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    session.segment(2, points=[(size // 2, size // 2)])
    seconds = time.perf_counter() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"background of {size}^2: {seconds:.2f} s, {grown / 1024:.0f} MB more")


def discs() -> None:
    """Click on discs of 40 to 2 000 px in images of 512 to 8 192 px."""
    model = ns.load_model("nano")
    for size in (512, 1024, 2048, 4096, 8192):
        for diameter in (40, 100, 280, 400, 800, 2000):
            if diameter > 0.9 * size:
                continue
            image, truth = disc(size, diameter)
            engine = Engine.of(ns.open_volume(image), model)
            prompts = Prompts.of(points=[(size // 2, size // 2)])
            start = time.perf_counter()
            answers = list(iter_predict(engine, prompts, PLANE))
            seconds = time.perf_counter() - start
            ious = [mask_iou(a.chosen.full(truth.shape), truth) for a in answers]
            shown = ", then ".join(f"{iou:.3f}" for iou in ious)
            print(f"disc of {diameter} px in {size}^2: IoU {shown} in {seconds:.2f} s")


def boxes() -> None:
    """Sharpen the masks of boxes around discs of 900 to 2 800 px."""
    model = ns.load_model("nano")
    for size, diameter in ((1400, 900), (2000, 1400), (3600, 2800)):
        image, truth = disc(size, diameter)
        low, high = (size - diameter) // 2 - 3, (size + diameter) // 2 + 3
        engine = Engine.of(ns.open_volume(image), model)
        start = time.perf_counter()
        found = predict(engine, Prompts.of(box=(low, low, high, high)), PLANE)
        coarse = time.perf_counter() - start
        *_, sharp = (found, *refine(engine, found, PLANE))
        seconds = time.perf_counter() - start
        ious = [mask_iou(p.chosen.full(truth.shape), truth) for p in (found, sharp)]
        print(
            f"box around {diameter} px: coarse {coarse:.2f} s, IoU {ious[0]:.4f}; "
            f"final {seconds:.2f} s, IoU {ious[1]:.4f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["background", "discs", "boxes"])
    chosen = parser.parse_args().only
    for name, run in (("background", background), ("discs", discs), ("boxes", boxes)):
        if chosen in (None, name):
            run()
