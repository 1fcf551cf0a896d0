"""Parts and wholes: which object lies in which, and cuts of the tree."""

import numpy as np
import pytest

from napari_sam.core.planes import Plane
from napari_sam.engine.engine import Engine
from napari_sam.engine.propose import propose
from napari_sam.engine.propose_options import ProposeOptions, SelectOptions
from napari_sam.engine.select import select
from napari_sam.testing import ToyModel
from napari_sam.volume.opening import open_volume

HERE = Plane(())
TISSUE, CELL, NUCLEUS = (4, 4, 96, 156), 30, 8


@pytest.fixture(scope="module", params=[192, 64], ids=["one window", "tiles"])
def nested(request):
    """A tissue of six cells with a nucleus each, as nested tolerances show them."""
    image = np.zeros((100, 160), np.uint8)
    image[TISSUE[0] : TISSUE[2], TISSUE[1] : TISSUE[3]] = 100
    middles = [(y, x) for y in (28, 72) for x in (32, 80, 128)]
    for y, x in middles:
        image[y - 15 : y + 15, x - 15 : x + 15] = 140
        image[y - 4 : y + 4, x - 4 : x + 4] = 180
    model = Nested(request.param)
    engine = Engine.of(open_volume(image), model)
    asked = ProposeOptions(points_per_side=24 * request.param // 192, thorough=True)
    return propose(engine, HERE, asked)


class Nested(ToyModel):
    """Gives what is at least as bright as half way down to the next shade."""

    def decode(self, embedding, prompts):
        from skimage.measure import label

        from napari_sam.core.masks import MaskCandidate, crop_mask

        grey = self._colors(embedding)[0]
        y, x = (int(v + 0.5) for v in prompts.points[0])
        out = []
        for k, level in enumerate((70, 170, 225)):
            regions = label(grey > level, connectivity=1)
            if not regions[y, x]:
                continue
            mask = regions == regions[y, x]
            low = self._low_res(np.where(mask, 8.0, -8.0).astype(np.float32))
            out.append(MaskCandidate(*crop_mask(mask), 0.9 + 0.01 * k, 1.0, low))
        return out[::-1]


def areas(selection):
    return sorted(
        int(np.count_nonzero(m)) for _, m in map(selection.drawn, range(len(selection)))
    )


def test_all_parts_and_wholes_are_proposed(nested):
    whole = (TISSUE[2] - TISSUE[0]) * (TISSUE[3] - TISSUE[1])
    expected = [NUCLEUS**2] * 6 + [CELL**2] * 6 + [whole]
    assert areas(select(nested, SelectOptions(0.5, 0.5))) == expected


@pytest.mark.parametrize(
    ("detail", "kept"), [(0, (0, 0, 1)), (0.5, (0, 6, 0)), (1, (6, 0, 0))]
)
def test_a_cut_keeps_one_of_each_nest(nested, detail, kept):
    cut = select(nested, SelectOptions(0.5, 0.5, detail=detail))
    sizes = (NUCLEUS**2, CELL**2, (TISSUE[2] - TISSUE[0]) * (TISSUE[3] - TISSUE[1]))
    assert areas(cut) == [s for s, n in zip(sizes, kept, strict=True) for _ in range(n)]


@pytest.mark.parametrize("detail", [0.5, 1])
def test_a_full_cover_leaves_nothing_of_a_whole_and_overlaps_nowhere(nested, detail):
    cover = select(nested, SelectOptions(0.5, 0.5, detail=detail, cover=True))
    count = np.zeros((100, 160), int)
    for (y0, x0, y1, x1), mask in map(cover.drawn, range(len(cover))):
        count[y0:y1, x0:x1] += mask
    expected = np.zeros_like(count)
    expected[TISSUE[0] : TISSUE[2], TISSUE[1] : TISSUE[3]] = 1
    assert np.array_equal(count, expected)
    assert len(cover) == (7 if detail == 0.5 else 13)


def test_without_overlaps_the_least_doubtful_of_each_nest_is_kept(nested):
    apart = select(nested, SelectOptions(0.5, 0.5, max_overlap=0.3))
    assert areas(apart) == [NUCLEUS**2] * 6
