"""What storing embeddings costs: precision lost to float16, bytes and time by codec.

Run it from a checkout::

    python benchmarks/storage.py --model nano

Masks of float16 features are compared with those of the encoder's own float32, for
clicks and boxes on real pictures. Codecs are compared with storing plain bytes, in
turns, so that other work on the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.core.embedding import Embedding
    from napari_sam.models.protocol import PromptableModel


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="name or file")
    parser.add_argument("--side", type=int, default=512, help="of the pictures")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    from napari_sam import load_model

    model = load_model(given.model, device="cpu")
    embeddings = [
        (name, model.encode(pixels[None])[0]) for name, pixels in pictures(given.side)
    ]
    result = {"model": given.model, "float16": loss(model, embeddings)}
    result["codecs"] = codecs([e for _, e in embeddings], given.repeats)
    print(json.dumps(result, indent=2))


def pictures(side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Real pictures that scikit-image brings, (side, side, 3) uint8."""
    from skimage import data, transform

    for name in ("coins", "cell", "immunohistochemistry", "retina", "camera", "moon"):
        pixels = getattr(data, name)()
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        small = transform.resize(
            pixels, (side, side), preserve_range=True, anti_aliasing=True
        )
        yield name, np.rint(small).astype(np.uint8)


# -- precision -----------------------------------------------------------------------


def loss(
    model: PromptableModel, embeddings: list[tuple[str, Embedding]]
) -> dict[str, Any]:
    """Compare masks of rounded features with those of the encoder's own."""
    from napari_sam.core.masks import mask_iou
    from napari_sam.core.prompts import WindowPrompts

    ious, logits, ranks = [], [], 0
    for _, exact in embeddings:
        rounded = replace(
            exact,
            features={k: v.astype(np.float16) for k, v in exact.features.items()},
        )
        h, w = exact.original_size
        for y, x in np.random.default_rng(0).uniform(0.2, 0.8, (8, 2)) * (h, w):
            point = WindowPrompts(points=np.array([[y, x]]), point_labels=np.array([1]))
            box = WindowPrompts(box=(y - h / 8, x - w / 8, y + h / 8, x + w / 8))
            for prompts in (point, box):
                a, b = (model.decode(e, prompts) for e in (exact, rounded))
                ranks += a[0].bbox != b[0].bbox
                for one, other in zip(a, matched(a, b), strict=True):
                    ious.append(mask_iou(one.full((h, w)), other.full((h, w))))
                    diff = np.abs(one.low_res_logits - other.low_res_logits)
                    logits.append(float(diff.max()))
    return {
        "masks": len(ious),
        "iou_mean": float(np.mean(ious)),
        "iou_lowest_percent": float(np.percentile(ious, 1)),
        "iou_min": min(ious),
        "logit_difference_median": statistics.median(logits),
        "logit_difference_max": max(logits),
        "best_mask_of_another_box": int(ranks),
    }


def matched(a: list[Any], b: list[Any]) -> list[Any]:
    """`b` in the order of `a`: candidates of near equal score may change places."""

    def nearest(one: Any) -> Any:
        return min(
            b, key=lambda o: float(np.abs(o.low_res_logits - one.low_res_logits).mean())
        )

    return [nearest(one) for one in a]


# -- codecs --------------------------------------------------------------------------


def codecs(embeddings: list[Embedding], repeats: int) -> dict[str, dict[str, float]]:
    """Bytes, and seconds to write and to read, over those of plain bytes."""
    from zarr.codecs import BloscCodec, ZstdCodec

    kinds: dict[str, Any] = {
        "plain": None,
        "zstd 1": ZstdCodec(level=1),
        "blosc lz4, bit shuffle": BloscCodec(cname="lz4", shuffle="bitshuffle"),
        "blosc zstd 1, bit shuffle": BloscCodec(
            cname="zstd", clevel=1, shuffle="bitshuffle"
        ),
        "blosc zstd 5, byte shuffle": BloscCodec(
            cname="zstd", clevel=5, shuffle="shuffle"
        ),
    }
    features = [
        {k: v.astype(np.float16) for k, v in e.features.items()} for e in embeddings
    ]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(repeats):
            tile = features[turn % len(features)]
            for kind, codec in kinds.items():
                folder = Path(name) / f"{kind} {turn}"
                taken[kind].append(write_and_read(folder, tile, codec))
                files = (f for f in folder.rglob("*") if f.name.isdecimal())
                sizes[kind] = sizes.get(kind, 0) + sum(f.stat().st_size for f in files)
    plain = taken["plain"]
    return {
        kind: {
            "bytes": sizes[kind] / sizes["plain"],
            "write": middle(t[0] / p[0] for t, p in zip(times, plain, strict=True)),
            "read": middle(t[1] / p[1] for t, p in zip(times, plain, strict=True)),
        }
        for kind, times in taken.items()
    }


def write_and_read(
    folder: Path, tile: dict[str, np.ndarray], codec: Any
) -> tuple[float, float]:
    """Write a tile's features, one chunk each, and read them back; seconds of both."""
    import zarr

    group = zarr.create_group(folder)
    arrays = {
        k: group.create_array(
            k, shape=v.shape, chunks=v.shape, dtype=v.dtype, compressors=codec
        )
        for k, v in tile.items()
    }
    start = time.process_time()
    for k, values in tile.items():
        arrays[k][...] = values
    written = time.process_time()
    for array in arrays.values():
        array[...]
    return written - start, time.process_time() - written


def middle(values: Iterator[float]) -> float:
    """Median."""
    return float(statistics.median(values))


if __name__ == "__main__":
    main()
