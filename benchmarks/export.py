"""How long listing and exporting objects takes: many small ones, and one in a volume.

    python benchmarks/export.py

Prints a table, and JSON as the last line. Budgets: 5 000 objects of 2048^2 listed and
written as COCO or table within 2 s; one object of 400 x 4096^2 chunked labels within
1 s, because only what was ever written is read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.results.label_arrays import ChunkedLabels
from napari_sam.results.label_objects import find_objects
from napari_sam.results.registry import FORMATS, write
from napari_sam.results.results import Results
from napari_sam.results.table import object_table
from napari_sam.volume.opening import open_volume

if TYPE_CHECKING:
    from collections.abc import Callable


def many_objects(side: int, per_row: int) -> np.ndarray:
    """Labels with `per_row` squared objects, each a disc."""
    step = side // per_row
    y, x = np.mgrid[:step, :step] - (step - 1) / 2
    disc = y**2 + x**2 < (step / 2 - 2) ** 2
    out = np.zeros((side, side), np.uint16)
    ids = np.arange(1, per_row**2 + 1, dtype=np.uint16).reshape(per_row, per_row)
    tiled = np.kron(ids, disc.astype(np.uint16))
    out[: tiled.shape[0], : tiled.shape[1]] = tiled
    return out


def one_object(folder: Path, shape: tuple[int, ...]) -> ChunkedLabels:
    """Chunked labels of a large volume in which one object is written."""
    import zarr

    array = zarr.create_array(
        folder / "labels.zarr", shape=shape, dtype="u2", chunks=(1, 1024, 1024),
        fill_value=0,
    )  # fmt: skip
    array[shape[0] // 2, 900:1300, 2000:2500] = 7
    return ChunkedLabels(array)


def results_of(labels: Any) -> Results:
    """Results of labels without an image."""
    pixels = np.broadcast_to(np.zeros((), np.uint8), labels.shape)
    return Results(labels, open_volume(pixels))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a piece of work takes, best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return round(best, 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", default="coco,csv,ome_zarr,ome_tiff,png,labelme")
    options = parser.parse_args()
    seconds: dict[str, dict[str, float]] = {"many": {}, "one": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases = {
            "many": results_of(many_objects(2048, 72)),
            "one": results_of(one_object(folder, (400, 4096, 4096))),
        }
        for case, results in cases.items():
            found = seconds[case]
            found["list"] = timed(lambda r=results: list(find_objects(r.labels)))
            found["table"] = timed(lambda r=results: object_table(r))
            for name in options.formats.split(","):
                if case == "one" and name not in ("coco", "csv", "ome_zarr"):
                    continue
                path = folder / f"{case}{FORMATS[name].suffixes[0]}"
                found[name] = timed(
                    lambda r=results, p=path, n=name: write(p, r, n, overwrite=True)
                )
    for case, found in seconds.items():
        for what, s in found.items():
            print(f"{case:<6}{what:<10}{s:8.3f} s")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
