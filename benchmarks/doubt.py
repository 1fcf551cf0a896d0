"""How far the doubt of filled planes can be believed, and what following it gains.

::

    pip install nilearn            # its wheel brings the MNI152 template
    python benchmarks/doubt.py                          # brain structures and a phantom
    python benchmarks/doubt.py --data ct_abdomen.npz    # any (z, y, x) image and labels
    python benchmarks/doubt.py --plot docs/images/doubt.svg --data a.npz --data b.npz
    python benchmarks/doubt.py --correct

Objects are filled from three true key planes, as `benchmarks/volumes.py` says. Printed:
the area under the ROC curve of `doubt` for planes whose Dice is under 0.7; and for each
range of doubt, how many planes were given it and what part of them was bad. `--plot`
draws that as an SVG, a line for each data set, without ranges of fewer than 5 planes.

`--correct`: three times, one plane is corrected with the truth and the object is filled
anew; the gain in Dice where the planes are those that `Session.doubtful` lists first,
where they are the most doubtful ones, and where they are drawn at random (four draws).
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from benchmarks.volumes import BAD, Case, dice, from_file, keys_of, phantom, template
from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.propagate import propagate
from napari_sam.models.registry import load_model
from napari_sam.session.doubts import worth
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Keys = dict[int, MaskPrompt | None]
"""Masks by plane number; None where a person found that the object is not there."""
EDGES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
COLORS = ("#2f6fb3", "#d1682e", "#4c9f50", "#8a5fb5")


def filled(
    engine: Engine, keys: Keys, truth: np.ndarray
) -> tuple[np.ndarray, dict[int, float]]:
    """Fill an object; return it whole, and the doubt of each plane by number."""
    whole, doubts = np.zeros(truth.shape, bool), {}
    ends = [-1, *sorted(n for n, mask in keys.items() if mask is None), len(truth)]
    made = {n: mask for n, mask in keys.items() if mask is not None}
    for n, mask in made.items():
        y0, x0, y1, x1 = mask.bbox
        whole[n, y0:y1, x0:x1] |= mask.mask
    for low, high in itertools.pairwise(ends):
        near = {Plane((n,)): mask for n, mask in made.items() if low < n < high}
        if near:
            for one in propagate(engine, near, first=low + 1, last=high - 1):
                whole[one.plane.index[0]] |= one.full(truth.shape[1:])
                doubts[one.plane.index[0]] = one.doubt
    return whole, doubts


def doubts_of(cases: Iterable[Case], model: object) -> tuple[np.ndarray, np.ndarray]:
    """Doubt of every filled plane, and whether it is bad."""
    doubt, bad = [], []
    for _, image, truth in cases:
        engine = Engine.of(open_volume(image), model)
        whole, found = filled(engine, dict(keys_of(truth)), truth)
        for n, value in found.items():
            doubt.append(value)
            bad.append(dice(whole[n], truth[n]) < BAD)
    return np.array(doubt), np.array(bad)


def auc(doubt: np.ndarray, bad: np.ndarray) -> float:
    n = int(bad.sum())
    above = rankdata(doubt)[bad].sum() - n * (n + 1) / 2
    return float(above / (n * (len(bad) - n)))


def bins(doubt: np.ndarray, bad: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean doubt, part that is bad and count of planes, by range of doubt."""
    out = []
    for low, high in itertools.pairwise(EDGES):
        here = (doubt >= low) & ((doubt < high) | (high == EDGES[-1]))
        if here.any():
            out.append((doubt[here].mean(), bad[here].mean(), int(here.sum())))
    return out


def plot(curves: dict[str, list[tuple[float, float, int]]]) -> str:
    """Draw how often planes were bad against the doubt they were given, as SVG."""
    side, edge = 300, 46
    text = 'font-family="sans-serif" font-size="12" fill="#333"'

    def at(x: float, y: float) -> tuple[float, float]:
        return edge + x * side, 12 + (1 - y) * side

    (x0, y1), (x1, y0) = at(0, 1), at(1, 0)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="560" height="{side + 60}">',
        '<rect width="560" height="360" fill="white"/>',
        f'<rect x="{x0}" y="{y1}" width="{side}" height="{side}" fill="none" '
        'stroke="#888"/>',
        f'<path d="M{x0} {y0}L{x1} {y1}" stroke="#bbb" stroke-dasharray="4 4"/>',
        f'<text x="{edge + side / 2 - 18}" y="{side + 48}" {text}>doubt</text>',
        f'<text transform="translate(14 {side / 2 + 70}) rotate(-90)" {text}>'
        "planes with Dice under 0.7</text>",
    ]
    for tick in (0, 0.5, 1):
        x, y = at(tick, tick)
        out.append(f'<text x="{x - 8}" y="{side + 28}" {text}>{tick}</text>')
        out.append(f'<text x="{edge - 24}" y="{y + 4}" {text}>{tick}</text>')
    for row, (name, points) in enumerate(curves.items()):
        color = COLORS[row % len(COLORS)]
        points = [point for point in points if point[2] >= 5]
        places = [at(x, y) for x, y, _ in points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for (x, y), (*_, n) in zip(places, points, strict=True):
            r = 2 + np.log10(n) * 2
            out.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{color}"/>'
            )
        y = 30 + 20 * row
        x = edge + side + 16
        out.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{color}"/>')
        out.append(f'<text x="{x + 16}" y="{y}" {text}>{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def gain(
    engine: Engine, truth: np.ndarray, choose: Callable[[dict[int, float], Keys], int]
) -> float:
    """What three corrections of chosen planes add to an object's Dice."""
    keys: Keys = dict(keys_of(truth))
    whole, doubts = filled(engine, keys, truth)
    before = dice(whole, truth)
    for _ in range(3):
        if doubts:
            n = choose(doubts, keys)
            keys[n] = MaskPrompt.of(truth[n]) if truth[n].any() else None
            whole, doubts = filled(engine, keys, truth)
    return dice(whole, truth) - before


def by_worth(doubts: dict[int, float], keys: Keys) -> int:
    numbers = sorted(doubts)
    values = worth(numbers, [doubts[n] for n in numbers], sorted(keys))
    return numbers[int(np.argmax(values))]


def by_doubt(doubts: dict[int, float], keys: Keys) -> int:
    return max(doubts, key=lambda n: doubts[n])


def at_random(seed: int) -> Callable[[dict[int, float], Keys], int]:
    rng = np.random.default_rng(seed)
    return lambda doubts, keys: int(rng.choice(sorted(doubts)))


def correct(cases: Iterable[Case], model: object) -> None:
    rows = []
    print(f"{'gain in Dice':20} listed first, most doubtful, at random")
    for name, image, truth in cases:
        engine = Engine.of(open_volume(image), model)
        drawn = [gain(engine, truth, at_random(seed)) for seed in range(4)]
        row = [gain(engine, truth, c) for c in (by_worth, by_doubt)]
        rows.append([*row, float(np.mean(drawn))])
        print(f"{name:20} " + " ".join(f"{v:+.3f}" for v in rows[-1]), flush=True)
    print(f"{'mean':20} " + " ".join(f"{v:+.3f}" for v in np.mean(rows, axis=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--plot", type=Path, help="an SVG to write")
    parser.add_argument("--correct", action="store_true")
    args = parser.parse_args()
    model = load_model(args.model)
    sets: dict[str, Callable[[], Iterable[Case]]] = {
        path.stem: lambda path=path: from_file(path) for path in args.data
    }
    if not args.data or args.plot:
        sets = {"MNI152, phantom": lambda: [phantom(), *template()], **sets}
    curves = {}
    for name, cases in sets.items():
        if args.correct:
            correct((c for c in cases() if not c[0].startswith("brain")), model)
            continue
        doubt, bad = doubts_of(cases(), model)
        curves[f"{name} (AUC {auc(doubt, bad):.2f})"] = found = bins(doubt, bad)
        print(f"{name}: AUC {auc(doubt, bad):.3f}, {len(bad)} planes, {bad.sum()} bad")
        for mean, part, n in found:
            print(f"  doubt {mean:.2f}: {part:.2f} of {n} bad")
    if args.plot:
        args.plot.write_text(plot(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
