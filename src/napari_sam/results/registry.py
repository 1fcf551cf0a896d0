"""The formats of results: one list that the API, the shell and napari are made from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_sam.errors import ExportError, VolumeError, did_you_mean, refused_as

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import ModuleType

    from napari_sam.results.results import Results
    from napari_sam.volume.volume import Volume

_DISTRIBUTIONS = {"nrrd": "pynrrd"}
"""Names that packages are installed by, where they differ."""
Holds = Literal["volume", "classes", "overlap", "spacing", "affine", "crs", "records"]
"""What a format can keep: several planes, class names, objects on top of each other,
pixel sizes, any affine, a coordinate system, all that is known of an object."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format that results are written in and read from.

    Its module has ``write(path, results, **options)``, which returns what the file
    could not hold as a list of sentences, and, where `reads`, ``read(path, volume,
    **options)``, which returns `Results`. Where several formats share a suffix,
    ``recognises(content)`` of the module tells whether parsed JSON is of the format, or
    ``recognises_file(path)`` whether any other file is.
    """

    name: str
    """What ``format=`` and ``--format`` take."""
    title: str
    """Name for people."""
    suffixes: tuple[str, ...]
    """Lower case, with the dot; the first is the one that is proposed."""
    holds: frozenset[Holds]
    module: str
    """Module in `napari_sam.results.formats`."""
    packages: tuple[str, ...] = ()
    """Third-party packages that it needs beyond what is always installed."""
    reads: bool = True
    """Whether labels can be read back from it."""
    options: tuple[tuple[str, Any], ...] = ()
    """What ``write`` of the module is always told."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are needed and not installed."""
        return tuple(p for p in self.packages if find_spec(p) is None)

    @property
    def filter(self) -> str:
        """File filter for a file dialog, such as "PNG (*.png)"."""
        return f"{self.title} ({' '.join('*' + s for s in self.suffixes)})"

    def with_suffix(self, path: str) -> str:
        """Return a path with one of the suffixes: its own, or the first."""
        fits = path.lower().endswith(self.suffixes)
        return path if fits else path + self.suffixes[0]

    def load(self) -> ModuleType:
        """Import the module.

        Raises
        ------
        ExportError
            If a package is missing.
        """
        if self.missing:
            names = [_DISTRIBUTIONS.get(p, p) for p in self.missing]
            raise ExportError(
                f"{self.title} needs {' and '.join(names)}: "
                f"pip install {' '.join(names)}"
            )
        return self.imported()

    def imported(self) -> ModuleType:
        """Import the module, whether or not all that it needs is there."""
        return import_module(f"napari_sam.results.formats.{self.module}")


def _format(
    name: str, title: str, suffixes: str, holds: str, **more: Any
) -> tuple[str, Format]:
    kept: Any = frozenset(holds.split())
    fields = {"module": name, **more}
    return name, Format(name, title, tuple(suffixes.split()), kept, **fields)


_GEO = ("geopandas", "pyogrio")
FORMATS: dict[str, Format] = dict(
    [
        _format("ome_zarr", "OME-Zarr labels", ".zarr",
                "volume classes spacing affine crs records"),
        _format("ome_tiff", "OME-TIFF", ".ome.tif .ome.tiff .tif .tiff",
                "volume spacing"),
        _format("nifti", "NIfTI", ".nii.gz .nii", "volume spacing affine",
                packages=("nibabel",)),
        _format("nrrd", "NRRD", ".nrrd", "volume spacing affine",
                packages=("nrrd",)),
        _format("seg_nrrd", "3D Slicer segmentation", ".seg.nrrd",
                "volume classes spacing affine", packages=("nrrd", "slicerio")),
        _format("dicom_seg", "DICOM segmentation", ".dcm",
                "volume classes spacing affine", packages=("highdicom",)),
        _format("rtstruct", "DICOM structure set", ".dcm",
                "volume classes spacing affine"),
        _format("png", "PNG", ".png", ""),
        _format("coco", "COCO JSON", ".json", "volume classes records"),
        _format("coco_polygons", "COCO JSON (polygons)", ".json",
                "volume classes records", module="coco",
                options=(("polygons", True),)),
        _format("sa1b", "SA-1B JSON", ".json", "classes records"),
        _format("labelme", "labelme JSON", ".json", "classes records"),
        _format("geopackage", "GeoPackage", ".gpkg",
                "volume classes spacing affine crs records", packages=_GEO),
        _format("flatgeobuf", "FlatGeobuf", ".fgb",
                "volume classes spacing affine crs records", packages=_GEO),
        _format("geojson", "GeoJSON", ".geojson",
                "volume classes spacing affine crs records", packages=_GEO),
        _format("qupath", "QuPath GeoJSON", ".geojson .json",
                "volume classes records"),
        _format("imagej", "ImageJ ROIs", ".zip", "volume classes records",
                packages=("roifile",)),
        _format("ctc", "Cell Tracking Challenge", ".ctc", "volume"),
        _format("geff", "GEFF tracks", ".geff", "volume", packages=("geff",)),
        _format("csv", "Table (CSV)", ".csv", "volume classes spacing affine records",
                reads=False),
        _format("parquet", "Table (Parquet)", ".parquet",
                "volume classes spacing affine records", packages=("pyarrow",),
                reads=False),
    ]
)  # fmt: skip
"""Every format by its name. Of those that share a suffix, the first is meant where only
the suffix is given."""


def format_for(path: str | os.PathLike[str], name: str | None = None) -> Format:
    """Return the format of a name, or else the one that a path's suffix means.

    Raises
    ------
    ExportError
        If there is none; the message lists what there is.

    Examples
    --------
    >>> format_for("cells.ome.tif").name
    'ome_tiff'
    >>> format_for("cells.json").title
    'COCO JSON'
    """
    if name is not None:
        if name not in FORMATS:
            raise ExportError(
                f"there is no format {name!r}{did_you_mean(name, FORMATS)}: choose one "
                f"of {', '.join(FORMATS)}"
            )
        return FORMATS[name]
    found = formats_of(path)
    if not found:
        known = ", ".join(sorted({s for f in FORMATS.values() for s in f.suffixes}))
        raise ExportError(
            f"the suffix of {Path(path).name!r} names no format"
            f"{did_you_mean(Path(path).suffix, known.split(', '))}: use one of "
            f"{known}, or name a format ({', '.join(FORMATS)})"
        )
    return found[0]


def formats_of(path: str | os.PathLike[str]) -> list[Format]:
    """Return the formats that a path's suffix may mean, the usual one first."""
    name = Path(path).name.lower()
    suffixes = [s for f in FORMATS.values() for s in f.suffixes if name.endswith(s)]
    longest = max(suffixes, key=len, default="")
    return [f for f in FORMATS.values() if longest in f.suffixes]


def write(
    path: str | os.PathLike[str],
    results: Results,
    format: str | None = None,  # noqa: A002
    *,
    reviewed_only: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> list[str]:
    """Write results to a file; it is there whole or not at all.

    Parameters
    ----------
    path : path-like
    results : Results
    format : str, optional
        Name of a format, where the suffix does not say.
    reviewed_only : bool
        Leave out objects that nobody has accepted.
    overwrite : bool
        Replace labels that are there as a folder. Files are replaced in any case.
    **options
        Of the format; see its page.

    Returns
    -------
    list of str
        What the file cannot hold, one sentence each; empty when it holds all.

    Raises
    ------
    ExportError
        If there is no such format, a package is missing, the format cannot hold what
        is needed to find the objects again, or the path cannot be written.
    """
    target, chosen = Path(path).expanduser(), format_for(path, format)
    check_holds(chosen, results.volume)
    module = chosen.load()
    options = {**dict(chosen.options), **options}
    _check_options(chosen, module.write, options)
    results = results.reviewed() if reviewed_only else results
    if overwrite and "overwrite" in signature(module.write).parameters:
        options["overwrite"] = True
    with refused_as(
        ExportError,
        f"{str(target)!r} cannot be written as {chosen.title}",
        "check that there is space left, or choose another format",
    ):
        told = module.write(target, results, **options)
    return [*losses(chosen, results), *told]


def read(
    path: str | os.PathLike[str],
    volume: Volume,
    format: str | None = None,  # noqa: A002
    **options: Any,
) -> Results:
    """Read labels and what is known of the objects in them, from a file of any format.

    Parameters
    ----------
    path : path-like
    volume : Volume
        The image that they belong to.
    format : str, optional
        Name of a format, where neither the suffix nor the content says.
    **options
        Of the format; see its page.

    Returns
    -------
    Results
        Labels of the volume's shape; `Results.notes` says what was left out.

    Raises
    ------
    VolumeError
        If the file is not of the format, is damaged, or belongs to another image.
    ExportError
        If there is no such format, or a package is missing.
    """
    target = Path(path).expanduser()
    chosen = format_for(path, format) if format else _recognised(target)
    if not chosen.reads:
        raise VolumeError(
            f"{chosen.title} holds no pixels: it cannot be read as labels"
        )
    module = chosen.load()
    _check_options(chosen, module.read, options)
    if not target.exists():
        raise VolumeError(f"there is no file {str(target)!r}: check the path")
    with refused_as(
        VolumeError,
        f"{str(target)!r} cannot be read as {chosen.title}",
        "check that it is whole and of this format",
    ):
        found: Results = module.read(target, volume, **options)
    return found


def check_holds(chosen: Format, volume: Volume) -> None:
    """Check that a format can hold the planes and the place of a volume.

    Raises
    ------
    ExportError
        If it cannot; the message names formats that can.
    """
    if "volume" not in chosen.holds and math.prod(volume.shape[:-2]) > 1:
        sizes = " x ".join(str(n) for n in volume.shape[:-2])
        raise ExportError(
            f"{chosen.title} holds one plane, and these labels have {sizes}: choose a "
            f"plane, or {_holding(volume, 'volume')}"
        )
    if "spacing" in chosen.holds and "affine" not in chosen.holds and _turned(volume):
        raise ExportError(
            f"{chosen.title} cannot say that the image is turned, flipped or sheared: "
            f"choose {_holding(volume, 'volume', 'affine')}"
        )


def losses(chosen: Format, results: Results) -> list[str]:
    """Say what of these results a format does not hold, one sentence each."""
    import numpy as np

    volume, told = results.volume, []
    geometry = not np.allclose(volume.affine, np.eye(volume.ndim + 1))
    if geometry and "spacing" not in chosen.holds:
        told.append(
            f"{chosen.title} counts in pixels: pixel sizes and position are not in it"
        )
    if volume.crs is not None and "crs" not in chosen.holds:
        told.append(f"{chosen.title} holds no coordinate system: {volume.crs} is lost")
    classes = any(o.class_name for o in results.objects.values())
    if classes and "classes" not in chosen.holds:
        told.append(f"{chosen.title} holds no classes")
    return told


def _holding(volume: Volume, *what: Holds) -> str:
    of_dicom = "frames" in volume.metadata
    names = [
        f.name
        for f in FORMATS.values()
        if set(what) <= f.holds and f.reads and (of_dicom or ".dcm" not in f.suffixes)
    ]
    return f"one of {', '.join(names)}"


def _turned(volume: Volume) -> bool:
    import numpy as np

    linear = np.asarray(volume.affine, float)[:-1, :-1]
    return not np.allclose(linear, np.diag(volume.spacing), rtol=1e-4, atol=1e-9)


def _check_options(
    chosen: Format, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    known = list(signature(function).parameters)[2:]
    if unknown := [name for name in options if name not in known]:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise ExportError(f"{chosen.title} has no option {unknown[0]!r}: {takes}")


def _recognised(path: Path) -> Format:
    """Return the format of a file by its suffix and, where that is not enough, content.

    Raises
    ------
    ExportError, VolumeError
    """
    found = formats_of(path)
    if len(found) < 2 or not path.is_file():
        return format_for(path)
    names = ", ".join(f.name for f in found)
    if not path.name.lower().endswith((".json", ".geojson")):
        for chosen in found:
            if chosen.load().recognises_file(path):
                return chosen
        raise VolumeError(f"{str(path)!r} is of none of the formats {names}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VolumeError(f"{str(path)!r} is no JSON file: {error}") from error
    for chosen in found:
        if chosen.imported().recognises(content):
            return chosen
    raise VolumeError(
        f"{str(path)!r} is JSON of none of the formats {names}: name the format "
        "if it is one of them"
    )
