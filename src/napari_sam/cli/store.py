"""``napari-sam store``: embeddings on this machine, listed and removed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.options import AsJson, example
from napari_sam.cli.stopping import StoppableGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.embeddings.cache import StoredEmbeddings

store_app = typer.Typer(
    cls=StoppableGroup, rich_markup_mode="rich", no_args_is_help=True
)

_Folder = Annotated[
    Path | None,
    typer.Argument(help="A store, or a folder of them; the user's cache if left out."),
]


@store_app.callback(epilog=example("napari-sam store list"))
def store() -> None:
    """List the embeddings on this machine, and remove those no longer wanted."""


@store_app.command("list", epilog=example("napari-sam store list --json"))
def store_list(folder: _Folder = None, as_json: AsJson = False) -> None:
    """List embeddings: image, model, size, when they were last used; oldest first."""
    from napari_sam.cli.report import Report, megabytes
    from napari_sam.embeddings.cache import cache_folder, cache_limit, stored

    report, found = Report(as_json), stored(folder)
    _say(report, found)
    size = sum(one.size_bytes for one in found)
    report.data["size_bytes"] = size
    told = f"{megabytes(size)} in {folder or cache_folder()}"
    if folder is None:
        limit = report.data["limit_bytes"] = cache_limit()
        told += f", which may take {'any' if limit is None else megabytes(limit)}"
    report.say(told)
    report.finish()


@store_app.command(
    "prune",
    epilog=example(
        "napari-sam store prune --older-than 30",
        "napari-sam store prune --max-size '5 GB'",
        "napari-sam store prune slide.nsam-emb --signature 0123456789abcdef",
    ),
)
def store_prune(
    folder: _Folder = None,
    older_than: Annotated[
        float | None, typer.Option(help="Those not used for this many days.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(help="The longest unused, until the rest takes no more: 5 GB."),
    ] = None,
    signature: Annotated[
        list[str] | None,
        typer.Option(help="Those of a signature, as list shows it; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove embeddings by age, size or signature; those in use stay."""
    from napari_sam.cli.report import Report, megabytes
    from napari_sam.embeddings.cache import prune, stored

    report, found = Report(as_json), stored(folder)
    chosen = _chosen(found, older_than, max_size, tuple(signature or ()))
    kept = [one for one in chosen if one.in_use]
    free = [one for one in chosen if not one.in_use]
    removed = free if dry_run else prune(free)
    _say(report, removed)
    report.data |= {
        "size_bytes": sum(one.size_bytes for one in removed),
        "in_use": [one.signature.key for one in kept],
        "dry_run": dry_run,
    }
    size = megabytes(report.data["size_bytes"])
    report.say(f"{size} {'would be' if dry_run else 'were'} removed")
    if kept:
        report.say(f"{len(kept)} are in use and stay: close what uses them")
    report.finish()


def _chosen(
    found: list[StoredEmbeddings],
    older_than: float | None,
    max_size: str | None,
    keys: Sequence[str],
) -> list[StoredEmbeddings]:
    """Embeddings for which any of the conditions holds."""
    from napari_sam.cli.arguments import ArgumentError
    from napari_sam.embeddings.cache import oldest_beyond, size_bytes

    if older_than is None and max_size is None and not keys:
        raise ArgumentError(
            "say what to remove: --older-than DAYS, --max-size SIZE or --signature KEY"
        )
    if unknown := set(keys) - {one.signature.key for one in found}:
        raise ArgumentError(
            f"there are no embeddings of the signature {', '.join(sorted(unknown))}: "
            "napari-sam store list shows those there are"
        )
    gone = [one for one in found if one.signature.key in keys]
    if older_than is not None:
        if older_than < 0:
            raise ArgumentError(f"--older-than takes days, 0 or more; got {older_than}")
        before = time.time() - older_than * 86400
        gone += [one for one in found if one.last_used < before]
    if max_size is not None:
        rest = [one for one in found if one not in gone]
        gone += oldest_beyond(rest, size_bytes(max_size, "--max-size"))
    return [one for one in found if one in gone]


def _say(report: Any, found: list[StoredEmbeddings]) -> None:
    from napari_sam.cli.report import megabytes

    report.data["embeddings"] = [
        {
            "path": str(one.path),
            "signature": one.signature.key,
            "image": one.image,
            "model": one.signature.model,
            "axis": one.signature.axis,
            "intensity": one.signature.intensity,
            "tiles": one.tiles,
            "size_bytes": one.size_bytes,
            "last_used": time.strftime(
                "%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.last_used)
            ),
            "in_use": one.in_use,
        }
        for one in found
    ]
    if found:
        report.say(
            f"{'signature':<18}{'size':>10}{'tiles':>9}  {'last used':<18}"
            f"{'model':<18}image"
        )
    for one in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last_used))
        when, model = "in use" if one.in_use else used, one.signature.model
        report.say(
            f"{one.signature.key:<18}{megabytes(one.size_bytes):>10}{one.tiles:>9}  "
            f"{when:<18}{model:<18}{one.image}"
        )
