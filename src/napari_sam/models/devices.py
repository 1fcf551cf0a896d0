"""Which device a model runs on, and when one has no memory left."""

from __future__ import annotations

import torch

from napari_sam.errors import ModelError


def resolve_device(name: str) -> torch.device:
    """Choose for "auto": CUDA, else Apple's GPU, else the CPU; other names are checked.

    Raises
    ------
    ModelError
        If torch does not know the device or does not see one here.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(
            f"unknown device {name!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'"
        ) from error
    seen = {"cpu": True, "mps": mps, "cuda": torch.cuda.is_available()}
    if not seen.get(device.type, False):
        have = [k for k, there in seen.items() if there]
        raise ModelError(f"torch sees no device {name!r} here; it sees {have}")
    return device


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a device or the host has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
