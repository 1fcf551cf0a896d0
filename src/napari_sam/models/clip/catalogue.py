"""The scorers of words known by name: where their files are, and their licences."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from napari_sam.errors import DownloadError, ModelError, did_you_mean, reason
from napari_sam.models import download, user_models

_log = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names that weights may have; the first that is there is read."""
_BESIDE = ("config.json", "preprocessor_config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class KnownScorer:
    """A model of words and pictures that `load_scorer` knows by name."""

    name: str
    repository: str
    """On huggingface.co."""
    size_bytes: int
    license: str
    """SPDX identifier of the weights' licence."""
    citation: str

    @property
    def folder(self) -> Path:
        """Where its files are, or will be once downloaded."""
        return download.cache_folder() / self.name

    @property
    def cached(self) -> bool:
        """Whether its weights are on this machine."""
        return weights_in(self.folder) is not None

    @property
    def notice(self) -> str:
        """What a user should read before the first download."""
        return (
            f"{self.name}: scores how well words fit pictures, "
            f"{self.size_bytes / 1e6:.0f} MB from "
            f"https://huggingface.co/{self.repository}. Weights under {self.license}: "
            f"https://spdx.org/licenses/{self.license}.html. If you publish results, "
            f"please cite {self.citation}."
        )


KNOWN_SCORERS = (
    KnownScorer(
        "clip_vit_b32",
        "openai/clip-vit-base-patch32",
        605_000_000,
        "MIT",
        "Radford et al., Learning Transferable Visual Models From Natural Language "
        "Supervision, ICML 2021, arXiv:2103.00020",
    ),
    KnownScorer(
        "siglip_b16",
        "google/siglip-base-patch16-224",
        813_000_000,
        "Apache-2.0",
        "Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, "
        "arXiv:2303.15343",
    ),
)


def list_scorers() -> list[KnownScorer]:
    """Every scorer of words known by name, the default first."""
    return list(KNOWN_SCORERS)


def weights_in(folder: Path) -> Path | None:
    """Return the file of weights in a folder, or None."""
    return next((f for n in WEIGHTS if (f := folder / n).is_file()), None)


def folder_of(name_or_folder: str | Path) -> Path:
    """Return the folder that a name or path means, downloading what is missing.

    Raises
    ------
    ModelError
        If it is neither a known name nor a folder.
    DownloadError
        If the files are not here and cannot be fetched.
    """
    known = {k.name: k for k in KNOWN_SCORERS}.get(str(name_or_folder))
    if known is None:
        folder = Path(name_or_folder).expanduser()
        if folder.is_dir():
            return folder
        names = [k.name for k in KNOWN_SCORERS]
        raise ModelError(
            f"no scorer of words {str(name_or_folder)!r}"
            f"{did_you_mean(str(name_or_folder), names)}: expected one of "
            f"{', '.join(names)}, or a folder with a CLIP or SigLIP as transformers "
            f"saves it ({', '.join((*_BESIDE, WEIGHTS[0]))})"
        )
    if not known.cached:
        _fetch(known)
    return known.folder


def _fetch(known: KnownScorer) -> None:
    names = ", ".join((*_BESIDE, WEIGHTS[0]))
    by_hand = (
        f"get {names} of https://huggingface.co/{known.repository} yourself and put "
        f"them into {known.folder}"
    )
    if download.is_offline():
        raise DownloadError(
            f"{known.name} is not here yet and {download.OFFLINE_VARIABLE} forbids the "
            f"network: unset it, or {by_hand}"
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise DownloadError(
            f"{known.name} is fetched by the package huggingface_hub, which is not "
            f"installed here: pip install transformers, or {by_hand}"
        ) from error
    if not user_models.is_accepted(known):
        _log.warning("%s", known.notice)
        user_models.accept(known)
    try:
        for name in _BESIDE:
            hf_hub_download(known.repository, name, local_dir=known.folder)
        for name in WEIGHTS:
            try:
                hf_hub_download(known.repository, name, local_dir=known.folder)
                return
            except EntryNotFoundError:
                continue
    except Exception as error:  # of whatever the hub's client runs on
        raise DownloadError(
            f"{known.name} could not be fetched ({reason(error)}): try again later, or "
            f"{by_hand}"
        ) from error
    raise DownloadError(
        f"https://huggingface.co/{known.repository} has none of {', '.join(WEIGHTS)} "
        f"any more: use another scorer, or {by_hand}"
    )
