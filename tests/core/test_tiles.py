"""Tiles cover, own and round-trip every pixel of a plane of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.tiles import TileGrid, Window

SIZES = st.integers(1, 90)


@st.composite
def grids(draw):
    side = draw(st.integers(2, 40))
    overlap = draw(st.one_of(st.none(), st.integers(0, side - 1)))
    shape = draw(SIZES), draw(SIZES)
    return TileGrid.of(shape, side, overlap)


@given(grids())
def test_tiles_cover_and_cores_own_every_pixel_once(grid):
    for level in range(grid.n_levels):
        owned = np.zeros(grid.level_shape(level), int)
        for tile in grid.tiles(level):
            y0, x0, y1, x1 = tile.window.bbox
            assert 0 <= y0 < y1 <= owned.shape[0]
            assert 0 <= x0 < x1 <= owned.shape[1]
            cy0, cx0, cy1, cx1 = tile.core.bbox
            assert y0 <= cy0 < cy1 <= y1
            assert x0 <= cx0 < cx1 <= x1
            owned[cy0:cy1, cx0:cx1] += 1
        assert (owned == 1).all()


@given(grids())
def test_tiles_of_a_level_have_one_size_that_fits_the_model(grid):
    for level in range(grid.n_levels):
        h, w = grid.level_shape(level)
        sizes = {(t.window.h, t.window.w) for t in grid.tiles(level)}
        assert sizes == {(min(h, grid.side), min(w, grid.side))}


@given(grids())
def test_neighbours_share_the_overlap_or_more(grid):
    for tile in grid.tiles(0):
        if tile.col == 0:
            continue
        left = grid.tile(0, tile.row, tile.col - 1)
        assert left.window.x0 + left.window.w - tile.window.x0 >= grid.overlap


@given(grids())
def test_numbers_count_all_tiles_without_gaps(grid):
    tiles = list(grid.tiles())
    assert [t.number for t in tiles] == list(range(grid.n_tiles()))
    assert [grid.tile_by_number(t.number) for t in tiles] == tiles


@given(grids(), st.data())
def test_owner_is_the_tile_whose_core_holds_the_pixel(grid, data):
    level = data.draw(st.integers(0, grid.n_levels - 1))
    h, w = grid.level_shape(level)
    y, x = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    y0, x0, y1, x1 = grid.owner(level, y, x).core.bbox
    assert y0 <= y < y1
    assert x0 <= x < x1


@given(grids())
def test_coarsest_level_is_one_tile_and_none_before_it_is(grid):
    counts = [grid.n_tiles(level) for level in range(grid.n_levels)]
    assert counts[-1] == 1
    assert all(n > 1 for n in counts[:-1])


@given(grids())
def test_levels_halve_and_round_up(grid):
    for level in range(1, grid.n_levels):
        finer = np.array(grid.level_shape(level - 1))
        assert grid.level_shape(level) == tuple(-(-finer // 2))


@given(
    st.builds(
        Window,
        st.integers(0, 6),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.integers(1, 512),
        st.integers(1, 512),
    ),
    st.floats(-1e5, 1e5),
    st.floats(-1e5, 1e5),
)
def test_window_coordinates_round_trip(window, y, x):
    np.testing.assert_allclose(
        window.to_plane(*window.to_window(y, x)), (y, x), atol=1e-6
    )
    np.testing.assert_allclose(
        window.to_window(*window.to_plane(y, x)), (y, x), atol=1e-6
    )


@given(st.integers(0, 5), st.integers(0, 50), st.integers(0, 50))
def test_level_pixel_lies_at_the_mean_of_the_pixels_it_covers(level, i, j):
    window = Window(level, 3, 5, 60, 60)
    s = 2**level
    rows = np.arange((i + 3) * s, (i + 4) * s)
    cols = np.arange((j + 5) * s, (j + 6) * s)
    assert window.to_plane(i, j) == (rows.mean(), cols.mean())


@given(st.integers(0, 5), st.integers(0, 99), st.integers(0, 99))
def test_box_around_a_pixel_is_centred_on_the_point(level, y, x):
    window = Window(level, 4, 7, 64, 64)
    y0, x0, y1, x1 = window.box_to_window((y, x, y + 1, x + 1))
    cy, cx = window.to_window(y, x)
    np.testing.assert_allclose(((y0 + y1) / 2 - 0.5, (x0 + x1) / 2 - 0.5), (cy, cx))
    np.testing.assert_allclose((y1 - y0, x1 - x0), 1 / 2**level)


@given(grids(), st.floats(-20, 110), st.floats(-20, 110), st.data())
def test_window_around_a_point_stays_on_the_plane_and_holds_it(grid, y, x, data):
    level = data.draw(st.integers(-3, grid.n_levels + 2))
    h, w = grid.level_shape(level)
    window = grid.around((y, x), level)
    y0, x0, y1, x1 = window.bbox
    assert (window.h, window.w) == (min(grid.side, h), min(grid.side, w))
    assert 0 <= y0
    assert y1 <= h
    assert 0 <= x0
    assert x1 <= w
    inside_y, inside_x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    assert y0 - 0.5 <= inside_y <= y1 - 0.5
    assert x0 - 0.5 <= inside_x <= x1 - 0.5


def test_huge_grid_answers_at_once():
    grid = TileGrid.of((2_000_000, 1_500_000), 1024)
    last = grid.tile_by_number(grid.n_tiles() - 1)
    assert last.level == grid.n_levels - 1
    assert grid.owner(0, 1_999_999, 1_499_999).window.bbox[2:] == (
        2_000_000,
        1_500_000,
    )


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda: TileGrid((0, 5), 8, 2), ValueError, id="no pixel"),
        pytest.param(lambda: TileGrid((5, 5), 8, 8), ValueError, id="overlap = side"),
        pytest.param(lambda: TileGrid((5, 5), 8, -1), ValueError, id="overlap < 0"),
        pytest.param(lambda: TileGrid((5, 5), 8, 2, 0), ValueError, id="no level"),
        pytest.param(lambda: Window(0, 0, 0, 0, 1), ValueError, id="empty window"),
        pytest.param(
            lambda: TileGrid.of((9, 9), 8).tile(0, 2, 0), IndexError, id="row"
        ),
        pytest.param(
            lambda: TileGrid.of((9, 9), 8).tile(0, -1, 0), IndexError, id="-1"
        ),
        pytest.param(
            lambda: TileGrid.of((9, 9), 8).tile_by_number(5), IndexError, id="number"
        ),
        pytest.param(
            lambda: TileGrid.of((9, 9), 8).tile_by_number(-1), IndexError, id="number<0"
        ),
    ],
)
def test_impossible_tiles_are_refused(make, error):
    with pytest.raises(error):
        make()
