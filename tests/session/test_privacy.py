"""What leaves a session says nothing of the patient, but for DICOM objects."""

import gzip
import logging

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_phantoms import write_ct_series

from napari_sam import Session
from napari_sam.errors import ExportError
from napari_sam.results.registry import FORMATS
from napari_sam.testing import ToyModel

IDENTITY = {
    "PatientName": "Quixotic^Zebulon",
    "PatientID": "PID-7731-XK",
    "PatientBirthDate": "19370419",
    "PatientAddress": "17 Nightjar Lane",
    "OtherPatientIDs": "ALT-55-QQ",
    "PatientTelephoneNumbers": "0049-555-9871",
    "PatientComments": "neighbour of Winterbottom",
    "AccessionNumber": "ACC-90817",
    "StudyID": "STDY-4411",
    "InstitutionName": "Saint Placeholder",
    "ReferringPhysicianName": "Doctor^Marzipan",
    "OperatorsName": "Technician^Pomegranate",
    "StudyDescription": "follow-up Quixotic",
    "SeriesDescription": "thin Quixotic 1mm",
    "ImageComments": "asked for by Marzipan",
    "DeviceSerialNumber": "SER-31337",
}
WORDS = [
    "Quixotic", "Zebulon", "PID-7731", "19370419", "Nightjar", "ALT-55", "555-9871",
    "Winterbottom", "ACC-90817", "STDY-4411", "Placeholder", "Marzipan", "Pomegranate",
    "SER-31337",
]  # fmt: skip


def leaks(folder):
    """Words of the patient in any file below a folder, whatever its packing."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if content[:2] == b"\x1f\x8b":
                content += gzip.decompress(content)
            text = content.lower()
            forms = [(w, w.lower()) for w in WORDS]
            hits = [w for w, low in forms if low.encode() in text]
            hits += [w for w, low in forms if low.encode("utf-16-le") in text]
            if hits or any(w.lower() in path.name.lower() for w in WORDS):
                found[str(path.relative_to(folder))] = hits
    return found


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nothing_of_the_patient_leaves_a_session(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    write_ct_series(tmp_path / "in" / "scan", count=3, **IDENTITY)
    (out := tmp_path / "out").mkdir()
    session = Session(
        tmp_path / "in" / "scan", ToyModel(), embeddings=out / "embeddings",
        path=out / "work.nsam",
    )  # fmt: skip
    session.segment(1, 1, points=[(60, 60)])
    session.segment(2, 1, points=[(20, 20)])
    session.choose(0)
    session.undo()
    session.save()
    written = set()
    for name, chosen in FORMATS.items():
        if name not in ("dicom_seg", "rtstruct"):
            try:
                session.export(out / f"{name}{chosen.suffixes[0]}", format=name)
                written.add(name)
            except ExportError:
                session.export(
                    out / f"{name}{chosen.suffixes[0]}", format=name, plane=1
                )
    session.close()

    assert {"ome_zarr", "ome_tiff", "nifti", "nrrd", "seg_nrrd", "coco"} <= written
    assert leaks(tmp_path / "in")  # the search finds what there is
    assert leaks(out) == {}
    assert not [w for w in WORDS if w.lower() in caplog.text.lower()]


def test_a_nifti_header_is_not_copied_beyond_the_place(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((8, 9, 5), "i2"), np.diag([1, 1, 2, 1.0]))
    image.header["descrip"] = b"Quixotic^Zebulon"
    image.header["aux_file"] = b"PID-7731-XK"
    image.header["db_name"] = b"STDY-4411"
    image.header.extensions.append(
        nibabel.nifti1.Nifti1Extension("comment", b"17 Nightjar Lane")
    )
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "t1.nii")
    (tmp_path / "out").mkdir()
    session = Session(tmp_path / "in" / "t1.nii", ToyModel(), embeddings=False)
    session.segment(1, 2, points=[(4, 4)])

    session.export(tmp_path / "out" / "labels.nii")

    assert leaks(tmp_path / "in") and leaks(tmp_path / "out") == {}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["dicom_seg", "rtstruct"])
def test_dicom_objects_belong_to_the_patient(tmp_path, name):
    write_ct_series(tmp_path / "scan", count=3, **IDENTITY)
    session = Session(tmp_path / "scan", ToyModel(), embeddings=False)
    session.segment(1, 1, points=[(60, 60)])

    session.export(tmp_path / "a.dcm", format=name)

    ds = pydicom.dcmread(tmp_path / "a.dcm")
    for tag in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
        assert str(ds.get(tag)) == IDENTITY[tag]
    source = pydicom.dcmread(next((tmp_path / "scan").iterdir()))
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID
    assert ds.FrameOfReferenceUID == source.FrameOfReferenceUID
