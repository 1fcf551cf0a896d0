"""``napari-sam embed``: encode a volume into a store, beforehand."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.cli import arguments
from napari_sam.cli.arguments import ArgumentError
from napari_sam.cli.report import (
    Report,
    duration,
    load_with_progress,
    megabytes,
    progress,
)
from napari_sam.core.planes import Plane

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from napari_sam.cli.arguments import VolumeOptions


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What to encode, and where to."""

    store: str | None = None
    planes: str | None = None
    axis: str = "z"
    levels: str | None = None
    scheduler: str | None = None
    workers: int | None = None
    shard: str | None = None
    dry_run: bool = False


def run(
    source: VolumeOptions,
    options: EmbedOptions,
    *,
    model: str,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Encode, or say what it would take."""
    from napari_sam.embeddings.encode import encode_volume
    from napari_sam.embeddings.estimate import estimate_encoding, seconds_per_tile
    from napari_sam.embeddings.opening import default_store_path

    report = Report(as_json)
    planes, levels = options.planes, options.levels
    # What is written wrongly is told before anything is read or loaded.
    shard = None if options.shard is None else arguments.shard(options.shard)
    if options.workers is not None and options.workers < 1:
        raise ArgumentError(f"--workers must be 1 or more; got {options.workers}")
    where: dict[str, Any] = {
        "planes": None if planes is None else arguments.ranges(planes, "--planes"),
        "levels": None if levels is None else arguments.ranges(levels, "--levels"),
        "axis": arguments.axis(options.axis),
    }
    volume = source.open()
    for plane in where["planes"] or ():
        Plane.of(volume.shape, plane, axis=where["axis"])
    network = load_with_progress(model, device, precision)
    estimate = estimate_encoding(volume, network, **where)
    store = options.store or str(default_store_path(volume))
    report.data = {
        "volume": repr(volume),
        "model": network.spec.name,
        "device": network.device,
        "store": store,
        "planes": estimate.n_planes,
        "tiles": estimate.tiles,
        "disk_bytes": estimate.disk_bytes,
        "dry_run": options.dry_run,
    }
    report.say(f"{volume!r} with {network.spec.name} on {network.device}")
    report.say(
        f"{estimate.n_planes} plane(s) x {estimate.tiles_per_plane} tile(s) = "
        f"{estimate.tiles} tiles, {megabytes(estimate.disk_bytes)} "
        f"({megabytes(estimate.bytes_per_tile)} each) in {store}"
    )
    _check_limit(store, estimate.disk_bytes)
    if options.dry_run:
        each = seconds_per_tile(volume, network, axis=where["axis"])
        report.data |= {"seconds_per_tile": each, "seconds": each * estimate.tiles}
        report.say(
            f"about {duration(each * estimate.tiles)}, {each:.2f} s each in one process"
        )
    if not options.dry_run:
        with _workers(options) as client, report.timed("encode") as step:
            done, total = progress(
                encode_volume(
                    volume, network, store,
                    client=client, device=device, shard=shard, **where,
                ),
                "encode",
                "tile",
            )  # fmt: skip
            step["detail"] = f"{done} of {total} tiles are there"
        report.data |= {"done": done, "total": total, "seconds": step["seconds"]}
    report.finish()


def _check_limit(store: str, wanted: int) -> None:
    """Refuse what the cache would have to remove again."""
    from napari_sam.embeddings.cache import cache_limit, in_cache

    limit = cache_limit() if in_cache(store) else None
    if limit is None or wanted <= limit:
        return
    raise ArgumentError(
        f"these embeddings take {megabytes(wanted)}, and the cache may take "
        f"{megabytes(limit)}: give a place of their own with --store, or set "
        "NAPARI_SAM_CACHE_LIMIT"
    )


def _workers(options: EmbedOptions) -> AbstractContextManager[Any]:
    """Give the client of a cluster, or None to encode in this process."""
    if options.scheduler is None and options.workers is None:
        return nullcontext()
    from napari_sam.embeddings.distribute import connect

    return connect(options.scheduler, options.workers)
