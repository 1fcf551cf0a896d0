"""Raw values to model input: exact, global, and safe with NaN and infinity."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.core.intensity import CT_PRESETS, IntensityMapping, channel_colors
from napari_sam.errors import IntensityError

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
WINDOWS = st.tuples(st.integers(-2000, 2000), st.integers(1, 4000)).map(
    lambda v: (float(v[0]), float(v[0] + v[1]))
)


@st.composite
def pictures(draw):
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return draw(hnp.arrays(dtype, shape))


@given(pictures(), WINDOWS, st.booleans(), st.sampled_from([0.5, 1.0, 2.2]))
def test_any_pixels_become_uint8_rgb(pixels, window, invert, gamma):
    mapping = IntensityMapping.grey(*window, invert=invert, gamma=gamma)
    out = mapping.apply(pixels)
    assert out.shape == (*pixels.shape, 3)
    assert out.dtype == np.uint8
    assert (out == out[..., :1]).all()


@given(pictures(), WINDOWS)
def test_grey_mapping_is_the_plain_formula(pixels, window):
    low, high = window
    x = np.asarray(pixels, np.float64)
    with np.errstate(over="ignore"):
        unit = (np.nan_to_num(x, nan=low, posinf=high, neginf=low) - low) / (high - low)
    expected = np.clip(unit, 0, 1) * 255
    found = IntensityMapping.grey(low, high).apply(pixels)[..., 0]
    assert np.abs(found - expected).max() <= 0.51


@given(pictures(), WINDOWS)
def test_order_of_values_is_kept_and_inversion_turns_it(pixels, window):
    up = IntensityMapping.grey(*window)
    down = IntensityMapping.grey(*window, invert=True)
    finite = np.where(np.isfinite(pixels), pixels, window[0]).astype(pixels.dtype)
    order = np.argsort(finite, axis=None, kind="stable")
    assert (np.diff(up.apply(finite)[..., 0].ravel()[order].astype(int)) >= 0).all()
    total = up.apply(finite).astype(int) + down.apply(finite)
    assert set(np.unique(total)) <= {254, 255, 256}


def test_nan_is_black_and_infinity_is_the_end_it_points_to():
    pixels = np.array([[np.nan, -np.inf, np.inf, 5.0]])
    assert IntensityMapping.grey(0, 10).apply(pixels)[0, :, 0].tolist() == [
        0,
        0,
        255,
        128,
    ]


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "float64"])
def test_narrow_window_far_from_zero_keeps_its_steps(dtype):
    pixels = (1_000_000_000 + np.arange(256)).astype(dtype)[None]
    out = IntensityMapping.grey(1_000_000_000, 1_000_000_255).apply(pixels)
    assert out[0, :, 0].tolist() == list(range(256))


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 3.4e38, -3.4e38])
def test_no_data_values_at_the_end_of_the_range_raise_no_warning(value):
    out = IntensityMapping.grey(-500, 500).apply(np.array([[value]]))
    assert out[0, 0, 0] == (255 if value > 0 else 0)


def test_a_window_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4096, (40, 60)).astype(np.uint16)
    mapping = IntensityMapping.from_sample(image)
    whole = mapping.apply(image)
    np.testing.assert_array_equal(mapping.apply(image[10:20, 5:9]), whole[10:20, 5:9])


@pytest.mark.parametrize("name", sorted(CT_PRESETS))
def test_ct_presets_show_their_window(name):
    low, high = CT_PRESETS[name]
    out = IntensityMapping.grey(low, high).apply(
        np.array([[low - 500, low, (low + high) / 2, high, high + 500]])
    )
    assert out[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_colour_pictures_pass_unchanged():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(IntensityMapping.rgb().apply(picture), picture)
    np.testing.assert_array_equal(
        IntensityMapping.rgb().apply(picture.astype(np.float32)), picture
    )
    half = IntensityMapping.rgb(0, 65535).apply(picture.astype(np.uint16) * 257)
    np.testing.assert_array_equal(half, picture)


@pytest.mark.parametrize("n", range(1, 7))
def test_channels_are_mixed_and_windowed_on_their_own(n):
    rng = np.random.default_rng(n)
    sample = rng.random((50, 40, n)) * np.arange(1, n + 1) * 100
    mapping = IntensityMapping.from_sample(sample, n_channels=n)
    assert mapping.n_channels == n
    for c in range(n):
        alone = np.zeros((1, 1, n))
        alone[..., c] = 1e9
        shown = mapping.apply(alone)[0, 0] / 255
        np.testing.assert_allclose(shown, channel_colors(n)[c], atol=0.01)


def test_sample_leaves_out_what_is_not_finite():
    sample = np.array([np.nan, np.inf, -np.inf, 2.0, 8.0])
    found = IntensityMapping.from_sample(sample, percentiles=(0, 100))
    assert found.windows == ((2.0, 8.0),)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_constant_sample_still_gives_a_window(dtype):
    mapping = IntensityMapping.from_sample(np.full((4, 4), 7, dtype))
    assert np.isfinite(mapping.apply(np.full((2, 2), 7, dtype))).all()


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.builds(
            IntensityMapping,
            windows=st.tuples(*[WINDOWS] * n),
            mix=st.tuples(*[st.tuples(*[st.floats(0, 1)] * 3)] * n),
            gamma=st.floats(0.1, 5),
            invert=st.booleans(),
        )
    )
)
def test_json_round_trip(mapping):
    assert IntensityMapping.from_json(json.loads(json.dumps(mapping.to_json()))) == (
        mapping
    )


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: IntensityMapping.grey(5, 5), id="empty window"),
        pytest.param(lambda: IntensityMapping.grey(9, 1), id="turned window"),
        pytest.param(lambda: IntensityMapping.grey(0, np.inf), id="infinite window"),
        pytest.param(lambda: IntensityMapping.grey(np.nan, 1), id="NaN window"),
        pytest.param(lambda: IntensityMapping.grey(0, 1, gamma=0), id="gamma 0"),
        pytest.param(lambda: IntensityMapping(windows=()), id="no channel"),
        pytest.param(
            lambda: IntensityMapping(windows=((0, 1), (0, 1))), id="mix too short"
        ),
        pytest.param(lambda: channel_colors(7), id="seven channels"),
        pytest.param(
            lambda: IntensityMapping.from_sample(np.full(9, np.nan)), id="all NaN"
        ),
        pytest.param(
            lambda: IntensityMapping.rgb().apply(np.zeros((4, 4))), id="grey as rgb"
        ),
        pytest.param(
            lambda: IntensityMapping().apply(np.zeros((4, 4, 3))), id="rgb as grey"
        ),
    ],
)
def test_mappings_that_make_no_sense_are_refused(make):
    with pytest.raises(IntensityError):
        make()
