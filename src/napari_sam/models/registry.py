"""The models known by name, and `load_model` for names and files."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import (
    CheckpointError,
    DownloadError,
    ModelError,
    did_you_mean,
)
from napari_sam.models import checkpoints, user_models
from napari_sam.models import download as _download
from napari_sam.models.catalogue import KNOWN as _KNOWN
from napari_sam.models.catalogue import KnownModel
from napari_sam.models.fast_sam import MARK
from napari_sam.models.protocol import ModelSpec
from napari_sam.models.sam2.keys import CONVERTED, OFFICIAL
from napari_sam.models.sam3 import MARK as SAM3_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_sam.models.checkpoints import Checkpoint
    from napari_sam.models.protocol import PromptableModel

_log = logging.getLogger(__name__)

FAMILIES = {
    "nano": "nano",
    "sam": "sam",
    "medsam": "sam",
    "mobile_sam": "mobile_sam",
    "tinysam": "mobile_sam",
    "hq_sam": "hq_sam",
    "sam2": "sam2",
    "medsam2": "sam2",
    "fast_sam": "fast_sam",
    "sam3": "sam3",
}
"""Which code runs a model -> the network, as it shows in a file's tensors."""
_SUFFIXES = (".pth", ".pt", ".safetensors")


def list_models() -> list[KnownModel]:
    """Every model known by name, smallest first, then one's own by name.

    Examples
    --------
    >>> [m.name for m in list_models()][0]
    'nano'
    """
    own = (_own(name, noted) for name, noted in sorted(user_models.models().items()))
    return [*sorted(_KNOWN, key=lambda m: m.size_bytes), *own]


def find_model(name: str) -> KnownModel:
    """Look a model up by name.

    Raises
    ------
    ModelError
        If no model has that name; the message lists those there are.
    """
    models = list_models()
    for known in models:
        if known.name == name:
            return known
    names = [m.name for m in models]
    raise ModelError(
        f"unknown model {name!r}{did_you_mean(name, names)}: expected one of "
        f"{', '.join(names)}, or the path of a checkpoint file ending in "
        f"{', '.join(_SUFFIXES)}"
    )


def add_model(name: str, path: str | Path) -> KnownModel:
    """Remember a checkpoint file under a name, for `load_model` and all lists.

    The file is loaded once to see that it can be. It stays where it is.

    Parameters
    ----------
    name : str
        A new name, or an own one that shall mean another file.
    path : str or Path
        As `load_model` takes it, also with a family before it: ``medsam:my.pth``.

    Raises
    ------
    ModelError
        If the name is taken by a model that everybody has, or is no good name.
    CheckpointError
        If the file cannot be loaded.

    Examples
    --------
    >>> add_model("my_cells", "checkpoints/best.pt")  # doctest: +SKIP
    """
    check_own_name(name)
    family, file = _split(path)
    return remember(name, _load(file, None, "cpu", family, file.stem))


def check_own_name(name: str) -> None:
    """Make sure that a name can be given to an own model.

    Raises
    ------
    ModelError
        If it cannot.
    """
    if any(known.name == name for known in _KNOWN):
        raise ModelError(f"{name!r} is the name of another model: choose a new one")
    if not re.fullmatch(r"[\w.+-]+", name) or name.endswith(_SUFFIXES):
        raise ModelError(
            f"{name!r} cannot be a model's name: use letters, digits and . + - _, and "
            f"none of the endings {', '.join(_SUFFIXES)}"
        )


def remember(name: str, model: PromptableModel) -> KnownModel:
    """Remember a model that was loaded from a file under a name, as `add_model` does.

    Raises
    ------
    ModelError
        If the name cannot be given, or the model is not from a file.
    """
    check_own_name(name)
    spec = model.spec
    if not spec.source:
        raise ModelError(f"{spec.name!r} is not from a file and has its name already")
    user_models.add(
        name,
        {
            "source": spec.source,
            "input_side": spec.input_side,
            "size_bytes": _split(spec.source)[1].stat().st_size,
            "prompts": sorted(spec.prompts),
        },
    )
    return find_model(name)


def remove_model(name: str) -> None:
    """Forget a name given by `add_model`; the file stays.

    Raises
    ------
    ModelError
        If it is no own name.
    """
    if not user_models.remove(name):
        own = list(user_models.models())
        raise ModelError(
            f"{name!r} is none of your own models{did_you_mean(name, own)}: there are "
            f"{', '.join(own) or 'none yet'}"
        )


def download(name: str) -> Iterator[tuple[int, int]]:
    """Download a known model's weights, unless they are here already.

    Whoever has not shown `KnownModel.notice` and called `accept_license` has it shown
    by the log, once; downloading then counts as accepting, which is recorded.

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
    elif known.terms:
        raise DownloadError(
            f"{known.notice} Do so, then get it and the tokenizer.json beside it "
            f"yourself and put both into {known.path.parent}: hf download "
            f"{known.terms.partition('.co/')[2]} model.safetensors tokenizer.json "
            f"--local-dir {known.path.parent}"
        )
    elif known.url and not known.digest:
        raise DownloadError(known.by_hand)
    elif known.url:
        if not _download.is_offline() and not user_models.is_accepted(known):
            _log.warning("%s", known.notice)
            user_models.accept(known)
        yield from _download.iter_download(known.url, known.path, known.digest)


def accept_license(name: str) -> None:
    """Record that the user has read a model's notice and wants its weights.

    Raises
    ------
    ModelError
        If no model has that name.
    """
    user_models.accept(find_model(name))


def load_model(
    name_or_path: str | Path = "nano",
    *,
    device: str = "auto",
    precision: str = "float32",
) -> PromptableModel:
    """Load a model by name, downloading it the first time, or from a checkpoint file.

    Parameters
    ----------
    name_or_path : str or Path
        A name from `list_models`, or a file of one of these families, whose
        architecture is read off its tensors. Where tensors do not tell (MedSAM has
        SAM's, TinySAM MobileSAM's, MedSAM2 SAM 2's), the beginning of the file's name
        does, "medsam", "tinysam" or "medsam2", or the family put before the path:
        ``medsam:finetuned.pth``.
    device : str
        "auto" (CUDA, else Apple's GPU, else the CPU), "cpu", "cuda", "cuda:1", "mps".
    precision : str
        What the encoder multiplies in: "float32", "bfloat16" or "float16", which are
        faster on recent CUDA devices and slower on most CPUs, or "int8" for CPUs (extra
        ``[openvino]``), refused where it changes masks; see `TorchModel.encode_in`.

    Raises
    ------
    ModelError
        If there is no such model, device or precision, or "int8" changes its masks.
    DownloadError
        If the weights are not here and cannot be fetched.
    CheckpointError
        If the file is missing, damaged, unsafe to read, or of no known architecture.

    Examples
    --------
    >>> model = load_model("sam_vit_b")  # doctest: +SKIP
    >>> model = load_model("my_finetuned_vit_b.pth", device="cpu")  # doctest: +SKIP
    >>> model = load_model("medsam:my_finetuned_medsam.pth")  # doctest: +SKIP
    """
    model = _load_any(name_or_path, device)
    if precision != "float32":
        if not hasattr(model, "encode_in"):
            raise ModelError(f"{model.spec.name} encodes in float32 only")
        model.encode_in(precision)
    return model


def _load_any(name_or_path: str | Path, device: str) -> PromptableModel:
    if isinstance(name_or_path, Path) or _is_path(name_or_path):
        family, path = _split(name_or_path)
        return _load(path, None, device, family)
    if noted := user_models.models().get(name_or_path):
        family, path = _split(noted["source"])
        return _load(path, None, device, family, name_or_path)
    known = find_model(name_or_path)
    if FAMILIES.get(known.family) in ("sam2", "sam3"):
        from napari_sam.models.sam2.network import check_installed

        check_installed(known.name)
    for _ in download(known.name):
        pass
    return _load(known.path, known, device, known.family)


def _split(source: str | Path) -> tuple[str, Path]:
    """Take "medsam:weights.pth" apart; the family is "" where none is given."""
    family, colon, rest = str(source).partition(":")
    if colon and family in FAMILIES:
        return family, Path(rest).expanduser()
    return "", Path(source).expanduser()


def _own(name: str, noted: Mapping[str, Any]) -> KnownModel:
    family, path = _split(noted["source"])
    return KnownModel(
        name=name,
        family=family,
        summary=f"your own, {path}",
        input_side=noted["input_side"],
        size_bytes=noted["size_bytes"],
        license="",
        citation="",
        file=str(path),
        prompts=frozenset(noted["prompts"]),
    )


def _is_path(text: str) -> bool:
    return (
        "/" in text
        or "\\" in text
        or text.endswith(_SUFFIXES)
        or bool(_split(text)[0])
        or Path(text).is_file()
    )


def _load(
    path: Path, known: KnownModel | None, device: str, family: str, name: str = ""
) -> PromptableModel:
    """Read, verify and build; a file with a known hash gets that model's name."""
    from napari_sam.models.devices import resolve_device

    device = str(resolve_device(device))
    checkpoint = checkpoints.read(path, sha256=_verify(path, known))
    architecture = _architecture(checkpoint)
    if known is None and checkpoint.sha256:
        named = (m for m in _KNOWN if m.sha256 == checkpoint.sha256)
        known = None if name or family else next(named, None)
    family = family or (known.family if known else _family(architecture, path))
    if FAMILIES.get(family) != architecture:
        raise CheckpointError(
            f"{path.name} holds a network of {architecture}; {family} needs one of "
            f"{FAMILIES.get(family)}. Check that the file is of the model asked for"
        )
    source = f"{family}:{path.absolute()}"
    if family == "nano":
        from napari_sam.models.nano.nano import load_nano

        if known is not None and not known.url:
            return load_nano(device=device)
        return load_nano(path, device=device, name=name or path.stem)
    spec = _spec(known, name or path.stem, source)
    return _build(family, checkpoint, spec, device)


def _build(
    family: str, checkpoint: Checkpoint, spec: ModelSpec, device: str
) -> PromptableModel:
    if family in ("sam2", "medsam2"):
        from napari_sam.models.sam2 import sam2

        side = sam2.MEDSAM2_SIDE if family == "medsam2" else sam2.SIDE
        return sam2.from_checkpoint(checkpoint, spec, device, side=side)
    if family == "tinysam":
        from napari_sam.models.sam import mobile_sam

        tiny = mobile_sam.TinySamNetwork
        return mobile_sam.from_checkpoint(checkpoint, spec, device, network_type=tiny)
    if family == "sam3":
        from napari_sam.models.sam3 import sam3

        return sam3.from_checkpoint(checkpoint, spec, device)
    if family == "fast_sam":
        from napari_sam.models.fast_sam import fast_sam

        return fast_sam.from_checkpoint(checkpoint, spec, device)
    code = import_module(f"napari_sam.models.sam.{family}")
    built: PromptableModel = code.from_checkpoint(checkpoint, spec, device)
    return built


def _verify(path: Path, known: KnownModel | None) -> str:
    """Return the hash that a known model's file has; "" for a file of no name."""
    if known is None or not known.url:
        return known.sha256 if known else ""
    sha256 = known.sha256 or _download.hash_at_first_use(path, known.checksum)
    if not _download.is_verified(path, sha256):
        note = "" if known.sha256 else f" and {path.name}.verified.json"
        raise CheckpointError(
            f"{path} is not the file that {known.name} needs (SHA-256 {sha256}): it is "
            f"damaged or was changed. Delete it{note} and load the model again"
        )
    return sha256


def _architecture(checkpoint: Checkpoint) -> str:
    """Name the network by tensors that only it has."""
    if checkpoint.metadata.get("model") == "nano":
        return "nano"
    if "mask_decoder.hf_token.weight" in checkpoint.state:
        return "hq_sam"
    if "image_encoder.patch_embed.seq.0.c.weight" in checkpoint.state:
        return "mobile_sam"
    if "image_encoder.patch_embed.proj.weight" in checkpoint.state:
        return "sam"
    if OFFICIAL in checkpoint.state or CONVERTED in checkpoint.state:
        return "sam2"
    if MARK in checkpoint.state:
        return "fast_sam"
    if SAM3_MARK in checkpoint.state:
        return "sam3"
    raise CheckpointError(
        f"{checkpoint.path.name} is of no known architecture: expected tensors named "
        "image_encoder..., prompt_encoder... and mask_decoder... as in SAM, HQ-SAM and "
        f"MobileSAM, or as in SAM 2, SAM 3 or FastSAM; got {checkpoint.some_names()}"
    )


def _family(architecture: str, path: Path) -> str:
    """Which code runs a network; where tensors do not tell, the authors' file name."""
    for family, network in FAMILIES.items():
        alike = family != architecture == network
        if alike and path.name.lower().startswith(family):
            _log.info(
                "%s is read as %s for its name; say '%s:%s' for plain %s",
                path.name, family, architecture, path, architecture,
            )  # fmt: skip
            return family
    return architecture


def _spec(known: KnownModel | None, name: str, source: str) -> ModelSpec:
    """Return what is known before the network is built; it fills in sizes and hash."""
    if known is None:
        return ModelSpec(name, 0, {}, 0, "", source=source)
    return ModelSpec(
        known.name, 0, {}, 0, "", license=known.license, citation=known.citation
    )
