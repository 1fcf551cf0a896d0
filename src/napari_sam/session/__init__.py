"""Sessions: prompts become masks in labels, undoable and safe on disk. No GUI."""

from napari_sam.session.class_files import read_classes, write_classes
from napari_sam.session.entries import ObjectState
from napari_sam.session.objects import ObjectHandle
from napari_sam.session.requests import Request, Result
from napari_sam.session.session import Session

__all__ = [
    "ObjectHandle",
    "ObjectState",
    "Request",
    "Result",
    "Session",
    "read_classes",
    "write_classes",
]
