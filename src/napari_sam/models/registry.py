"""The models known by name, and `load_model` for names and files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import CheckpointError, DownloadError, ModelError
from napari_sam.models import checkpoints
from napari_sam.models import download as _download
from napari_sam.models.base import ModelSpec
from napari_sam.models.catalogue import KNOWN as _KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.models.base import PromptableModel
    from napari_sam.models.catalogue import KnownModel
    from napari_sam.models.checkpoints import Checkpoint

_log = logging.getLogger(__name__)

_MEDSAM2_SIDE = 512
_SAM2_MARKS = {
    "image_encoder.trunk.patch_embed.proj.weight",
    "vision_encoder.backbone.patch_embed.projection.weight",
}
"""Names that only SAM 2 has: the authors', and that of files saved by transformers."""
_SUFFIXES = (".pth", ".pt", ".safetensors")


def list_models() -> list[KnownModel]:
    """Every model known by name, smallest first.

    Examples
    --------
    >>> [m.name for m in list_models()][0]
    'nano'
    """
    return sorted(_KNOWN, key=lambda m: m.size_bytes)


def find_model(name: str) -> KnownModel:
    """Look a model up by name.

    Raises
    ------
    ModelError
        If no model has that name; the message lists those there are.
    """
    for known in _KNOWN:
        if known.name == name:
            return known
    names = ", ".join(m.name for m in _KNOWN)
    raise ModelError(
        f"unknown model {name!r}: expected one of {names}, or the path of a checkpoint "
        f"file ending in {', '.join(_SUFFIXES)}"
    )


def download(name: str) -> Iterator[tuple[int, int]]:
    """Download a known model's weights, unless they are here already.

    Yields
    ------
    tuple of int
        Bytes so far, and in all (0 where the server does not say).

    Raises
    ------
    ModelError
        If no model has that name.
    DownloadError
        If the weights cannot be fetched or verified; see `list_models()` for where
        they come from.
    """
    known = find_model(name)
    if known.cached:
        size = known.path.stat().st_size
        yield size, size
    elif known.url and not known.sha256:
        raise DownloadError(
            f"{known.name} is not here, and its authors publish no hash to check a "
            f"download with: get {known.url} yourself and put it at {known.path}"
        )
    elif known.url:
        _log.info("%s", known.notice)
        yield from _download.iter_download(known.url, known.path, known.sha256)


def load_model(
    name_or_path: str | Path = "nano", *, device: str = "auto"
) -> PromptableModel:
    """Load a model by name, downloading it the first time, or from a checkpoint file.

    Parameters
    ----------
    name_or_path : str or Path
        A name from `list_models`, or a file of one of these families, whose
        architecture is read off its tensors.
    device : str
        "auto" (CUDA, else Apple's GPU, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    ModelError
        If there is no such model or device.
    DownloadError
        If the weights are not here and cannot be fetched.
    CheckpointError
        If the file is missing, damaged, unsafe to read, or of no known architecture.

    Examples
    --------
    >>> model = load_model("sam_vit_b")  # doctest: +SKIP
    >>> model = load_model("my_finetuned_vit_b.pth", device="cpu")  # doctest: +SKIP
    """
    if isinstance(name_or_path, Path) or _is_path(name_or_path):
        return _load(Path(name_or_path).expanduser(), None, device)
    known = find_model(name_or_path)
    if known.family == "sam2":
        from napari_sam.models.sam2 import check_installed

        check_installed()
    for _ in download(known.name):
        pass
    return _load(known.path, known, device)


def _is_path(text: str) -> bool:
    return (
        "/" in text or "\\" in text or text.endswith(_SUFFIXES) or Path(text).is_file()
    )


def _load(path: Path, known: KnownModel | None, device: str) -> PromptableModel:
    """Read, verify and build; a file with a known hash gets that model's name."""
    from napari_sam.models.torch_model import resolve_device

    device = str(resolve_device(device))
    checkpoint = checkpoints.read(path, sha256=_verify(path, known))
    family = _family(checkpoint)
    if family == "nano":
        from napari_sam.models.nano import load_nano

        return load_nano(None if known else path, device=device)
    known = known or next((m for m in _KNOWN if m.sha256 == checkpoint.sha256), None)
    spec = _spec(known, path)
    if family == "mobile_sam":
        from napari_sam.models import mobile_sam

        return mobile_sam.from_checkpoint(checkpoint, spec, device)
    if family == "sam2":
        from napari_sam.models import sam2

        side = known.input_side if known else _sam2_side(checkpoint)
        return sam2.from_checkpoint(checkpoint, spec, device, side=side)
    from napari_sam.models import sam

    return sam.from_checkpoint(checkpoint, spec, device)


def _verify(path: Path, known: KnownModel | None) -> str:
    """Return the hash that a known model's file has; "" for a file of no name."""
    if known is None or not known.url:
        return known.sha256 if known else ""
    sha256 = known.sha256 or _download.hash_at_first_use(path)
    if not _download.is_verified(path, sha256):
        note = "" if known.sha256 else f" and {path.name}.verified.json"
        raise CheckpointError(
            f"{path} is not the file that {known.name} needs (SHA-256 {sha256}): it is "
            f"damaged or was changed. Delete it{note} and load the model again"
        )
    return sha256


def _sam2_side(checkpoint: Checkpoint) -> int:
    """Side of the frame: no tensor tells, but MedSAM2's authors name their files so."""
    return _MEDSAM2_SIDE if checkpoint.path.name.startswith("MedSAM2") else 1024


def _family(checkpoint: Checkpoint) -> str:
    """Which code runs a checkpoint, by names that only one family has."""
    if checkpoint.metadata.get("model") == "nano":
        return "nano"
    if "image_encoder.patch_embed.seq.0.c.weight" in checkpoint.state:
        return "mobile_sam"
    if "image_encoder.patch_embed.proj.weight" in checkpoint.state:
        return "sam"
    if not _SAM2_MARKS.isdisjoint(checkpoint.state):
        return "sam2"
    raise CheckpointError(
        f"{checkpoint.path.name} is of no known architecture: expected tensors named "
        "image_encoder..., prompt_encoder... and mask_decoder... as in SAM and "
        f"MobileSAM, or as in SAM 2; got {checkpoint.some_names()}"
    )


def _spec(known: KnownModel | None, path: Path) -> ModelSpec:
    """Return what is known before the network is built; it fills in sizes and hash."""
    if known is None:
        return ModelSpec(path.stem, 0, {}, 0, "", source=str(path.absolute()))
    return ModelSpec(
        known.name, 0, {}, 0, "", license=known.license, citation=known.citation
    )
