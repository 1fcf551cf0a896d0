"""Windows as a model sees them, padded or stretched."""

from __future__ import annotations

import numpy as np

from napari_sam.core.frames import Frame
from napari_sam.core.tiles import Window


def test_logits_of_a_stretched_window_cover_all_of_it():
    frame = Frame(Window(0, 10, 20, 30, 90), 64, 16, enlarge=True, stretch=True)
    assert frame.low_res_size() == (16, 16)
    ys, xs = frame.low_res_in_plane()
    # 16 logits over 30 rows and 90 columns: each spans 1.875 and 5.625 pixels.
    np.testing.assert_allclose(ys[[0, -1]], [10 - 0.5 + 0.9375, 40 - 0.5 - 0.9375])
    np.testing.assert_allclose(xs[[0, -1]], [20 - 0.5 + 2.8125, 110 - 0.5 - 2.8125])


def test_logits_move_from_a_stretched_window_to_a_padded_one():
    window = Window(0, 0, 0, 40, 80)
    stretched = Frame(window, 64, 16, enlarge=True, stretch=True)
    padded = Frame(window, 64, 16, enlarge=True)
    ramp = stretched.low_res_in_plane()[0][:, None] * np.ones((1, 16))
    ys, xs = padded.low_res_in_plane()
    moved = stretched.resample(ramp.astype(np.float32), ys, xs, -99.0)
    inside = slice(1, 7)  # 8 of 16 rows are image; the ends are clamped
    np.testing.assert_allclose(moved[inside, 3], ys[inside], atol=1e-4)
    assert (moved[8:] == -99).all()
