"""Menu commands: each opens the widget if need be and does what its button does."""

# napari reads these annotations when it injects the viewer, so the import is real.
from napari.viewer import Viewer

from napari_sam._napari.widget import contents_of, controller_of


def new_object(viewer: Viewer) -> None:
    """Start the next object."""
    controller_of(viewer).new_object()


def toggle_polarity(viewer: Viewer) -> None:
    """Switch between + and -, of points or scribbles."""
    controller_of(viewer).tools.toggle_polarity()


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


def fill(viewer: Viewer) -> None:
    """Carry the object at hand to the planes between and beyond."""
    controller_of(viewer).following.fill()


def next_doubtful(viewer: Viewer) -> None:
    """Go to the most doubtful plane that nobody has reviewed."""
    controller_of(viewer).following.next_doubtful()


def set_reviewed(viewer: Viewer) -> None:
    """Say that the object at hand is right on the plane shown."""
    controller_of(viewer).following.set_reviewed()


def everything(viewer: Viewer) -> None:
    """Look for all objects of the plane shown."""
    controller_of(viewer).review.finding.everything("plane")


def track(viewer: Viewer) -> None:
    """Link objects from frame to frame."""
    controller_of(viewer).time.track()


def next_link(viewer: Viewer) -> None:
    """Go to the next gap or doubtful link of a track."""
    controller_of(viewer).time.next_check()


def mark_object(viewer: Viewer) -> None:
    """Remember the object at hand in this frame, to link it."""
    controller_of(viewer).time.mark()


def link_marked(viewer: Viewer) -> None:
    """Say that the marked object goes on as the one at hand."""
    controller_of(viewer).time.link()


def cut_track(viewer: Viewer) -> None:
    """Make the object at hand another one from this frame on."""
    controller_of(viewer).time.cut()


def divide_marked(viewer: Viewer) -> None:
    """Say that the marked object divides, and the one at hand is a daughter."""
    controller_of(viewer).time.divide()


def merge_marked(viewer: Viewer) -> None:
    """Say that the marked object and what leads here go on as one."""
    controller_of(viewer).time.merge()


def swap_marked(viewer: Viewer) -> None:
    """Exchange the marked object and the one at hand from this frame on."""
    controller_of(viewer).time.swap()


def fill_gap(viewer: Viewer) -> None:
    """Ask the model where the object at hand should be in this frame."""
    controller_of(viewer).time.fill_gap()


def freeze_link(viewer: Viewer) -> None:
    """Say that a link, or the whole track at hand, is right."""
    controller_of(viewer).time.right()


def suggest(viewer: Viewer) -> None:
    """Look for objects like those there are on the plane shown."""
    controller_of(viewer).review.finding.suggest("plane")


def point(viewer: Viewer) -> None:
    """Arm the point tool, with + points."""
    controller_of(viewer).tools.point()


def box(viewer: Viewer) -> None:
    """Arm the box tool."""
    controller_of(viewer).tools.box()


def polygon(viewer: Viewer) -> None:
    """Arm the polygon tool: corners of a rough outline."""
    controller_of(viewer).tools.polygon()


def lasso(viewer: Viewer) -> None:
    """Arm the lasso: an outline drawn with a free hand."""
    controller_of(viewer).tools.lasso()


def scribble(viewer: Viewer) -> None:
    """Arm the scribble tool, with + strokes."""
    controller_of(viewer).tools.scribble()


def path(viewer: Viewer) -> None:
    """Arm the path tool: places along a thin object."""
    controller_of(viewer).tools.path()


def split(viewer: Viewer) -> None:
    """Arm the tool that splits an object between two clicks."""
    controller_of(viewer).tools.split()


def merge(viewer: Viewer) -> None:
    """Arm the tool that joins what is clicked on to the object at hand."""
    controller_of(viewer).tools.merge()


def each_of_layer(viewer: Viewer) -> None:
    """Make an object of each shape or point of the layer that is selected."""
    controller_of(viewer).many.from_selected_layer()


def each_of_file(viewer: Viewer) -> None:
    """Make an object of each box, point or outline of a file."""
    contents_of(viewer).open_many()


def refine(viewer: Viewer) -> None:
    """Let the model draw the object at hand again, from its pixels."""
    controller_of(viewer).reshaping.refine()


def next_image(viewer: Viewer) -> None:
    """Go to the next image of the list, or of the layers."""
    controller_of(viewer).image_list.next()


def previous_image(viewer: Viewer) -> None:
    """Go to the image before."""
    controller_of(viewer).image_list.previous()


def open_folder(viewer: Viewer) -> None:
    """Go through the images of a folder, each with a session of its own."""
    contents_of(viewer).open_folder()


def open_files(viewer: Viewer) -> None:
    """Go through some images, each with a session of its own."""
    contents_of(viewer).open_files()


def delete_object(viewer: Viewer) -> None:
    """Remove the current object with its pixels and prompts."""
    controller_of(viewer).delete_object()


def next_object(viewer: Viewer) -> None:
    """Go to the next object."""
    controller_of(viewer).reviewing.next_object()


def previous_object(viewer: Viewer) -> None:
    """Go to the object before."""
    controller_of(viewer).reviewing.previous_object()


def accept(viewer: Viewer) -> None:
    """Say that the object or proposal at hand is right."""
    controller_of(viewer).reviewing.accept()


def reject(viewer: Viewer) -> None:
    """Say that the object or proposal at hand is wrong."""
    controller_of(viewer).reviewing.reject()


def next_class(viewer: Viewer) -> None:
    """Give the object at hand the next class of the list."""
    controller_of(viewer).classes.next_class()


def review_by_doubt(viewer: Viewer) -> None:
    """Go through all objects, the most doubtful first."""
    controller_of(viewer).reviewing.check("doubt")


def review_at_random(viewer: Viewer) -> None:
    """Go through objects drawn by lot, and say how many are wrong in all."""
    controller_of(viewer).reviewing.check("random")


def measure(viewer: Viewer) -> None:
    """Measure all objects for the table."""
    controller_of(viewer).reviewing.measure()


def next_proposal(viewer: Viewer) -> None:
    """Go to the next proposal."""
    controller_of(viewer).review.next()


def previous_proposal(viewer: Viewer) -> None:
    """Go to the proposal before."""
    controller_of(viewer).review.previous()


def accept_proposal(viewer: Viewer) -> None:
    """Make the proposal at hand an object."""
    controller_of(viewer).review.accept()


def reject_proposal(viewer: Viewer) -> None:
    """Take the proposal at hand away."""
    controller_of(viewer).review.reject()


def redraw_proposal(viewer: Viewer) -> None:
    """Let a box take the place of the proposal at hand."""
    controller_of(viewer).review.redraw()


def correct_proposal(viewer: Viewer) -> None:
    """Accept the proposal at hand, to be corrected by points."""
    controller_of(viewer).review.correct()


def train(viewer: Viewer) -> None:
    """Let the model learn from the objects annotated so far."""
    controller_of(viewer).training.start("")


def save(viewer: Viewer) -> None:
    """Save the session where the user wants it."""
    contents_of(viewer).save()


def open_session(viewer: Viewer) -> None:
    """Continue a saved session."""
    contents_of(viewer).open()


def import_objects(viewer: Viewer) -> None:
    """Take in the objects of a file: labels or annotations of the image."""
    contents_of(viewer).read()


def export(viewer: Viewer) -> None:
    """Write the objects to a file; its suffix says in which format."""
    contents_of(viewer).export()


def combine(viewer: Viewer) -> None:
    """Join somebody else's session to the one at work."""
    contents_of(viewer).combine()


def copy_report(viewer: Viewer) -> None:
    """Put what a question should tell on the clipboard."""
    contents_of(viewer).copy_report()


def checkpoint(viewer: Viewer) -> None:
    """Go on with a model in a file."""
    contents_of(viewer).choose_checkpoint()


def stop(viewer: Viewer) -> None:
    """Stop all work; what is finished is kept."""
    controller_of(viewer).cancel()


def tidy(viewer: Viewer) -> None:
    """Tidy the object at hand, as the tab Volume says."""
    contents_of(viewer).panel.volume.tidy.click()


def restore_proposal(viewer: Viewer) -> None:
    """Bring back the proposal rejected last."""
    controller_of(viewer).review.restore()


def accept_proposals(viewer: Viewer) -> None:
    """Accept all proposals that are shown, as one change."""
    controller_of(viewer).review.accept_all()


def reject_proposals(viewer: Viewer) -> None:
    """Reject all proposals that are shown, as one change."""
    controller_of(viewer).review.reject_all()
