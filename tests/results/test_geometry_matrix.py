"""Every kind of geometry through every format: same ids, same place in the world.

Where a pixel of the source lies is computed by the program of its field (nibabel,
SimpleITK, rasterio, yaozarrs, napari), and so is where it lies in the written file.
"""

import re
import warnings
from dataclasses import dataclass
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from dicom_phantoms import write_ct_series

from napari_sam import open_volume
from napari_sam.core.objects import ClassList, ObjectClass, ObjectRecord
from napari_sam.errors import ExportError
from napari_sam.results import registry
from napari_sam.results.registry import FORMATS
from napari_sam.results.results import Results

sitk = pytest.importorskip("SimpleITK")
MARKS = 4
"""Objects of one pixel each, whose place is compared."""


@dataclass
class Source:
    """An image, and where its pixels lie in the words of another program."""

    volume: Any
    place: Any
    """Index (in the volume's axes) to world (x, y[, z]), in the source's own world."""
    world: str
    """"RAS" or "LPS" millimetres, or "plain": (x, y[, z]) in the volume's units."""


# -- sources ------------------------------------------------------------------------


def nifti(tmp_path, affine, codes="RAS"):
    image = nibabel.Nifti1Image(np.zeros((7, 8, 5), np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    here = nibabel.orientations.io_orientation(affine)
    to = nibabel.orientations.axcodes2ornt(codes)
    if codes:
        image = image.as_reoriented(nibabel.orientations.ornt_transform(here, to))
    nibabel.save(image, tmp_path / "image.nii.gz")
    saved = nibabel.load(tmp_path / "image.nii.gz")

    def place(index):
        return nibabel.affines.apply_affine(saved.affine, index[::-1])

    return Source(open_volume(tmp_path / "image.nii.gz"), place, "RAS")


STRAIGHT = np.diag([1.5, 1.2, 3, 1.0])
STRAIGHT[:3, 3] = [-40, 25, 310]
TURN, _ = np.linalg.qr([[1, 0.2, -0.1], [-0.25, 1, 0.15], [0.1, -0.1, 1]])
OBLIQUE = STRAIGHT.copy()
OBLIQUE[:3, :3] = TURN * np.sign(np.diag(TURN)) * (1.5, 1.2, 3)
SHEARED = STRAIGHT.copy()
SHEARED[:3, 2] = [0, 0.9, 3]


def dicom(tmp_path, *, step=(0.0, 0.0, 3.0), reverse=False, spacing=None, **tags):
    write_ct_series(tmp_path / "ct", count=4, step=step, **tags)
    if reverse:
        for i, file in enumerate(sorted((tmp_path / "ct").iterdir(), reverse=True)):
            file.rename(tmp_path / "ct" / f"z{i:03d}.dcm")
    options = {} if spacing is None else {"spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = open_volume(tmp_path / "ct", **options)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(sorted(map(str, (tmp_path / "ct").iterdir())))
    slices = [sitk.ReadImage(f) for f in reader.GetFileNames()]
    arrays = [sitk.GetArrayFromImage(s)[0] for s in slices]

    def place(index):
        z, y, x = map(int, index)
        plane = np.asarray(volume.levels[0][z])
        found = next(i for i, a in enumerate(arrays) if np.array_equal(a, plane))
        return np.array(slices[found].TransformIndexToPhysicalPoint((x, y, 0)))

    return Source(volume, place, "LPS")


def geotiff(tmp_path, transform):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "map.tif", "w", driver="GTiff", height=11, width=13, count=1,
        dtype="uint8", crs="EPSG:32633", transform=rasterio.Affine(*transform),
    ) as out:  # fmt: skip
        out.write(np.arange(143, dtype=np.uint8).reshape(1, 11, 13))
    dataset = rasterio.open(tmp_path / "map.tif")
    volume = open_volume(tmp_path / "map.tif")

    def place(index):
        return np.array(dataset.xy(index[0], index[1]), float).ravel()

    return Source(volume, place, "plain")


def ome_zarr(tmp_path, scale, translation=None):
    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    group.create_array("0", data=np.zeros((5, 8, 7), np.uint16))
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": scale}]
    if translation:
        steps.append({"type": "translation", "translation": translation})
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"name": "image", "axes": axes,
             "datasets": [{"path": "0", "coordinateTransformations": steps}]}
        ],
    }  # fmt: skip
    return Source(
        open_volume(tmp_path / "image.zarr"), stated_by_zarr(tmp_path / "image.zarr"),
        "plain",
    )  # fmt: skip


def stated_by_zarr(path):
    """Where yaozarrs' models say that the pixels of an OME-Zarr lie."""
    from yaozarrs import v05

    attrs = dict(zarr.open_group(path, mode="r").attrs)["ome"]
    model = v05.Image if "image-label" not in attrs else v05.LabelImage
    steps = model(**attrs).multiscales[0].datasets[0].coordinateTransformations
    scale = np.array(steps[0].scale)
    shift = np.array(steps[1].translation) if len(steps) > 1 else 0 * scale
    return lambda index: (np.asarray(index) * scale + shift)[::-1]


def layer(tmp_path, **options):
    from napari.layers import Image

    shown = Image(np.zeros((9, 12), np.uint8), **options)
    return Source(
        open_volume(shown), lambda i: np.array(shown.data_to_world(i))[::-1], "plain"
    )


SOURCES = {
    "nifti axial": lambda p: nifti(p, STRAIGHT),
    "nifti sagittal": lambda p: nifti(p, STRAIGHT, "ASR"),
    "nifti coronal": lambda p: nifti(p, STRAIGHT, "RSA"),
    "nifti oblique": lambda p: nifti(p, OBLIQUE),
    "nifti flipped": lambda p: nifti(p, STRAIGHT, "LPS"),
    "nifti sheared": lambda p: nifti(p, SHEARED, ""),
    "dicom axial": lambda p: dicom(p),
    "dicom sagittal": lambda p: dicom(
        p, step=(2.5, 0, 0), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]
    ),
    "dicom oblique": lambda p: dicom(
        p, step=(0, -1.8, 2.4), ImageOrientationPatient=[1, 0, 0, 0, 0.8, 0.6]
    ),
    "dicom reversed": lambda p: dicom(p, step=(0, 0, -3.0), reverse=True),
    "dicom tilted gantry": lambda p: dicom(p, step=(0, 0.7, 3.0)),
    "dicom stale spacing": lambda p: dicom(p, SpacingBetweenSlices=5.0),
    "dicom uneven": lambda p: dicom(
        p, spacing="positions",
        ImagePositionPatient=lambda k: [-100, -90, (0, 3, 6, 13)[k]],
    ),
    "geotiff north-up": lambda p: geotiff(p, (10, 0, 5e5, 0, -10, 5e6)),
    "geotiff rotated": lambda p: geotiff(p, (8, 6, 5e5, 6, -8, 5e6)),
    "geotiff of half metres": lambda p: geotiff(p, (0.5, 0, 5e5, 0, -0.5, 5e6)),
    "ome-zarr scaled": lambda p: ome_zarr(p, [2.0, 0.5, 0.25]),
    "ome-zarr translated": lambda p: ome_zarr(p, [2.0, 0.5, 0.5], [10.0, 1200, 3400]),
    "ome-zarr mirrored": lambda p: ome_zarr(p, [2.0, -0.5, 0.5], [10.0, 1200, 3400]),
    "napari rotated": lambda p: layer(
        p, rotate=30, scale=(2, 3), translate=(50, -20), units="um"
    ),
}  # fmt: skip


# -- where the pixels of a written file lie ------------------------------------------


def by_nibabel(path, _):
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    values = values.reshape((*values.shape, 1)[:3])
    return "RAS", lambda i: nibabel.affines.apply_affine(
        image.affine, np.argwhere(values == i)[0]
    )


def by_itk(path, source):
    if "sheared" in source or "tilted" in source:  # ITK opens none of these
        import nrrd

        values, header = nrrd.read(str(path))
        return (
            "LPS",
            lambda i: (
                np.argwhere(values == i)[0] @ header["space directions"]
                + header["space origin"]
            ),
        )
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image)

    def place(i):
        at = np.argwhere(values == i)[0][::-1]
        return np.array(image.TransformIndexToPhysicalPoint(at.tolist()))

    return "LPS", place


def by_highdicom(path, source):
    import highdicom

    seg = highdicom.seg.segread(path)
    if not any(word in source for word in ("uneven", "tilted")):
        assert seg.get_volume(combine_segments=True, relabel=False) is not None
    shared = seg.SharedFunctionalGroupsSequence[0]

    def place(i):
        (number,) = seg.get_segment_numbers(tracking_id=f"object {i}")
        for frame, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
            named = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            if named == number:
                pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)[frame]
                row, column = np.argwhere(pixels)[0]
                to_world = highdicom.spatial.PixelToReferenceTransformer(
                    groups.PlanePositionSequence[0].ImagePositionPatient,
                    shared.PlaneOrientationSequence[0].ImageOrientationPatient,
                    shared.PixelMeasuresSequence[0].PixelSpacing,
                )
                return to_world(np.array([[column, row]]))[0]

    return "LPS", place


def by_pydicom(path, _):
    import pydicom

    ds = pydicom.dcmread(path)
    items = {int(i.ReferencedROINumber): i for i in ds.ROIContourSequence}
    for item in items.values():
        for contour in item.ContourSequence:
            element = contour["ContourData"]
            assert all(len(str(v)) <= 16 for v in element.value)

    def place(i):
        (contour,) = items[i].ContourSequence  # one pixel: a square
        return np.array(contour.ContourData, float).reshape(4, 3).mean(0)

    return "LPS", place


def by_tifffile(path, _):
    with tifffile.TiffFile(path) as tif:
        found = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        values = tif.asarray()
    planes = found.get("Plane", {})
    first = planes[0] if isinstance(planes, (list, tuple)) else planes
    names = "zyx"[-values.ndim :].upper()
    scale = [found.get(f"PhysicalSize{a}", 1.0) for a in names]
    shift = [first.get(f"Position{a}", 0.0) for a in names]
    return "plain", lambda i: (np.argwhere(values == i)[0] * scale + shift)[::-1]


def by_yaozarrs(path, _):
    values = np.asarray(zarr.open_group(path, mode="r")["0"][:])
    place = stated_by_zarr(path)
    return "plain", lambda i: place(np.argwhere(values == i)[0])


def by_geopandas(path, _):
    import geopandas

    table = geopandas.read_file(path)
    shapes = dict(zip(table["object_id"], table.geometry, strict=True))
    return "plain", lambda i: np.array(shapes[i].centroid.coords[0])


ORACLES = {
    "nifti": by_nibabel, "nrrd": by_itk, "seg_nrrd": by_itk,
    "dicom_seg": by_highdicom, "rtstruct": by_pydicom, "ome_tiff": by_tifffile,
    "ome_zarr": by_yaozarrs,
}  # fmt: skip
FLAT_ORACLES = {"geopackage": by_geopandas, "flatgeobuf": by_geopandas}
"""For images that are no volumes: shapes on maps have no third axis."""
MILLIMETRES = {"millimeter": 1.0, "micrometer": 1e-3, "meter": 1e3, "pixel": 1.0}


def in_world(point, world, wanted, unit):
    """A point of one world in another; plain worlds have no directions."""
    point = np.asarray(point, float)
    if world == wanted:
        return point
    if world == "plain" and wanted != "plain":
        out = np.zeros(3)
        out[: len(point)] = point * MILLIMETRES[unit]
        return out if wanted == "RAS" else out * (-1, -1, 1)
    if wanted == "plain":  # files in the image's own world
        return point
    return point * (-1, -1, 1)


def marked(volume):
    """Labels with blobs, and some objects of one pixel at far corners."""
    rng = np.random.default_rng(5)
    labels = np.zeros(volume.shape, np.uint16)
    inner = (..., *(slice(1, min(n - 1, 9)) for n in volume.shape[-2:]))
    labels[inner] = rng.integers(0, 3, labels[inner].shape)
    last = np.array(volume.shape) - 1
    marks = {}
    for i in range(MARKS):
        corner = [n if i >> a & 1 else 0 for a, n in enumerate(last[-2:])]
        lead = [(i * 2) % n for n in volume.shape[:-2]]
        marks[101 + i] = (*lead, *corner)
        labels[marks[101 + i]] = 101 + i
    return labels, marks


NAMES = "|".join(FORMATS).replace("_", "[_. -]") + "|seg.nrrd|GeoPackage"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SOURCES)
def test_labels_come_back_in_the_same_place(name, tmp_path):
    source = SOURCES[name](tmp_path)
    volume = source.volume
    labels, marks = marked(volume)
    liver = ObjectClass("liver", "#aa3344", {"SCT": "10200004"})
    objects = {1: ObjectRecord(1, name="left lobe", class_name="liver")}
    results = Results(labels, volume, objects, ClassList((liver,)))
    written = []
    for chosen in FORMATS.values():
        path = tmp_path / f"{chosen.name}{chosen.suffixes[0]}"
        try:
            told = registry.write(path, results, chosen.name)
        except ExportError as error:
            assert re.search(NAMES, str(error), re.IGNORECASE), error
            assert not path.exists()
            continue
        if not chosen.reads:
            continue
        written.append(chosen.name)
        back = registry.read(path, volume, chosen.name)
        np.testing.assert_array_equal(np.asarray(back.labels[...]), labels, chosen.name)
        if "classes" in chosen.holds:
            assert back.record(1).class_name == "liver", chosen.name
            assert back.classes.get("liver").codes == {"SCT": "10200004"}, chosen.name
        flat = FLAT_ORACLES if volume.ndim == 2 else {}
        oracle = ORACLES.get(chosen.name) or flat.get(chosen.name)
        if "spacing" not in chosen.holds:
            assert any("counts in pixels" in t for t in told), chosen.name
        elif oracle and not any("rotation" in t for t in told):
            check_places(oracle(path, name), source, marks)
        if chosen.name == "ome_zarr":  # what others cannot read of it, we do
            np.testing.assert_allclose(open_volume(path).affine, volume.affine)
    assert len(written) >= 4 or "uneven" in name, written


def check_places(stated, source, marks):
    world, place = stated
    volume = source.volume
    pixel = min(volume.spacing) * MILLIMETRES.get(volume.units[-1], 1.0)
    for object_id, index in marks.items():
        expected = in_world(source.place(index), source.world, world, volume.units[-1])
        got = np.asarray(place(object_id), float)
        n = min(len(got), len(expected))
        off = np.abs(got[:n] - expected[:n]).max()
        scale = pixel if world != "plain" else min(volume.spacing)
        assert off < 0.06 * scale, (object_id, got, expected)


def test_what_each_format_holds_of_each_geometry(tmp_path):
    """The writers that refuse: no other may."""
    refused = {}
    for name, make in SOURCES.items():
        (folder := tmp_path / name).mkdir()
        volume = make(folder).volume
        results = Results(marked(volume)[0], volume)
        for format_name in ORACLES:
            path = folder / f"out{FORMATS[format_name].suffixes[0]}"
            try:
                registry.write(path, results, format_name)
            except ExportError:
                refused.setdefault(name, set()).add(format_name)
    dicom_only = {"dicom_seg", "rtstruct"}
    turned = {"ome_tiff"}
    expected = {
        "nifti axial": dicom_only,
        "nifti sagittal": dicom_only | turned,
        "nifti coronal": dicom_only | turned,
        "nifti oblique": dicom_only | turned,
        "nifti flipped": dicom_only | turned,
        "nifti sheared": dicom_only | turned,
        "dicom sagittal": turned,
        "dicom oblique": turned,
        "dicom tilted gantry": turned,
        "dicom uneven": {"ome_zarr", "ome_tiff", "nifti", "nrrd", "seg_nrrd"},
        "geotiff north-up": dicom_only | turned,
        "geotiff rotated": dicom_only | turned,
        "geotiff of half metres": dicom_only | turned | {"nifti"},
        "ome-zarr scaled": dicom_only,
        "ome-zarr translated": dicom_only,
        "ome-zarr mirrored": dicom_only | turned,
        "napari rotated": dicom_only | turned,
    }
    assert refused == expected
