# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fine-tuning on your own labels
#
# A few labelled pictures teach the model what you mean by an object. Here "the whole
# cell" is meant, where a click usually gives the nucleus; the pictures are made, use
# yours.

# %%
import numpy as np
from scipy import ndimage

import napari_sam as ns

rng = np.random.default_rng(0)
ys, xs = np.mgrid[:160, :160]


def picture():
    """Make one picture of cells, and its labels."""
    image, labels = np.full((160, 160), 60.0), np.zeros((160, 160), int)
    centres = [(40, 40), (40, 118), (118, 40), (118, 118)]
    for i, (y, x) in enumerate(centres, 1):
        y, x = y + rng.uniform(-8, 8), x + rng.uniform(-8, 8)
        far = np.hypot(ys - y, (xs - x) * rng.uniform(0.8, 1.2))
        labels[far < 28] = i
        image[far < 28] = 95
        image[far < 11] = 190
    image = ndimage.gaussian_filter(image, 1.5) + rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


pictures, labels = zip(*[picture() for _ in range(8)], strict=True)

# %% [markdown]
# ## Train
#
# Pictures that are held back judge the model before and after. The image encoder stays
# as it is, so an ordinary computer does.

# %%
import tempfile

result = ns.train(
    "nano", list(pictures), list(labels), out=tempfile.mkdtemp(), name="cells", epochs=4
)
print(result.table())

# %% [markdown]
# ## Use it
#
# The result is a checkpoint like any other.

# %%
from napari_sam.session.notebook import draw_session

session = ns.Session(pictures[0], result.path, embeddings=False)
session.segment(points=[(40, 40)])
draw_session(session, side=500)
