"""Which opener reads a path: by what is in it, else by its suffix."""

from __future__ import annotations

import zipfile
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_sam.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""Files that make a folder a zarr."""

SUFFIXES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            ".tif",
            ".tiff",
            ".btf",
            ".tf8",
            ".lsm",
            ".stk",
            ".svs",
            ".ndpi",
            ".scn",
            ".qptiff",
        ),
        ("tiff", "open_tiff"),
    ),
    **dict.fromkeys(
        (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".mgz", ".mgh"),
        ("nifti", "open_nifti"),
    ),
    **dict.fromkeys(
        (
            ".png",
            ".apng",
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".bmp",
            ".gif",
            ".webp",
            ".avif",
            ".ppm",
            ".pgm",
            ".pbm",
            ".pnm",
            ".tga",
        ),
        ("pictures", "open_picture"),
    ),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), ("dicom", "open_dicom")),
    ".npy": ("npy", "open_npy"),
    ".companion.ome": ("tiff", "open_companion"),
    **dict.fromkeys((".vrt", ".jp2"), ("geotiff", "open_geo")),
    ".zip": ("ome_zarr", "open_zarr"),
}
"""Module and function for each file suffix."""

KNOWN = (
    "OME-Zarr and zarr folders, DICOM folders and files, TIFF/OME-TIFF, GeoTIFF/COG, "
    "NIfTI, PNG, JPG and NPY, and folders of TIFF or PNG slices"
)


def opener_for(path: Path) -> Callable[..., Any]:
    """Return the function that opens a local path.

    Raises
    ------
    VolumeError
        If no format fits.
    """
    if path.is_dir():
        return _folder_opener(path)
    module, function = _sniff(path) or _by_suffix(path)
    return load_opener(module, function)


def opener_for_url(url: str) -> Callable[..., Any]:
    """Return the function that opens a URL: rasters by their suffix, else zarr."""
    name = url.split("?")[0].rstrip("/").lower()
    if name.endswith((".tif", ".tiff", ".vrt", ".jp2")):
        return load_opener("geotiff", "open_geo")
    for suffix, (module, _) in SUFFIXES.items():
        if module != "ome_zarr" and name.endswith(suffix):
            raise VolumeError(
                f"{url!r}: files of this kind are not read over the network. Download "
                "it first, or convert it to OME-Zarr or COG"
            )
    return load_opener("ome_zarr", "open_zarr")


def load_opener(module: str, function: str) -> Callable[..., Any]:
    """Import a format's opener."""
    opener: Callable[..., Any] = getattr(
        import_module(f"napari_sam.volume.formats.{module}"), function
    )
    return opener


def _folder_opener(path: Path) -> Callable[..., Any]:
    if any((path / name).exists() for name in ZARR_FILES):
        return load_opener("ome_zarr", "open_zarr")
    if path.suffix == ".zarr":
        raise VolumeError(
            f"{str(path)!r} is named like a zarr but holds none of "
            f"{', '.join(ZARR_FILES[:3])}: the copy is not complete, or the image lies "
            "in another folder"
        )
    if is_stack(path):
        return load_opener("stack", "open_stack")
    return load_opener("dicom", "open_dicom")


def is_stack(path: Path) -> bool:
    """Whether a folder holds pictures, and no DICOM beside or below them."""
    from napari_sam.volume.formats.dicom_files import folder_holds_dicom
    from napari_sam.volume.formats.slices import slices_in

    return bool(slices_in(path)) and not folder_holds_dicom(path)


def _sniff(path: Path) -> tuple[str, str] | None:
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM":
        return "dicom", "open_dicom"
    if start[:2] == b"PK" and _is_study(path):
        return "dicom", "open_dicom"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from napari_sam.volume.formats.geotiff import is_geotiff

        return (
            ("geotiff", "open_geo") if is_geotiff(str(path)) else ("tiff", "open_tiff")
        )
    if not path.suffix or path.suffix[1:].isdigit():
        from napari_sam.volume.formats.dicom_files import holds_dicom

        # Anonymised DICOM files often lack their mark, and are named by numbers.
        return ("dicom", "open_dicom") if holds_dicom(path) else None
    return None


def _is_study(path: Path) -> bool:
    """Whether a zip archive holds DICOM files, and is no zarr."""
    from napari_sam.volume.formats.dicom_files import holds_dicom

    return not is_zipped_zarr(path) and holds_dicom(path)


def is_zipped_zarr(path: Path) -> bool:
    """Whether a zip archive holds the files of a zarr."""
    try:
        with zipfile.ZipFile(path) as zipped:
            return any(n.rsplit("/", 1)[-1] in ZARR_FILES for n in zipped.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False


def _by_suffix(path: Path) -> tuple[str, str]:
    name = path.name.lower()
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return SUFFIXES[suffix]
    raise VolumeError(
        f"{str(path)!r} is of no known format: napari-sam opens {KNOWN}. For other "
        "formats, open the file with its own reader and pass the array."
    )


def describe_folder(path: Path) -> str:
    """Say in a few words what a folder holds, for error messages."""
    files = [p for p in path.rglob("*") if p.is_file()]
    counts = Counter(p.suffix.lower() or "no suffix" for p in files)
    if not counts:
        return "the folder is empty"
    common = ", ".join(f"{n} x {suffix}" for suffix, n in counts.most_common(3))
    return f"the folder holds {len(files)} files ({common})"
