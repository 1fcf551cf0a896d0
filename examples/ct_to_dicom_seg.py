# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From a DICOM series to DICOM-SEG
#
# A series is opened, an organ is clicked on one slice, carried through the others, and
# leaves as DICOM-SEG and RTSTRUCT that point at the slices they came from. The series
# is made here, on the header of a CT slice that comes with pydicom; use the path of
# your own instead.

# %%
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

import napari_sam as ns
from napari_sam.session.notebook import draw_session

folder = Path(tempfile.mkdtemp())
(folder / "series").mkdir()
slice_ = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
slice_.SeriesInstanceUID = generate_uid()
rows, cols = np.mgrid[:128, :128]
for z in range(12):
    organ = np.hypot(rows - 60, (cols - 64 - z) / 1.4) < 22 - abs(z - 6) * 1.5
    noise = np.random.default_rng(z).normal(0, 12, (128, 128))
    values = np.where(organ, 160, 20) + noise + 1024
    slice_.PixelData = values.astype(np.int16).tobytes()
    slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    slice_.InstanceNumber = z + 1
    slice_.ImagePositionPatient = [-158, -179, -75 + 5.0 * z]
    slice_.SliceThickness = 5
    slice_.save_as(folder / "series" / f"{z:03d}.dcm")

# %%
volume = ns.open_volume(folder / "series").with_intensity(ns.CT_PRESETS["soft tissue"])
volume

# %% [markdown]
# ## One click, then all slices

# %%
session = ns.Session(volume, "nano", embeddings=False)
session.segment(object_id=1, plane=6, points=[(60, 70)])
session.describe(1, class_name="liver")
draw_session(session, plane=6)

# %%
found = session.propagate(1)
for mask in found:
    print(mask.plane.index, "doubt", round(mask.doubt, 2))

# %% [markdown]
# Slices that deserve a look come first here; a box on one of them corrects it, and
# `session.propagate(1, anew=False)` fills its neighbours again.

# %%
session.doubtful()

# %% [markdown]
# ## To the clinic
#
# Both files name the patient, the study and the slices of the source, and lie at the
# same place in the patient.

# %%
session.export(folder / "liver.dcm", "dicom_seg")
session.export(folder / "liver_rt.dcm", "rtstruct")

seg = pydicom.dcmread(folder / "liver.dcm")
print(seg.Modality, seg.SegmentSequence[0].SegmentLabel, seg.NumberOfFrames, "frames")
print(pydicom.dcmread(folder / "liver_rt.dcm").StructureSetROISequence[0].ROIName)

# %% [markdown]
# A colleague's file is read back in the same way, as one step that can be undone.

# %%
again = ns.Session(volume, "nano", embeddings=False)
again.read(folder / "liver.dcm")
bool((again.labels[:] == session.labels[:]).all())
