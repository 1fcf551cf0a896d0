"""Real images that ship with our dependencies, so that a first click needs no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from napari_sam._napari.layer_data import LayerData


def ct_slice() -> list[LayerData]:
    """CT of a head, 512 x 512, in Hounsfield units (from pydicom)."""
    return _dicom("J2K_pixelrep_mismatch.dcm", "CT head")


def mr_slice() -> list[LayerData]:
    """MR of an abdomen with liver and kidneys, 300 x 484 (from pydicom)."""
    return _dicom("examples_overlay.dcm", "MR abdomen")


def mr_volume() -> list[LayerData]:
    """MR of a head, 24 slices of 96 x 128, 2.2 mm apart (from nibabel)."""
    from dataclasses import replace
    from importlib.util import find_spec
    from pathlib import Path

    import numpy as np

    from napari_sam._napari.layer_data import layer_data
    from napari_sam.errors import VolumeError
    from napari_sam.volume.opening import open_volume

    spec = find_spec("nibabel")
    if spec is None or spec.origin is None:
        raise VolumeError("this sample comes with nibabel: pip install nibabel")
    data = Path(spec.origin).parent / "tests" / "data"
    series = open_volume(data / "example4d.nii.gz")
    first = replace(
        series,
        levels=(np.asarray(series.levels[0][0]),),
        axes=series.axes[1:],
        spacing=series.spacing[1:],
        units=series.units[1:],
        affine=series.affine[1:, 1:],
        source=None,
        recipe=None,
        name="MR head",
    )
    return layer_data(first)


def cells() -> list[LayerData]:
    """A cell under the phase microscope, 660 x 550 (from scikit-image)."""
    import skimage.data

    return _picture(skimage.data.cell(), "cell")


def tissue() -> list[LayerData]:
    """Colon tissue, immunohistochemistry, 512 x 512 in colour (from scikit-image)."""
    import skimage.data

    return _picture(skimage.data.immunohistochemistry(), "tissue")


def _dicom(file: str, name: str) -> list[LayerData]:
    from dataclasses import replace

    from pydicom.data import get_testdata_file

    from napari_sam._napari.layer_data import layer_data
    from napari_sam.volume.opening import open_volume

    volume = open_volume(get_testdata_file(file, download=False))
    return layer_data(replace(volume, name=name))


def _picture(pixels: np.ndarray, name: str) -> list[LayerData]:
    return [(pixels, {"name": name, "rgb": pixels.ndim == 3}, "image")]
