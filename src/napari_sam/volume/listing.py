"""The images of a folder, to be gone through one after another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import VolumeError
from napari_sam.volume.formats.detect import SUFFIXES, ZARR_FILES, describe_folder
from napari_sam.volume.formats.slices import natural

if TYPE_CHECKING:
    import os

_HEADS = {".img": ".hdr", ".img.gz": ".hdr"}
"""Files of pixels, and the file beside them that describes them and is opened."""


def images_in(folder: str | os.PathLike[str]) -> list[Path]:
    """List the images right in a folder, "a2" before "a10".

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of Path
        Files of a known format, zarr folders and folders of DICOM files. A folder whose
        own files are slices of DICOM is one image: itself.

    Raises
    ------
    VolumeError
        If it is no folder, or holds no image.
    """
    from napari_sam.volume.formats.dicom_files import folder_holds_dicom, holds_dicom

    place = Path(folder).expanduser()
    if not place.is_dir():
        raise VolumeError(f"{str(folder)!r} is no folder: name one that holds images")
    found, slices = [], False
    for path in place.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            zarr = any((path / name).exists() for name in ZARR_FILES)
            if zarr or (not path.suffix and folder_holds_dicom(path)):
                found.append(path)
        elif path.suffix.lower() in (".dcm", ".dicom", ".ima") or not path.suffix:
            slices = slices or holds_dicom(path)
        elif path.name.lower().endswith(tuple(SUFFIXES)) and not _is_described(path):
            found.append(path)
    if slices:
        found.append(place)
    if not found:
        raise VolumeError(
            f"{str(place)!r} holds no image that napari-sam opens: "
            f"{describe_folder(place)}"
        )
    return sorted(found, key=lambda p: natural(p.name))


def stem_of(path: Path) -> str:
    """Name of a file without all that its format adds.

    Examples
    --------
    >>> stem_of(Path("a/b.c.nii.gz")), stem_of(Path("b.ome.tif"))
    ('b.c', 'b')
    """
    name = path.name
    for suffix in sorted([*SUFFIXES, ".zarr", ".nsam"], key=len, reverse=True):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return name[:-4] if name.lower().endswith(".ome") else name


def _is_described(path: Path) -> bool:
    """Whether a file is the pixels of another one beside it."""
    for suffix, head in _HEADS.items():
        if path.name.lower().endswith(suffix):
            return path.with_name(path.name[: -len(suffix)] + head).exists()
    return False
