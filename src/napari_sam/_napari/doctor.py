"""What is installed, where things are kept, and whether the model runs: for a report.

Loads neither napari nor Qt, so that the command line can say why they are missing.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam._napari import autosave, log_file
from napari_sam.core import distribution
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = {
    "numpy": "",
    "torch": "models",
    "zarr": "embeddings, OME-Zarr",
    "pydicom": "DICOM",
    "napari": "the panel: napari[pyqt6]",
    "PyQt6": "",
    "PySide6": "",
    "transformers": "SAM 2 models",
    "openvino": "int8 encoding on CPUs",
    "distributed": "embedding on a cluster",
    "obstore": "images on S3 and web servers",
    "rasterio": "GeoTIFF",
    "imagecodecs": "compressed TIFF and DICOM",
}
"""Packages that are told of, and what each is for; "" for no advice."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    part: str
    what: str
    told: str
    advice: str = ""
    """What to do about it; "" where nothing is wrong."""


def examine(*, encode: bool = True) -> Iterator[Finding]:
    """Look at everything that a bug report should tell.

    Parameters
    ----------
    encode : bool
        Whether to load nano and encode one image on each device, which takes seconds.
    """
    yield from _programs()
    yield from _packages()
    yield from _formats()
    yield from _folders()
    if encode:
        yield from _devices()
    for line in log_file.last_lines():
        yield Finding("Log of the panel, its last lines", "", line)


def as_text(findings: list[Finding]) -> str:
    """Return a report as plain text."""
    lines: list[str] = []
    part = ""
    for one in findings:
        if one.part != part:
            part = one.part
            lines += ["", part] if lines else [part]
        what = f"{one.what:<22}" if one.what else ""
        lines.append(f"  {what}{one.told}".rstrip())
        if one.advice:
            lines.append(f"  {'':<22}-> {one.advice}")
    return "\n".join(lines)


def _programs() -> Iterator[Finding]:
    part = "Program"
    try:
        told = f"{distribution.version()} ({distribution.NAME})"
    except importlib.metadata.PackageNotFoundError:
        told = "not installed, run from its folder"
    where = str(Path(__file__).parents[1])
    yield Finding(part, "napari-sam", told, distribution.warning() or "")
    yield Finding(part, "folder", where)
    yield Finding(part, "Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding(part, "system", platform.platform())


def _packages() -> Iterator[Finding]:
    for name, use in PACKAGES.items():
        try:
            told, advice = importlib.metadata.version(name), ""
        except importlib.metadata.PackageNotFoundError:
            told = f"not installed ({use})" if use else "not installed"
            advice = ""
        yield Finding("Packages", name, told, advice)


def _formats() -> Iterator[Finding]:
    from napari_sam.results.registry import FORMATS

    for kind in FORMATS.values():
        if kind.missing:
            told = f"needs {' and '.join(kind.missing)}"
            advice = f"pip install {' '.join(kind.missing)}"
            yield Finding("Formats that cannot be written", kind.title, told, advice)


def _folders() -> Iterator[Finding]:
    from napari_sam.embeddings import cache
    from napari_sam.models.download import cache_folder as weights
    from napari_sam.models.user_models import config_folder

    try:
        limit = cache.cache_limit()
        most = "no limit" if limit is None else f"at most {size(limit)}"
        advice = ""
    except NapariSamError as error:
        most, advice = "no readable limit", str(error)
    folders = {
        "embeddings": (cache.cache_folder(), f", {most}", advice),
        "weights": (weights(), "", ""),
        "sessions kept": (autosave.folder(), "", ""),
        "settings, log": (config_folder(), "", ""),
    }
    for what, (folder, more, wrong) in folders.items():
        told = f"{folder}: {size(_bytes_in(folder))}{more}"
        yield Finding("Folders", what, told, wrong or _trouble(folder))


def _devices() -> Iterator[Finding]:
    import numpy as np

    part = "Devices"
    try:
        import torch

        from napari_sam.models.registry import load_model
    except ImportError as error:
        yield Finding(part, "torch", str(error), "pip install torch")
        return
    names = ["cpu"]
    names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        model = None
        try:
            model = load_model("nano", device=name)
            side = model.spec.input_side
            start = time.perf_counter()
            model.encode(np.zeros((1, side, side, 3), np.uint8))
            took = time.perf_counter() - start
            yield Finding(part, name, f"one tile of nano encoded in {took:.2f} s")
        except (NapariSamError, RuntimeError, OSError) as error:
            yield Finding(part, name, str(error), f"leave {name} out: --device cpu")
    if not torch.cuda.is_available():
        told = f"none seen by torch {torch.__version__}"
        yield Finding(part, "CUDA", told)


def _trouble(folder: Path) -> str:
    """Why a folder cannot be written; "" when it can, or could be made."""
    import os

    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        return f"{there} is a file: move it away"
    if not os.access(there, os.W_OK):
        return f"{there} cannot be written: nothing is kept there"
    return ""


def _bytes_in(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:  # it may go while it is counted
            continue
    return total


def size(n_bytes: float) -> str:
    """Bytes, for people.

    Examples
    --------
    >>> size(20e9), size(0)
    ('20 GB', '0 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
