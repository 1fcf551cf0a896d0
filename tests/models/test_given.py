from pathlib import Path

import pytest

import napari_sam as ns
from napari_sam.errors import CheckpointError, ModelError
from napari_sam.testing import ToyModel, phantom_image

CELLS = phantom_image((64, 96), n_objects=2)


@pytest.mark.parametrize("given", ["nano", ns.load_model("nano"), ToyModel()])
def test_a_session_takes_a_name_or_a_model(given):
    session = ns.Session(CELLS.image, given, embeddings=False)

    assert session.segment(points=[CELLS.center(1)])[0].area > 0


def test_a_path_is_a_checkpoint_wherever_a_model_is_asked_for(tmp_path):
    session = ns.Session(CELLS.image, ToyModel(), embeddings=False)
    missing = tmp_path / "none.safetensors"
    for call in (
        lambda: ns.Session(CELLS.image, missing),
        lambda: session.use(model=missing),
        lambda: ns.evaluate(missing, CELLS.image, CELLS.labels),
        lambda: next(ns.encode_volume(ns.open_volume(CELLS.image), missing)),
    ):
        with pytest.raises(CheckpointError, match=r"none\.safetensors"):
            call()
    weights = Path(ns.__file__).parent / "weights" / "nano.safetensors"
    session.use(model=weights)

    assert session.segment(points=[CELLS.center(1)])[0].area > 0


def test_anything_else_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="expected a model, its name or the path"):
        ns.Session(CELLS.image, 7)
