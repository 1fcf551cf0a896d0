"""How well an object is carried from key planes through a volume, and how fast.

::

    pip install nilearn            # its wheel brings the MNI152 template
    python benchmarks/volumes.py                      # brain structures and a phantom
    python benchmarks/volumes.py --data ct_abdomen.npz  # any (z, y, x) image and labels
    python benchmarks/volumes.py --speed              # 64 planes of 512 x 512

Truths are made here from the template's tissue maps, with the thresholds below: brain
(T1 > 0.25, filled), the right lateral ventricle (neither tissue > 0.3, opened once),
left putamen and right caudate (grey matter > 0.5 in a box, opened twice). Keys are true
masks at 1/6, 1/2 and 5/6 of an object's planes (``--keys 5``: at 1/6, 1/3 and so on),
or what the model makes of their boxes (``--own``). Printed for each: Dice of the whole
object by interpolation alone, and by propagation; then the area under the ROC curve of
`doubt` for planes whose Dice is under 0.7, and seconds a plane.

``--speed``: a ball in 64 planes of 512 x 512 is followed from its middle, embeddings
being there; the time a plane, that of the model's decoder in it, and the rest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.engine.engine import Engine
from napari_sam.engine.predict import predict
from napari_sam.engine.propagate import PropagateOptions, propagate
from napari_sam.models.registry import load_model
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

Case = tuple[str, np.ndarray, np.ndarray]
BAD = 0.7


def phantom() -> Case:
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:60, :160, :160]
    image = rng.normal(60, 6, z.shape)
    there = (
        ((z - 30) / 24) ** 2
        + ((y - 80 - 0.4 * (z - 30)) / 38) ** 2
        + ((x - 75 + 0.3 * (z - 30)) / 30) ** 2
    ) < 1
    beside = ((z - 30) / 28) ** 2 + ((y - 40) / 16) ** 2 + ((x - 125) / 18) ** 2 < 1
    image[beside] += 40
    image[there] = rng.normal(140, 8, there.sum())
    return "phantom", image.clip(0, 255).astype(np.uint8), there


def template() -> Iterator[Case]:
    """Structures of the MNI152 template, cut along one or more axes."""
    import nibabel
    import nilearn

    folder = Path(next(iter(nilearn.__path__))) / "datasets" / "data"
    name = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    files = [nibabel.load(folder / name.format(k)) for k in ("t1", "gm", "wm")]
    t1, grey, white = (np.asarray(f.dataobj).transpose(2, 1, 0) for f in files)
    t1 = (t1 / np.percentile(t1, 99.9)).clip(0, 1)
    grey, white = grey / grey.max(), white / white.max()
    affine = files[0].affine

    def box(*spans: tuple[float, float]) -> np.ndarray:
        corners = np.array([[*ends, 1.0] for ends in zip(*spans, strict=True)])
        ends = np.linalg.inv(affine) @ corners.T
        low, high = np.sort(ends[:3], axis=1).T.astype(int)
        inside = np.zeros(t1.shape, bool)
        inside[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = True
        return inside

    brain = ndimage.binary_fill_holes(_largest(t1 > 0.25))
    fluid = brain & (grey < 0.3) & (white < 0.3)
    ventricle = _opened(fluid & box((-30, 30), (-45, 30), (-5, 32)), 1)
    putamen = _opened((grey > 0.5) & box((17, 35), (-16, 20), (-10, 14)), 2)
    caudate = _opened((grey > 0.5) & box((6, 22), (-8, 26), (-2, 26)), 2)
    image = (t1 * 255).astype(np.uint8)
    yield "brain, axial", image, brain
    for name, truth, axes in (
        ("ventricle", ventricle, (0, 1, 2)),
        ("putamen", putamen, (0, 1)),
        ("caudate", caudate, (0,)),
    ):
        for axis in axes:
            along = ("axial", "coronal", "sagittal")[axis]
            parts = np.moveaxis(image, axis, 0), np.moveaxis(truth, axis, 0)
            yield f"{name}, {along}", *map(np.ascontiguousarray, parts)


def from_file(path: Path) -> Iterator[Case]:
    held = np.load(path)
    image, labels = held["image"], held["labels"]
    if path.stem == "ct_abdomen":  # HU + 1024
        image = ((image.astype(np.int32) - 1024).clip(-160, 240) + 160) * 255 // 400
        image = image.astype(np.uint8)
    for i in np.unique(labels[labels > 0]):
        truth = labels == i
        if truth.any((1, 2)).sum() >= 9 and truth.sum() > 1500:
            yield f"{path.stem} {i}", image, truth


PLACES = {
    1: (1 / 2,),
    2: (1 / 6, 5 / 6),
    3: (1 / 6, 1 / 2, 5 / 6),
    5: (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6),
}
"""Of key planes, by how many there are: parts of the way through an object."""


def keys_of(truth: np.ndarray, count: int = 3) -> dict[int, MaskPrompt]:
    there = np.flatnonzero(truth.any((1, 2)))
    span = there[-1] - there[0]
    numbers = [round(there[0] + span * f) for f in PLACES[count]]
    return {n: MaskPrompt.of(truth[n]) for n in numbers if truth[n].any()}


def own(engine: Engine, keys: dict[int, MaskPrompt]) -> dict[int, MaskPrompt]:
    """What the model makes of the boxes of masks."""
    out = {}
    for n, mask in keys.items():
        found = predict(engine, Prompts.of(box=mask.bbox), Plane((n,))).chosen
        out[n] = MaskPrompt(found.bbox, found.mask)
    return out


def dice(a: np.ndarray, b: np.ndarray) -> float:
    total = a.sum() + b.sum()
    return 2 * float((a & b).sum()) / float(total) if total else 1.0


def speed(model: Any) -> None:
    n, side = 64, 512
    z, y, x = np.ogrid[:n, :side, :side]
    away = ((z - 32) / 29) ** 2 + ((y - 256) / 154) ** 2 + ((x - 230) / 128) ** 2
    ball, rng = away < 1, np.random.default_rng(0)
    image = rng.normal(np.where(ball, 140, 60), 8).clip(0, 255).astype(np.uint8)
    engine = Engine.of(open_volume(image), model)
    keys = {Plane((32,)): MaskPrompt.of(ball[32])}
    list(propagate(engine, keys))  # embeddings are made here
    decode, spent = model.decode, list[float]()

    def timed(*given: Any) -> Any:
        start = time.perf_counter()
        found = decode(*given)
        spent.append(time.perf_counter() - start)
        return found

    model.decode = timed
    for _ in range(3):
        spent.clear()
        start = time.perf_counter()
        planes = len(list(propagate(engine, keys)))
        took = time.perf_counter() - start
        print(
            f"{planes} planes: {1000 * took / planes:.1f} ms a plane; {len(spent)} "
            f"decodings of {1000 * np.mean(spent):.1f} ms, and "
            f"{1000 * (took - sum(spent)) / planes:.1f} ms a plane beside them"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="an .npz with image and labels")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--keys", type=int, choices=sorted(PLACES), default=3)
    parser.add_argument("--own", action="store_true", help="keys the model makes")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    model = load_model(args.model)
    if args.speed:
        speed(model)
        return
    cases = from_file(args.data) if args.data else iter([phantom(), *template()])
    shapes, followed, doubts, bad = [], [], [], []
    for name, image, truth in cases:
        engine = Engine.of(open_volume(image), model)
        made = keys_of(truth, args.keys)
        made = own(engine, made) if args.own else made
        keys = {Plane((n,)): mask for n, mask in made.items()}
        scores = {}
        for method in ("interpolate", "auto"):
            whole, start = np.zeros(truth.shape, bool), time.perf_counter()
            for plane, key in keys.items():
                y0, x0, y1, x1 = key.bbox
                whole[plane.index[0], y0:y1, x0:x1] |= key.mask
            count = 0
            for one in propagate(engine, keys, options=PropagateOptions(method)):
                n = one.plane.index[0]
                whole[n] |= one.full(truth.shape[1:])
                count += 1
                if method == "auto":
                    doubts.append(one.doubt)
                    bad.append(dice(one.full(truth.shape[1:]), truth[n]) < BAD)
            scores[method] = dice(whole, truth)
            took = (time.perf_counter() - start) / max(count, 1)
        shapes.append(scores["interpolate"])
        followed.append(scores["auto"])
        print(f"{name:20} {shapes[-1]:.3f} {followed[-1]:.3f}  {took:.2f} s a plane")
    print(f"{'mean':20} {np.mean(shapes):.3f} {np.mean(followed):.3f}")
    n, ranks, wrong = sum(bad), rankdata(doubts), np.array(bad)
    area = (ranks[wrong].sum() - n * (n + 1) / 2) / (n * (len(bad) - n))
    print(f"doubt: AUC {area:.3f} over {len(bad)} planes, {n} of them under {BAD}")


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _opened(mask: np.ndarray, times: int) -> np.ndarray:
    return _largest(ndimage.binary_opening(mask, iterations=times))


if __name__ == "__main__":
    main()
