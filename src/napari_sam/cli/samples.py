"""Real images that come with packages we depend on, and prompts for them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from napari_sam.core.prompts import Prompts


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and what to click on it."""

    key: str
    """Name of its folder."""
    title: str
    package: str
    """Import name of the package that ships the file."""
    file: str
    """Path inside that package."""
    prompts: tuple[Prompts, ...]
    """One for each object, ids 1, 2, ..."""
    plane: int | tuple[int, ...] = 0
    needs: str = ""
    """Distribution that brings the package, where it may be missing."""

    @property
    def path(self) -> Path | None:
        """The file, or None where its package is not installed."""
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.file
        return path if path.is_file() else None


SAMPLES = (
    Sample(
        "ct", "CT, chest, DICOM", "pydicom", "data/test_files/CT_small.dcm",
        (
            Prompts.of(box=(4, 39, 45, 80)),
            Prompts.of(box=(41, 46, 63, 72)),
            Prompts.of(points=[(10, 88), (22, 60)], point_labels=[1, 0]),
        ),
    ),
    Sample(
        "mr", "MR, abdomen, DICOM", "pydicom", "data/test_files/examples_overlay.dcm",
        (
            Prompts.of(box=(187, 118, 251, 186)),
            Prompts.of(box=(196, 287, 254, 352)),
            Prompts.of(points=[(167, 254), (150, 272)], point_labels=[1, 0]),
        ),
    ),
    Sample(
        "mr-volume", "MR, brain, NIfTI (time 0, plane 12)", "nibabel",
        "tests/data/example4d.nii.gz",
        (Prompts.of(box=(2, 31, 89, 96)),),
        plane=(0, 12), needs="nibabel",
    ),
    Sample(
        "microscopy", "Microscopy, stained colon tissue, RGB",
        "skimage", "data/ihc.png",
        (
            Prompts.of(box=(300, 250, 511, 384)),
            Prompts.of(points=[(150, 352)]),
            Prompts.of(box=(0, 270, 300, 462)),
        ),
    ),
)  # fmt: skip
"""What ``napari-sam demo`` shows."""
