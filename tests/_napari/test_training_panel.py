from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_sam._napari.state import as_sentence
from napari_sam._napari.training import TrainingOptions
from napari_sam.core.planes import Plane
from napari_sam.errors import Cancelled, ModelError


class Trainer:
    """Stands for `train`: takes what it is given, and ends as it is told."""

    def __init__(self, *, kept=True, error=None):
        self.kept, self.error, self.calls = kept, error, []
        self.wait_for = None
        self.held_back = 12

    def __call__(self, model, images, **options):
        self.calls.append((model, images, options))
        options["progress"](SimpleNamespace(
            stage="train", epoch=3, of=10, done=0.25, score=0.71, seconds_left=42.0
        ))  # fmt: skip
        while self.wait_for is not None and not self.wait_for():
            if options["cancel"]():
                raise Cancelled("stopped")
        if self.error is not None:
            raise self.error
        kept = self.kept or options["replace"]
        return SimpleNamespace(
            name=options["name"], kept=kept, path=Path("x"),
            message="better" if kept else "Training made the model worse.",
            table=lambda: "mean IoU   before   after",
            before=SimpleNamespace(mean={"objects": float(self.held_back)}),
        )  # fmt: skip


@pytest.fixture
def trained(desk, cells):
    """A desk with four annotated objects, and a trainer that is quick."""
    desk.open(cells.image, name="cells")
    for k in range(1, 5):
        desk.controller.select_object(k)
        desk.click(*cells.center(k))
    desk.trainer = Trainer()
    desk.controller.training._train = desk.trainer
    return desk


def test_training_learns_from_the_objects_of_the_session(trained):
    trained.controller.training.start("my_cells", TrainingOptions(0.3, 7))
    assert trained.state.training.running
    trained.main.settle()
    (model, images, options), *_ = trained.trainer.calls
    assert model is trained.session.model
    assert options["name"] == "my_cells" and options["validation"] == 0.3
    assert options["epochs"] == 7 and not options["replace"]
    objects = {int(k) for piece in images for k in np.unique(piece.labels)} - {0}
    assert objects == {1, 2, 3, 4}
    state = trained.state.training
    assert not state.running and state.offer == "use"
    assert "before" in state.table and state.message == "better"


def test_progress_says_how_long_it_still_takes(trained):
    training = trained.controller.training
    trained.trainer.wait_for = lambda: False
    training.start("")
    trained.main.pump(lambda: trained.state.training.seconds_left)
    state = trained.state.training
    assert state.stage == "epoch 3 of 10 at most, IoU 0.71"
    assert (state.done, state.seconds_left, state.name) == (0.25, 42.0, "toy_tuned")
    training.stop()
    trained.main.settle()
    assert not trained.state.training.running and not trained.state.training.table
    assert "goes on where it was" in trained.state.status


def test_clicks_are_answered_while_a_model_trains(trained, cells):
    trained.trainer.wait_for = lambda: False
    trained.controller.training.start("")
    trained.controller.undo()
    trained.annotation.layers.points.add(np.array(cells.center(4), float))
    trained.main.pump(lambda: (trained.labels == 4).any())
    assert trained.state.training.running
    trained.controller.cancel()
    trained.main.settle()
    assert not trained.state.training.running


def test_using_the_result_keeps_prompts_and_masks(trained):
    trained.controller.training.start("my_cells")
    trained.main.settle()
    before = trained.labels.copy()
    prompts = trained.session.object(4, Plane(())).prompts
    trained.controller.training.use_result()
    trained.main.settle()
    assert trained.state.model == "my_cells"
    trained.main.settle()
    np.testing.assert_array_equal(trained.labels, before)
    assert trained.session.object(4, Plane(())).prompts is prompts
    assert trained.state.training.offer == ""


def test_a_worse_model_is_kept_only_when_asked_for(trained):
    trained.trainer.kept = False
    training = trained.controller.training
    training.start("my_cells", TrainingOptions(epochs=5))
    trained.main.settle()
    assert trained.state.training.offer == "keep"
    assert "worse" in trained.state.status
    training.use_result()
    assert trained.state.model == "nano"
    training.keep_anyway()
    trained.main.settle()
    assert trained.trainer.calls[1][2]["replace"]
    assert trained.trainer.calls[1][2]["epochs"] == 5
    assert trained.state.training.offer == "use"


def test_errors_of_training_are_shown_and_the_panel_is_ready_again(trained):
    trained.trainer.error = ModelError("toy cannot be trained: use nano or SAM")
    trained.controller.training.start("")
    trained.main.settle()
    assert "Toy cannot be trained" in trained.state.status
    assert not trained.state.training.running


@pytest.mark.parametrize("name", ["sam_vit_b", "a name with blanks", "x.pth"])
def test_a_name_that_cannot_be_given_is_refused_before_anything_starts(trained, name):
    trained.controller.training.start(name)
    assert trained.state.status_kind == "error"
    assert not trained.state.training.running and not trained.trainer.calls


def test_too_few_objects_are_refused_with_what_to_do(desk, cells):
    desk.open(cells.image)
    desk.click(*cells.center(1))
    desk.controller.training.start("")
    desk.main.settle()
    assert "at least 3 objects" in desk.state.status


@pytest.mark.parametrize("held_back", [1, 4])
def test_scores_of_few_objects_come_with_a_warning(trained, held_back):
    trained.trainer.held_back = held_back
    trained.controller.training.start("my_cells")
    trained.main.settle()
    message = trained.state.training.message
    assert message.startswith("better Only") and f"{held_back} object" in message


def test_proposals_are_looked_for_while_a_model_trains(trained):
    trained.trainer.wait_for = lambda: False
    trained.controller.training.start("")
    trained.main.pump(lambda: trained.trainer.calls)
    trained.controller.review.finding.suggest()
    trained.main.pump(lambda: not trained.state.review.running)
    assert trained.state.training.running
    trained.controller.training.stop()
    trained.main.settle()


def test_errors_begin_with_a_capital_but_names_of_files_stay_as_they_are():
    assert as_sentence("an image is too small") == "An image is too small"
    assert as_sentence("cells.pth cannot be read") == "cells.pth cannot be read"
