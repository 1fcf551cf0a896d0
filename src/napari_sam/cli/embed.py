"""``napari-sam embed``: encode a volume into a store, beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.cli import arguments
from napari_sam.cli.report import Report, load_with_progress, megabytes, progress

if TYPE_CHECKING:
    from napari_sam.cli.arguments import VolumeOptions


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """What to encode, and where to."""

    store: str | None = None
    planes: str | None = None
    axis: str = "z"
    levels: str | None = None
    dry_run: bool = False


def run(
    source: VolumeOptions,
    options: EmbedOptions,
    *,
    model: str,
    device: str,
    as_json: bool,
) -> None:
    """Encode, or say what it would take."""
    from napari_sam.engine.encode import (
        default_store_path,
        encode_volume,
        plan_encoding,
    )

    report = Report(as_json)
    planes, levels = options.planes, options.levels
    volume = source.open()
    network = load_with_progress(model, device)
    where = {
        "planes": None if planes is None else arguments.ranges(planes, "--planes"),
        "levels": None if levels is None else arguments.ranges(levels, "--levels"),
        "axis": arguments.axis(options.axis),
    }
    plan = plan_encoding(volume, network, **where)  # type: ignore[arg-type]
    store = options.store or str(default_store_path(volume))
    report.data = {
        "volume": repr(volume),
        "model": network.spec.name,
        "device": network.device,
        "store": store,
        "planes": plan.n_planes,
        "tiles": plan.tiles,
        "disk_bytes": plan.disk_bytes,
        "dry_run": options.dry_run,
    }
    report.say(f"{volume!r} with {network.spec.name} on {network.device}")
    report.say(
        f"{plan.n_planes} plane(s) x {plan.tiles_per_plane} tile(s) = {plan.tiles} "
        f"tiles, {megabytes(plan.disk_bytes)} in {store}"
    )
    if not options.dry_run:
        with report.timed("encode") as step:
            done, total = progress(
                encode_volume(volume, network, store, **where),  # type: ignore[arg-type]
                "encode",
                "tile",
            )
            step["detail"] = f"{done} of {total} tiles are there"
        report.data |= {"done": done, "total": total, "seconds": step["seconds"]}
    report.finish()
