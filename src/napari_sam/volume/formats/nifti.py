"""Open NIfTI and MGH files, slice by slice, with their affine in (z, y, x) order."""

from __future__ import annotations

import gzip
import struct
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import SeriesError, VolumeError
from napari_sam.volume.arrays import assemble
from napari_sam.volume.layout import Layout
from napari_sam.volume.lazy_arrays import LazyArray
from napari_sam.volume.whole import check_memory

if TYPE_CHECKING:
    from napari_sam.volume.volume import Volume

_LABEL = 1002
"""NIfTI's intent of label maps."""
UNITS = {
    "mm": "millimeter", "micron": "micrometer", "meter": "meter", "sec": "second",
    "msec": "millisecond", "usec": "microsecond",
}  # fmt: skip


_AGREED = 1e-3
"""How far two sizes in one header may differ, relatively."""


def open_nifti(
    path: str, *, axes: Any = None, channels: Any = None, series: Any = None
) -> Volume:
    """Open a NIfTI-1, NIfTI-2, Analyze or MGH file.

    The stored (x, y, z, t) array is seen as (t, z, y, x), and the affine leads from
    (z, y, x) indices to the (z, y, x) of the file's own world (RAS for NIfTI).

    Parameters
    ----------
    path : str
    axes : str, optional
        Names in the stored order, which begins with x.
    channels
        As in `open_volume`.
    """
    try:
        import nibabel
        from nibabel.filebasedimages import ImageFileError
    except ImportError as error:
        raise VolumeError(f"{path!r} needs nibabel: pip install nibabel") from error
    if series is not None:
        raise SeriesError(f"{path!r} holds one image: leave series= out")
    _check_extensions(path)
    try:
        image = nibabel.load(path)
    except (ImageFileError, OSError, ValueError) as error:
        raise VolumeError(f"{path!r} is not a whole NIfTI file: {error}") from error
    array = NiftiArray(path, image)
    notes: list[str] = []
    return assemble(
        [array], _layout(image, array, notes), axes=axes, channels=channels,
        notes=notes, name=Path(path).name.split(".")[0], source=path,
        metadata={
            "coordinates": "RAS", "nifti_affine": image.affine.tolist(),
            "labels": _intent(image) == _LABEL, **_stated(image),
        },
    )  # fmt: skip


def _check_extensions(path: str) -> None:
    """Refuse header extensions that claim more than lies before the pixels.

    nibabel asks for as much memory as an extension claims, up to 2 GB.
    """
    opener: Any = gzip.open if path.lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            start = file.read(544)
            order, size = "<", int(_number(start[:4], "<i"))
            if size not in (348, 540):
                order, size = ">", int(_number(start[:4], ">i"))
            if size not in (348, 540):
                return
            magic = start[344:348] if size == 348 else start[4:8]
            if magic[:3] not in (b"n+1", b"n+2") or not any(start[size : size + 1]):
                return
            place, kind = (108, "f") if size == 348 else (168, "q")
            pixels = _number(start[place : place + struct.calcsize(kind)], order + kind)
            at = size + 4
            while at + 16 <= pixels:
                file.seek(at)
                length = int(_number(file.read(4), order + "i"))
                if length < 8 or at + length > pixels:
                    raise VolumeError(
                        f"{path!r} has a header extension of {length} bytes where "
                        f"{int(pixels) - at} lie before the pixels: the file is "
                        "damaged, copy it again"
                    )
                at += length
    except (OSError, EOFError, zlib.error) as error:
        raise VolumeError(f"{path!r} is not a whole NIfTI file: {error}") from error


def _number(part: bytes, kind: str) -> float:
    size = struct.calcsize(kind)
    return struct.unpack(kind, part)[0] if len(part) == size else 0


def _stated(image: Any) -> dict[str, Any]:
    """Whether a header says where the pixels lie, and where its other affine puts them.

    A header has two affines, and programs disagree about which of them counts.
    """
    header = image.header
    if "sform_code" not in header:
        return {}
    codes = int(header["sform_code"]), int(header["qform_code"])
    out: dict[str, Any] = {"placed": any(codes)}
    if all(codes):
        out["nifti_qform"] = header.get_qform().tolist()
    return out


def _intent(image: Any) -> int:
    """What the values mean, by the number of NIfTI's intent; 0 where it is not said."""
    header = image.header
    return int(header["intent_code"]) if "intent_code" in header else 0


def _layout(image: Any, array: NiftiArray, notes: list[str]) -> Layout:
    shape = image.shape
    names = list("xyzt"[: min(len(shape), 4)])
    # The fifth axis holds vectors; more axes have no meaning that is agreed upon.
    names += ["c" if i == 4 else f"d{i}" for i in range(4, len(shape))]
    if array.is_rgb:
        names += ["s"]
    zooms = dict(zip(names, _stored_zooms(image), strict=False))
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    for name, size in zip("xyz", map(float, sizes), strict=True):
        # A header may say two things of a size; the affine is what places it.
        if name in zooms and _is_placed(image) and np.isfinite(size) and size > 0:
            if not abs(zooms[name] - size) <= _AGREED * size:
                notes.append(
                    f"its header gives the size of a voxel along {name} as "
                    f"{zooms[name]:g}, and as {size:g} in its affine: the affine counts"
                )
                zooms[name] = size
    # Lengths of time and of further axes are often left at zero.
    spacing = {n: z for n, z in zooms.items() if n in "xyz" or (z > 0 and n != "c")}
    units = _units(image)
    return Layout(
        axes=tuple(names), spacing=spacing,
        units={n: units["t" if n == "t" else "xyz"] for n in spacing},
        affine=_affine(image.affine, len(shape) - ("c" in names), spacing),
        rgb=array.is_rgb,
    )  # fmt: skip


def _stored_zooms(image: Any) -> list[float]:
    """Sizes as they are stored: nibabel takes those that cannot be for 1."""
    zooms = [float(z) for z in image.header.get_zooms()]
    header = getattr(image.file_map.get("header"), "filename", None)
    if "pixdim" not in image.header or not (header or image.get_filename()):
        return zooms
    from nibabel.openers import ImageOpener

    with ImageOpener(header or image.get_filename()) as file:
        stored = type(image.header).from_fileobj(file, check=False)["pixdim"]
    return [abs(float(z)) for z in stored[1 : len(zooms) + 1]]


def _is_placed(image: Any) -> bool:
    """Whether the affine is stored, rather than made of the sizes."""
    codes = ("sform_code", "qform_code")
    return any(c in image.header and image.header[c] > 0 for c in codes)


def _units(image: Any) -> dict[str, str]:
    read = getattr(image.header, "get_xyzt_units", lambda: ("mm", "sec"))
    space, time = read()
    # A header that names no unit of length means millimetres to every reader.
    return {"xyz": UNITS.get(space, "millimeter"), "t": UNITS.get(time, "pixel")}


def _affine(stored: np.ndarray, ndim: int, spacing: dict[str, float]) -> np.ndarray:
    """Extend or cut the 4 x 4 affine to the stored axes (x, y, z, t, ...)."""
    affine = np.eye(ndim + 1)
    n = min(3, ndim)
    affine[:n, :n] = stored[:n, :n]
    affine[:n, -1] = stored[:n, 3]
    if ndim > 3:
        affine[3, 3] = spacing.get("t", 1.0)
    return affine


class NiftiArray(LazyArray):
    """The stored array of a NIfTI file, scaled as its header says.

    A plain file is read where it is looked at. A compressed one has no way to reach a
    slice but through all before it, so it is decompressed once, at the first look.
    """

    def __init__(self, path: str, image: Any) -> None:
        self.path, self._proxy = path, image.dataobj
        stored = np.dtype(self._proxy.dtype)
        self.is_rgb = stored.fields is not None
        slope, inter = self._proxy.slope, self._proxy.inter
        self.scaled = not self.is_rgb and (slope, inter) != (1, 0)
        shape = tuple(image.shape)
        if self.is_rgb:
            super().__init__((*shape, len(stored.fields or ())), np.uint8)
        else:
            single = stored.itemsize <= 2 or stored == np.float32
            wide = np.float32 if single else np.float64
            super().__init__(shape, wide if self.scaled else stored)
        self._whole: np.ndarray | None = None
        self._lock = threading.Lock()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """Read a block in the stored order."""
        if self.is_rgb:
            stored = self._values(spans[:-1])
            parts = [stored[name] for name in stored.dtype.names or ()]
            return np.stack(parts, axis=-1)[..., spans[-1]]
        return self._values(spans).astype(self.dtype, copy=False)

    def _values(self, spans: tuple[slice, ...]) -> np.ndarray:
        if not self.path.endswith((".gz", ".mgz", ".bz2", ".zst")):
            return np.asarray(self._proxy[spans])
        with self._lock:
            if self._whole is None:
                check_memory(self.path, self.nbytes)
                self._whole = np.asarray(self._proxy.get_unscaled())
        values = self._whole[spans]
        if not self.scaled:
            return values
        return values * float(self._proxy.slope) + float(self._proxy.inter)
