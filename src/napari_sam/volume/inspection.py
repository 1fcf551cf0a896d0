"""What an image file or study holds, in words and as plain values for JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.orientation import axis_letters, describe
from napari_sam.errors import NapariSamError, SeriesError
from napari_sam.volume.series import SeriesInfo, read_contents

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

MOST_LINES = 20
"""Files left out that are named one by one in the text."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that `inspect` found below a path."""

    source: str
    series: tuple[dict[str, Any], ...]
    """One dict for each series, with the keys of `report`."""
    skipped: tuple[tuple[str, str], ...]
    """(file, reason) of what belongs to none of them."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; numbers that JSON does not know become None."""
        found: dict[str, Any] = _plain(
            {
                "source": self.source,
                "series": list(self.series),
                "skipped": [{"file": f, "reason": r} for f, r in self.skipped],
            }
        )
        return found

    def lines(self) -> list[str]:
        """Return the text for people, line by line."""
        count = len(self.series)
        head = f"{self.source}: {count} series" if count > 1 else self.source
        out = [head]
        for one in self.series:
            out += ["", *_series_lines(one, alone=count == 1)]
        if self.skipped:
            out += ["", *_left_out(self.skipped, "")]
        return out


def inspect(source: Any, *, series: str | int | None = None) -> Inspection:
    """Say what a path holds: series, levels, axes, spacing, place, window, odd files.

    Parameters
    ----------
    source : path, URL or list of paths
        As for `open_volume`.
    series : str or int, optional
        Only this one.

    Raises
    ------
    VolumeError
        If there is no image.
    SeriesError
        If there is no such series.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> path = tempfile.mkdtemp() + "/cells.tif"
    >>> tifffile.imwrite(path, np.zeros((64, 48), np.uint8))
    >>> inspect(path).series[0]["shape"]
    [64, 48]
    """
    contents = read_contents(source)
    chosen = list(contents.series)
    if series is not None:
        wanted = str(series)
        chosen = [s for s in chosen if wanted in (s.key, s.short, s.uid, str(s.number))]
        if not chosen:
            raise SeriesError(
                f"there is no series {series!r} in {str(source)!r}: choose one of "
                f"{', '.join(s.key or 'the only one' for s in contents.series)}",
                {s.key or "": s.description for s in contents.series},
            )
    sample = len(chosen) == 1
    return Inspection(
        str(source), tuple(report(s, sample=sample) for s in chosen), contents.skipped
    )


def report(info: SeriesInfo, *, sample: bool = False) -> dict[str, Any]:
    """Return what is known of a series as a dict of plain values.

    Parameters
    ----------
    info : SeriesInfo
    sample : bool
        Whether pixels are read to find an intensity window where none is declared.
    """
    out: dict[str, Any] = {
        "series": info.key, "short": info.short, "uid": info.uid,
        "number": info.number, "description": info.description,
        "modality": info.modality, "files": info.n_files,
        "axes": list(info.axes), "shape": list(info.shape),
        "spacing": list(info.spacing), "units": list(info.units),
        "problem": info.problem, "uneven": info.uneven, "left_out": info.is_odd,
        "skipped": [{"file": f, "reason": r} for f, r in info.skipped],
    }  # fmt: skip
    if info.volume is not None:
        out.update(_of_volume(info.volume, sample=sample))
    return out


def _of_volume(volume: Volume, *, sample: bool) -> dict[str, Any]:
    metadata = volume.metadata
    return {
        "dtype": volume.dtype.name,
        "levels": [list(level.shape) for level in volume.levels],
        "channels": volume.n_channels,
        "channel_names": list(volume.channel_names),
        "rgb": volume.rgb,
        "affine": np.asarray(volume.affine).tolist(),
        "orientation": orientation(volume),
        "coordinates": metadata.get("coordinates"),
        "crs": volume.crs,
        "window": _window(volume, sample=sample),
        "inverted": volume.inverted,
        "nodata": metadata.get("nodata"),
        "phases": metadata.get("phases"),
        "slice_positions_mm": metadata.get("slice_positions_mm"),
        "notes": list(metadata.get("notes", ())),
    }


def orientation(volume: Volume) -> list[str] | None:
    """Letters that z, y and x of a medical image run towards; None for others."""
    system = volume.metadata.get("coordinates")
    if system not in ("LPS", "RAS") or volume.ndim < 3:
        return None
    try:
        return list(axis_letters(volume.affine, system))
    except ValueError:
        return None


def _window(volume: Volume, *, sample: bool) -> list[list[float]] | None:
    if volume.mapping is None and not sample:
        return None
    try:
        return [list(w) for w in volume.intensity.windows]
    except NapariSamError:
        return None


def _series_lines(one: dict[str, Any], *, alone: bool) -> list[str]:
    name = one["description"] or one["series"] or "image"
    keys = [k for k in (one["short"], one["series"]) if k]
    head = name if alone and not keys else f"{' or '.join(keys)}  {name}"
    rows = [("cannot be opened", one["problem"])] if one["problem"] else _rows(one)
    rows += [("uneven", one["uneven"])] if one["uneven"] else []
    rows += [("note", note) for note in one.get("notes", ()) if not one["uneven"]]
    if one["left_out"]:
        rows.append(("odd", "left out when its series is opened"))
    out = [head, *(f"  {what:<12}{text}" for what, text in rows)]
    return out + _left_out([(s["file"], s["reason"]) for s in one["skipped"]], "  ")


def _rows(one: dict[str, Any]) -> list[tuple[str, str]]:
    size = ", ".join(f"{a} {n}" for a, n in zip(one["axes"], one["shape"], strict=True))
    rows = [("size", f"{size}, {one['dtype']}")]
    if one["channels"] > 1:
        names = ", ".join(one["channel_names"]) or ("colour" if one["rgb"] else "")
        rows.append(("channels", f"{one['channels']} {names}".strip()))
    steps = zip(one["spacing"], one["units"], one["axes"], strict=True)
    rows.append(("spacing", ", ".join(f"{a} {s:.6g} {u}" for s, u, a in steps)))
    if len(one["levels"]) > 1:
        shapes = ", ".join(" x ".join(map(str, level)) for level in one["levels"])
        rows.append(("levels", f"{len(one['levels'])}: {shapes}"))
    if one["orientation"]:
        rows.append(("runs", describe(one["orientation"])))
    if one["crs"]:
        rows.append(("crs", " ".join(str(one["crs"]).split())[:100]))
    if one["window"]:
        text = ", ".join(f"{low:.6g} to {high:.6g}" for low, high in one["window"][:6])
        rows.append(("window", f"{text}{', inverted' if one['inverted'] else ''}"))
    if one["nodata"] is not None:
        rows.append(("no data", f"{one['nodata']:.6g}"))
    for tag, values in (one["phases"] or {}).items():
        shown = ", ".join(str(v) for v in values[:8])
        rows.append(("t by", f"{tag}: {shown}{' ...' if len(values) > 8 else ''}"))
    if one["files"] > 1:
        rows.append(("files", str(one["files"])))
    return rows


def _left_out(skipped: Any, indent: str) -> list[str]:
    out = [f"{indent}left out: {file}: {reason}" for file, reason in skipped]
    if len(out) <= MOST_LINES:
        return out
    return [*out[:MOST_LINES], f"{indent}and {len(out) - MOST_LINES} more left out"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return (
        value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
    )
