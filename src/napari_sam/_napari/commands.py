"""Menu commands: each opens the widget if need be and does what its button does."""

# napari reads these annotations when it injects the viewer, so the import is real.
from napari.viewer import Viewer

from napari_sam._napari.widget import controller_of


def new_object(viewer: Viewer) -> None:
    """Start the next object."""
    controller_of(viewer).new_object()


def toggle_polarity(viewer: Viewer) -> None:
    """Switch between + and - points."""
    controller_of(viewer).toggle_polarity()


def next_candidate(viewer: Viewer) -> None:
    """Take the next candidate."""
    controller_of(viewer).next_candidate()


def undo(viewer: Viewer) -> None:
    """Take the last change back."""
    controller_of(viewer).undo()


def redo(viewer: Viewer) -> None:
    """Do the change that was taken back last again."""
    controller_of(viewer).redo()


def embed(viewer: Viewer) -> None:
    """Encode every plane of the volume."""
    controller_of(viewer).embed()


def suggest(viewer: Viewer) -> None:
    """Look for further objects on the plane shown."""
    controller_of(viewer).review.suggest("plane")
