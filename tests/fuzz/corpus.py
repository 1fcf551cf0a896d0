"""Small real files of every kind that is read, for mutation."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from napari_sam.errors import NapariSamError
from napari_sam.results.registry import FORMATS, write
from napari_sam.results.results import Results
from napari_sam.volume.opening import open_volume

DICOM = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "JPEG2000.dcm", "examples_palette.dcm", "rtstruct.dcm", "no_meta.dcm",
    "image_dfl.dcm", "liver_1frame.dcm",
)  # fmt: skip
LARGEST = 200_000
"""Bytes of the largest file that is mutated."""


@dataclass(frozen=True)
class Sample:
    """A file or folder and what reads it: volume, results or checkpoint."""

    name: str
    path: Path
    reader: str
    format: str = ""


def build(folder: Path) -> list[Sample]:
    """Write the files and say what reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in (_pictures, _tiffs, _rasters, _nifti, _dicom, _zarrs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(folder / "volume")
    _results(folder / "results")
    _checkpoints(folder / "checkpoint")
    return listed(folder)


def listed(folder: Path) -> list[Sample]:
    """Say what reads each of the files that were written."""
    samples = []
    for path in sorted((folder / "volume").iterdir()):
        samples.append(Sample(path.name, path, "volume"))
    for path in sorted((folder / "checkpoint").iterdir()):
        samples.append(Sample(path.name, path, "checkpoint"))
    for path in sorted((folder / "results").iterdir()):
        samples.append(Sample(path.name, path, "results", path.name.split(".")[0]))
    return [s for s in samples if s.path.is_dir() or s.path.stat().st_size < LARGEST]


def _values(*shape, dtype="u1"):
    rng = np.random.default_rng(len(shape))
    return rng.integers(0, 255, shape).astype(dtype)


def _pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rgb, grey = Image.fromarray(_values(24, 32, 3)), Image.fromarray(_values(24, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rgb.jpg", exif=exif)
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    grey.save(folder / "grey.png")
    rgb.save(folder / "rgb.png", exif=exif)
    rgb.convert("P").save(folder / "palette.png")
    Image.fromarray(_values(24, 32, dtype="u2")).save(folder / "deep.png")
    rgb.convert("RGBA").save(folder / "moving.png", save_all=True, append_images=[rgb])
    grey.save(folder / "moving.gif", save_all=True, append_images=[rgb, grey])
    rgb.save(folder / "a.webp", exif=exif)
    for suffix in ("bmp", "ppm", "tga"):
        rgb.save(folder / f"a.{suffix}")
    np.save(folder / "a.npy", _values(3, 24, 32, dtype="u2"))


def _tiffs(folder):
    import tifffile

    tifffile.imwrite(
        folder / "a.ome.tif", _values(2, 3, 24, 32, dtype="u2"),
        metadata={"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeZ": 2.0,
                  "Channel": {"Name": ["a", "b", "c"]}},
    )  # fmt: skip
    tifffile.imwrite(
        folder / "imagej.tif", _values(4, 24, 32), imagej=True, resolution=(2, 2),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": "um"},
    )  # fmt: skip
    tifffile.imwrite(
        folder / "tiled.tif", _values(40, 48), tile=(16, 16), compression="zlib",
        extratags=[(274, "H", 1, 6, True)],
    )  # fmt: skip
    tifffile.imwrite(folder / "rgba.tif", _values(24, 32, 4), photometric="rgb",
                     extrasamples=["unassalpha"])  # fmt: skip
    table = _values(3, 256, dtype="u2") * 257
    tifffile.imwrite(folder / "palette.tif", _values(24, 32), photometric="palette",
                     colormap=table)  # fmt: skip
    tifffile.imwrite(
        folder / "bits.tif", _values(24, 32) > 99, photometric="miniswhite"
    )
    with tifffile.TiffWriter(folder / "pyramid.tif") as out:
        out.write(_values(64, 64), subifds=1, tile=(16, 16))
        out.write(_values(32, 32), subfiletype=1, tile=(16, 16))
    image = Image.fromarray(_values(24, 32, 3))
    for mode in ("CMYK", "LAB", "YCbCr"):
        image.convert(mode).save(folder / f"{mode.lower()}.tif")


def _rasters(folder):
    try:
        import rasterio
    except ImportError:
        return
    place = rasterio.Affine(10, 1, 500_000, 1, -10, 5_200_000)
    with rasterio.open(
        folder / "geo.tif", "w", driver="GTiff", width=64, height=48, count=4,
        dtype="uint16", crs="EPSG:32633", transform=place, nodata=0, tiled=True,
        blockxsize=16, blockysize=16,
    ) as out:  # fmt: skip
        out.write(_values(4, 48, 64, dtype="u2"))
        out.scales = (0.5,) * 4
        out.build_overviews([2])


def _nifti(folder):
    try:
        import nibabel
    except ImportError:
        return
    affine = np.array([[2, 0.1, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(_values(10, 12, 14, dtype="i2"), affine)
    image.header.set_slope_inter(2, 1)
    for name in ("a.nii", "a.nii.gz"):
        nibabel.save(image, folder / name)
    nibabel.save(
        nibabel.Nifti2Image(_values(6, 7, 8, 3, dtype="f4"), affine), folder / "b.nii"
    )
    nibabel.save(
        nibabel.MGHImage(_values(6, 7, 8), affine.astype("f4")), folder / "a.mgz"
    )
    colour = np.zeros((6, 7, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, affine), folder / "rgb.nii")


def _dicom(folder):
    from pydicom.data import get_testdata_file

    for name in DICOM:
        found = get_testdata_file(name, download=False)
        if found:
            shutil.copy(found, folder / name)


def _zarrs(folder):
    import zarr

    for version, fmt in (("0.4", 2), ("0.5", 3), ("0.6", 3)):
        path = folder / f"v{version}.zarr"
        _ome_zarr(zarr.open_group(path, mode="w", zarr_format=fmt), version)
    plate = zarr.open_group(folder / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}], "version": "0.4"}
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}]}
    _ome_zarr(well.create_group("0"), "0.4")
    shutil.make_archive(str(folder / "zipped.zarr"), "zip", folder / "v0.4.zarr")


def _ome_zarr(group, version):
    group.create_array("0", shape=(3, 24, 32), dtype="u2", chunks=(1, 16, 16))[:] = (
        _values(3, 24, 32, dtype="u2")
    )
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    scale = {"type": "scale", "scale": [2, 0.5, 0.5]}
    dataset = {"path": "0", "coordinateTransformations": [scale]}
    entry = {"name": "im", "axes": axes, "datasets": [dataset]}
    if version == "0.6":
        del entry["axes"]
        entry["coordinateSystems"] = [{"name": "world", "axes": axes}]
        dataset["coordinateTransformations"] = [
            {"type": "sequence", "input": "0", "output": "world",
             "transformations": [scale, {"type": "identity"}]}
        ]  # fmt: skip
    omero = {"channels": [{"label": "a"}]}
    ome = {"multiscales": [entry], "omero": omero}
    if version == "0.4":
        group.attrs.update(ome)
    else:
        group.attrs["ome"] = {"version": version, **ome}


def target():
    """Return the image that results are read onto."""
    return open_volume(np.broadcast_to(np.zeros((), np.uint8), (24, 32)))


def _results(folder):
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((24, 32), np.uint16)
    labels[2:10, 3:12], labels[15:20, 20:30] = 1, 2
    for name, format_ in FORMATS.items():
        if not format_.missing:
            path = folder / f"{name}{format_.suffixes[0]}"
            try:
                write(path, Results(labels, target()), name)
            except NapariSamError:  # formats that hold nothing of a plain 2-D image
                continue


def _checkpoints(folder):
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.ones(3)}
    save_file(state, folder / "a.safetensors", metadata={"model": "nano"})
    torch.save({"state_dict": state, "epoch": 3}, folder / "zip.pt")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    (folder / "odd.pt").write_text(json.dumps({"a": 1}))
