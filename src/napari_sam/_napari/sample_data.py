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
    """MR of a head, 24 slices of 96 x 128, 2.2 mm apart (from nibabel), as DICOM."""
    from dataclasses import replace

    from napari_sam._napari.layer_data import layer_data
    from napari_sam._napari.sample_series import mr_head
    from napari_sam.embeddings.cache import cache_folder
    from napari_sam.volume.opening import open_volume

    volume = open_volume(mr_head(cache_folder().parent))
    return layer_data(replace(volume, name="MR head"))


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
