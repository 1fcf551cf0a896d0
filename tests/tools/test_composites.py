from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tools.nano.composites import composite_images
from tools.nano.data import COMPOSITE, CropSampler, LabelledImage
from tools.nano.procedural import procedural_images


@pytest.fixture(scope="module")
def composites() -> list[LabelledImage]:
    return composite_images(6, procedural_images(8))


def test_the_same_seed_gives_the_same_objects(composites: list[LabelledImage]) -> None:
    again = composite_images(6, procedural_images(8))
    for a, b in zip(composites, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_outlines_lie_on_stronger_edges_than_what_is_inside(
    composites: list[LabelledImage],
) -> None:
    on, within = [], []
    for one in composites:
        grey = one.image.astype(np.float32).reshape(*one.labels.shape, -1).mean(2)
        edges = ndimage.gaussian_gradient_magnitude(grey, 2)
        for row in one.objects:
            mask = one.labels == row[0]
            inner = ndimage.binary_erosion(mask, iterations=4, border_value=1)
            on.append(edges[mask ^ inner].mean())
            within.append(edges[inner].mean())
    assert len(on) >= 4
    assert np.mean(on) > 1.2 * np.mean(within)


def test_the_sampler_tells_that_a_lone_click_cannot_mean_them(
    composites: list[LabelledImage],
) -> None:
    assert all(one.label_kind == COMPOSITE for one in composites)
    assert CropSampler(composites).batch([0], n_crops=2, side=160).composite.all()
    plain = CropSampler(procedural_images(4)).batch([0], n_crops=2, side=160)
    assert not plain.composite.any()
