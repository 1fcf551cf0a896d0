"""Sessions: prompts become masks in labels, undoable and safe on disk. No GUI."""

from napari_sam.session.requests import Request, Result
from napari_sam.session.session import Session

__all__ = ["Request", "Result", "Session"]
