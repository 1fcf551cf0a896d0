"""The models known by name, and `load_model` for names and files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import CheckpointError, ModelError
from napari_sam.models import checkpoints
from napari_sam.models import download as _download
from napari_sam.models.base import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sam.models.base import PromptableModel
    from napari_sam.models.checkpoints import Checkpoint

_log = logging.getLogger(__name__)

_SAM_CITATION = "Kirillov et al., Segment Anything, ICCV 2023, arXiv:2304.02643"
_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that `load_model` knows by name."""

    name: str
    family: str
    """Which code runs it: "nano", "sam" or "mobile_sam"."""
    summary: str
    input_side: int
    size_bytes: int
    """Of the file; approximate where its authors do not publish it."""
    license: str
    """SPDX identifier of the weights' licence."""
    citation: str
    url: str = ""
    """Where the file comes from; "" for one that ships with the package."""
    sha256: str = ""
    prompts: frozenset[str] = frozenset({"points", "box", "mask"})

    @property
    def path(self) -> Path:
        """Where the file is, or will be once downloaded."""
        if not self.url:
            return Path(__file__).parents[1] / "weights" / f"{self.name}.safetensors"
        return _download.cache_folder() / self.url.rsplit("/", 1)[1]

    @property
    def cached(self) -> bool:
        """Whether the file is on this machine."""
        return self.path.is_file()

    @property
    def notice(self) -> str:
        """What a user should read before the first download."""
        return (
            f"{self.name}: {self.summary}, {self.size_bytes / 1e6:.0f} MB from "
            f"{self.url or 'this package'}. Weights under {self.license}: "
            f"https://spdx.org/licenses/{self.license}.html. If you publish results, "
            f"please cite {self.citation}."
        )


_KNOWN = (
    KnownModel(
        name="nano",
        family="nano",
        summary="napari-sam's own small model, ready without a download",
        input_side=512,
        size_bytes=6_000_000,
        license="Apache-2.0",
        citation="napari-sam",
    ),
    KnownModel(
        name="mobile_sam",
        family="mobile_sam",
        summary="MobileSAM, SAM's decoder on a TinyViT encoder",
        input_side=1024,
        size_bytes=40_700_000,
        license="Apache-2.0",
        citation=(
            "Zhang et al., Faster Segment Anything: Towards Lightweight SAM for Mobile "
            "Applications, 2023, arXiv:2306.14289"
        ),
        url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    KnownModel(
        name="sam_vit_b",
        family="sam",
        summary="SAM with its base encoder",
        input_side=1024,
        size_bytes=375_042_383,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    KnownModel(
        name="sam_vit_l",
        family="sam",
        summary="SAM with its large encoder",
        input_side=1024,
        size_bytes=1_249_500_000,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    KnownModel(
        name="sam_vit_h",
        family="sam",
        summary="SAM with its huge encoder",
        input_side=1024,
        size_bytes=2_564_550_879,
        license="Apache-2.0",
        citation=_SAM_CITATION,
        url=_SAM_URL + "sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
)


def list_models() -> list[KnownModel]:
    """Every model known by name, smallest first.

    Examples
    --------
    >>> [m.name for m in list_models()][0]
    'nano'
    """
    return list(_KNOWN)


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
    if (
        known is not None
        and known.url
        and not _download.is_verified(path, known.sha256)
    ):
        raise CheckpointError(
            f"{path} is not the file that {known.name} needs (SHA-256 {known.sha256}): "
            "it is damaged or was changed. Delete it and load the model again"
        )
    checkpoint = checkpoints.read(path, sha256=known.sha256 if known else "")
    family = _family(checkpoint)
    if family == "nano":
        from napari_sam.models.nano import load_nano

        return load_nano(None if known else path, device=device)
    known = known or next((m for m in _KNOWN if m.sha256 == checkpoint.sha256), None)
    spec = _spec(known, path)
    if family == "mobile_sam":
        from napari_sam.models import mobile_sam

        return mobile_sam.from_checkpoint(checkpoint, spec, device)
    from napari_sam.models import sam

    return sam.from_checkpoint(checkpoint, spec, device)


def _family(checkpoint: Checkpoint) -> str:
    """Which code runs a checkpoint, by names that only one family has."""
    if checkpoint.metadata.get("model") == "nano":
        return "nano"
    if "image_encoder.patch_embed.seq.0.c.weight" in checkpoint.state:
        return "mobile_sam"
    if "image_encoder.patch_embed.proj.weight" in checkpoint.state:
        return "sam"
    raise CheckpointError(
        f"{checkpoint.path.name} is of no known architecture: expected tensors named "
        "image_encoder..., prompt_encoder... and mask_decoder... as in SAM and "
        f"MobileSAM; got {checkpoint.some_names()}"
    )


def _spec(known: KnownModel | None, path: Path) -> ModelSpec:
    """Return what is known before the network is built; it fills in sizes and hash."""
    if known is None:
        return ModelSpec(path.stem, 0, {}, 0, "", source=str(path.absolute()))
    return ModelSpec(
        known.name, 0, {}, 0, "", license=known.license, citation=known.citation
    )
