"""Colours of objects can be told from the images that they lie on."""

import numpy as np
from skimage import color, data

from napari_sam._napari.label_colors import MANY, object_colormap, object_colors


def test_the_first_objects_are_seen_on_stained_tissue_and_differ():
    tissue = data.immunohistochemistry()[::8, ::8] / 255
    lab = color.rgb2lab(tissue)

    def seen(rgb):
        over = color.rgb2lab(tissue / 2 + np.array(rgb) / 2)  # as opaque as our layer
        return float(np.median(color.deltaE_ciede2000(lab, over)))

    first = object_colors()[:12]
    assert seen(first[0]) > 25 and min(map(seen, first)) > 18
    labs = color.rgb2lab(np.array(first)[None])[0]
    apart = color.deltaE_ciede2000(labs[:, None], labs[None])
    assert apart[~np.eye(len(first), dtype=bool)].min() > 8


def test_background_is_clear_and_colours_come_round():
    colors = object_colormap().map(np.array([0, 1, MANY, MANY + 1], np.uint16))
    assert colors[0, 3] == 0 and (colors[1:, 3] == 1).all()
    np.testing.assert_array_equal(colors[1], colors[3])
    np.testing.assert_allclose(colors[1, :3], object_colors()[0])
