"""Whole DICOM studies with damaged tags: one reader sees many files at once."""

import json
import random
import struct
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantoms import write_ct_series, write_enhanced_mr, write_phases
from mutations import mutated
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.tag import Tag

from napari_sam.errors import NapariSamError
from napari_sam.volume.inspection import inspect
from napari_sam.volume.opening import open_volume
from napari_sam.volume.series import list_series

VALUES = (
    b"", b"0", b"-1 ", b"nan ", b"1e400 ", b"x", b"1\\2\\3\\4 ", b"99999999999",
    b"\xff\xfe\xfd\xfc", b"0\\0 ", b"-5\\nan", b"1e9\\1e9\\1e9", b"2026-01-01T25:61",
    struct.pack("<H", 0), struct.pack("<H", 65535), b"\0" * 8, b"A" * 70,
)  # fmt: skip
TIME_S = 5.0


def damaged_tags(ds, rng):
    """Remove tags of an open file, or write nonsense into them."""
    for _ in range(rng.randint(1, 4)):
        tags = [e for e in ds.keys() if e.group != 0x7FE0]
        if not tags:
            return
        tag = rng.choice(tags)
        if rng.random() < 0.4:
            del ds[tag]
            continue
        element = ds.get_item(tag)
        vr = str(element.VR or "UN")
        if vr == "SQ":
            items = list(ds[tag].value)
            if items and rng.random() < 0.7:
                damaged_tags(items[rng.randrange(len(items))], rng)
            else:
                ds[tag].value = items[: len(items) // 2]
            continue
        raw = pydicom.dataelem.RawDataElement(
            Tag(tag), vr, 0, rng.choice(VALUES), 0, False, True
        )
        ds._dict[tag] = raw


def rewritten(path, rng):
    ds = pydicom.dcmread(path, force=True)
    damaged_tags(ds, rng)
    out = DicomBytesIO()
    try:
        pydicom.dcmwrite(out, ds, implicit_vr=False, little_endian=True)
    except Exception:  # noqa: BLE001 - not every nonsense can be written
        return mutated(path.read_bytes(), rng, text=False)
    return out.getvalue()


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    write_ct_series(root / "ct", count=5)
    write_phases(root / "cine", [{"TriggerTime": t} for t in (0, 30)], n_z=3)
    (root / "enhanced").mkdir()
    write_enhanced_mr(root / "enhanced" / "mr.dcm", count=4)
    (root / "odd").mkdir()
    for name in ("rtdose.dcm", "examples_palette.dcm", "JPEG2000.dcm", "MR_small.dcm",
                 "SC_rgb_rle_2frame.dcm", "reportsi.dcm"):  # fmt: skip
        data = Path(get_testdata_file(name, download=False)).read_bytes()
        (root / "odd" / name).write_bytes(data)
    return sorted(p for p in root.iterdir())


def damage(study, folder, rng):
    """Copy a study with one to all of its files damaged; sometimes as an archive."""
    files = sorted(p for p in study.rglob("*") if p.is_file())
    hurt = set(rng.sample(files, min(len(files), rng.choice((1, 2, len(files))))))
    data = {}
    for path in files:
        if path not in hurt:
            data[path.name] = path.read_bytes()
        elif rng.random() < 0.6:
            data[path.name] = rewritten(path, rng)
        else:
            data[path.name] = mutated(path.read_bytes(), rng, text=False)
    if rng.random() < 0.2:
        with zipfile.ZipFile(folder / "study.zip", "w") as out:
            for name, content in data.items():
                out.writestr(name, content)
        if rng.random() < 0.5:
            whole = (folder / "study.zip").read_bytes()
            (folder / "study.zip").write_bytes(mutated(whole, rng, text=False))
        return folder / "study.zip"
    for name, content in data.items():
        (folder / name).write_bytes(content)
    return folder


def look(path):
    found = inspect(path)
    json.dumps(found.to_json(), allow_nan=False)
    assert found.lines()
    for info in list_series(path)[:6]:
        if info.problem:
            continue
        volume = info.open()
        json.dumps([volume.spacing, volume.affine.tolist()], allow_nan=False)
        assert all(s > 0 for s in volume.spacing)
        assert np.isfinite(volume.affine).all()
        try:
            info.thumbnail(16)
        except NapariSamError:
            continue
    open_volume(path)


def refused_or_read(path):
    try:
        look(path)
    except NapariSamError:
        return


@pytest.mark.parametrize("seed", range(12))
def test_damaged_studies_are_read_or_refused(studies, tmp_path, seed):
    for number in range(seed * 10, seed * 10 + 10):
        rng = random.Random(number)
        folder = tmp_path / str(number)
        folder.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = damage(studies[number % len(studies)], folder, rng)
            start = time.perf_counter()
            refused_or_read(path)
        assert time.perf_counter() - start < TIME_S, number
