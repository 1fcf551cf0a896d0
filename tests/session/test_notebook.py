import io

import numpy as np
import pytest
from PIL import Image

from napari_sam import Session
from napari_sam.core.picture import COLORS, NEGATIVE, POSITIVE, Picture, captioned
from napari_sam.core.planes import Plane
from napari_sam.core.prompts import Prompts
from napari_sam.session.notebook import (
    draw_candidates,
    draw_session,
    overview,
)
from napari_sam.testing import ToyModel, phantom_image, phantom_volume


def near(image, color, *, atol=40):
    """Where a picture has about a colour."""
    return (np.abs(np.asarray(image, int) - color).max(-1) <= atol).nonzero()


def segmented(phantom, object_id=1):
    session = Session(phantom.image, ToyModel(), embeddings=False)
    *plane, y, x = phantom.center(object_id)
    candidates = session.segment(object_id, plane[0] if plane else 0, points=[(y, x)])
    return session, candidates


def test_point_is_drawn_green_at_its_pixel_centre():
    picture = Picture.of(np.zeros((20, 40, 3), np.uint8), side=400)
    picture.prompts(Prompts.of(points=[(10, 30)]))

    ys, xs = near(picture.finish(), POSITIVE)

    assert ys.mean() == pytest.approx(10.5 * 10, abs=1.5)
    assert xs.mean() == pytest.approx(30.5 * 10, abs=1.5)


def test_negative_point_is_red():
    picture = Picture.of(np.zeros((20, 20, 3), np.uint8), side=200)
    picture.prompts(Prompts.of(points=[(5, 5), (15, 15)], point_labels=[1, 0]))
    image = picture.finish()

    assert near(image, NEGATIVE)[0].mean() == pytest.approx(155, abs=2)
    assert near(image, POSITIVE)[0].mean() == pytest.approx(55, abs=2)


def test_box_is_drawn_on_pixel_edges():
    picture = Picture.of(np.zeros((20, 20, 3), np.uint8), side=200)
    picture.prompts(Prompts.of(box=(5, 5, 15, 10)))

    ys, xs = near(picture.finish(), (255, 255, 255))

    assert (ys.min(), ys.max()) == (pytest.approx(50, abs=2), pytest.approx(150, abs=2))
    assert (xs.min(), xs.max()) == (pytest.approx(50, abs=2), pytest.approx(100, abs=2))


@pytest.mark.parametrize(
    ("size", "side"),
    [pytest.param(20, 200, id="enlarged"), pytest.param(2000, 200, id="reduced")],
)
def test_mask_covers_its_pixels_at_any_scale(size, side):
    picture = Picture.of(np.zeros((size, size, 3), np.uint8), side=side)
    quarter, half = size // 4, size // 2
    picture.mask(
        np.ones((half, half), bool), (quarter,) * 2 + (3 * quarter,) * 2, COLORS[0]
    )

    lit = np.asarray(picture.finish(), int).max(-1) > 60

    assert lit.mean() == pytest.approx(0.25, abs=0.02)
    assert lit[side // 2, side // 2]
    assert not lit[side // 8, side // 8]


def test_empty_mask_draws_nothing():
    picture = Picture.of(np.zeros((20, 20, 3), np.uint8), side=100)
    picture.mask(np.zeros((0, 0), bool), (0, 0, 0, 0), COLORS[0])

    assert not np.asarray(picture.finish()).any()


def test_caption_longer_than_the_picture_is_cut():
    image = captioned(Image.new("RGB", (60, 20)), "a very long title " * 5)

    assert image.size == (60, 46)


def test_overview_of_a_large_plane_is_small():
    session = Session(np.zeros((3000, 500), np.uint8), ToyModel(), embeddings=False)

    rgb = overview(session.volume, Plane.of((3000, 500), 0))

    assert rgb.shape == (750, 125, 3)


def test_session_shows_the_plane_segmented_last():
    phantom = phantom_volume()
    session, _ = segmented(phantom)

    image = Image.open(io.BytesIO(session._repr_png_()))

    assert image.size[0] == 512
    assert near(image, POSITIVE)[0].size > 25
    assert near(image, COLORS[0])[0].size > 50


def test_session_without_objects_shows_its_image():
    session = Session(phantom_image().image, ToyModel(), embeddings=False)

    assert Image.open(io.BytesIO(session._repr_png_())).size[0] == 512
    assert "<table>" not in session._repr_html_()


def test_session_html_escapes_names_and_lists_objects():
    session, _ = segmented(phantom_image(), 2)

    text = session._repr_html_()

    assert "&lt;Volume" in text
    assert "<td>2</td>" in text
    assert "data:image/png;base64," in text


def test_labels_painted_by_hand_are_drawn():
    session = Session(phantom_image().image, ToyModel(), embeddings=False)
    bare = np.asarray(draw_session(session))
    session.labels[10:60, 10:60] = 3

    assert (np.asarray(draw_session(session)) != bare).any()


def test_candidates_are_drawn_side_by_side():
    session, candidates = segmented(phantom_image())

    image = draw_candidates(session, candidates, side=100)

    assert image.width == len(candidates) * 100 + (len(candidates) - 1) * 8


def test_candidate_alone_is_a_png():
    _, candidates = segmented(phantom_image())

    assert Image.open(io.BytesIO(candidates[0]._repr_png_())).format == "PNG"


def test_sessions_and_candidates_say_what_they_are_in_a_line(tmp_path):
    from napari_sam.session import Session
    from napari_sam.testing import ToyModel, phantom_image

    cells = phantom_image((64, 96), n_objects=2)
    session = Session(cells.image, ToyModel(), embeddings=False)
    best, *_ = session.segment(points=[cells.center(1)])
    assert repr(best).startswith(f"<mask of {best.area:,} px in ")
    assert "predicted IoU" in repr(best) and len(repr(best)) < 120
    assert repr(session).endswith("(y=64, x=96) uint8> with toy: 1 object>")
    session.save(tmp_path / "work.nsam")
    assert "work.nsam" in repr(session)
    session.close()
