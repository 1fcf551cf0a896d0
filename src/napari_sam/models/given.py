"""Models as people give them: one that is loaded, a name, or a checkpoint's path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ModelError

if TYPE_CHECKING:
    from napari_sam.models.protocol import PromptableModel


def as_model(
    given: PromptableModel | str | os.PathLike[str], *, device: str = "auto"
) -> PromptableModel:
    """Return a model; names and paths are loaded by `load_model`.

    Raises
    ------
    ModelError
        If it is none of these, or there is no such model.
    DownloadError, CheckpointError
        As `load_model` says.
    """
    if isinstance(given, (str, os.PathLike)):
        from napari_sam.models.registry import load_model

        name = given if isinstance(given, str) else Path(given)
        return load_model(name, device=device)
    asked: Any = given
    if not hasattr(asked, "spec") or not hasattr(asked, "encode"):
        raise ModelError(
            "expected a model, its name or the path of a checkpoint, got "
            f"{type(given).__name__}: napari_sam.list_models() has the names"
        )
    return given
