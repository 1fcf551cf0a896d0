"""A saved session looked at: without its model, and while somebody works in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.models.unloaded import UnloadedModel
from napari_sam.session.files import read_head
from napari_sam.session.session import Session

if TYPE_CHECKING:
    import os


def look_at(path: str | os.PathLike[str], volume: Any = None) -> Session:
    """Open a saved session for reading: its masks are there, prompts get no answer.

    Parameters
    ----------
    path : path-like
        Folder (.nsam); it may be open elsewhere, and is not changed.
    volume : optional
        Its image, where that has moved.

    Raises
    ------
    SessionError
        If it cannot be read, or is of another image.
    VolumeError
        If its image cannot be opened.
    """
    head = read_head(path)
    model = UnloadedModel(str(head["model"]), str(head.get("checkpoint_sha256", "")))
    return Session.load(
        path, volume=volume, model=model, embeddings=False, read_only=True
    )
