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
# # A microscopy stack in napari, from the notebook
#
# A session made in Python and the viewer show the same labels: segment here, look
# there. The stack is made of one phase-contrast image of a cell (from scikit-image)
# that drifts and fades, so that every plane differs.

# %%
import napari
import numpy as np
import skimage.data

import napari_sam as ns

cell = skimage.data.cell()[200:520, 250:550]
drifted = [np.roll(cell, 4 * z, axis=1) for z in range(5)]
fading = [1 - 0.08 * abs(z - 2) for z in range(5)]
stack = np.stack([p * f for p, f in zip(drifted, fading, strict=True)]).astype(np.uint8)
volume = ns.open_volume(stack, axes="zyx")
volume

# %% [markdown]
# ## Segment the cell on each plane
#
# A box on every plane, moved with the drift.

# %%
session = ns.Session(volume, "nano", embeddings=False)
for z in range(5):
    session.segment(object_id=1, plane=z, box=(108, 112 + 4 * z, 240, 245 + 4 * z))
[int((plane == 1).sum()) for plane in session.labels]

# %% [markdown]
# ## Look at it in napari

# %%
viewer = napari.Viewer()
viewer.add_image(stack, name="cell")
labels = viewer.add_labels(session.labels, name="labels")
labels.contour = 2
viewer.dims.set_point(0, 2)
viewer.window.add_plugin_dock_widget("napari-sam-anysize", "Segment Anything")

# %% [markdown]
# What the session changes appears in the viewer: here it takes back the last plane.

# %%
session.undo()
labels.refresh()
int((labels.data[4] == 1).sum())

# %% [markdown]
# A picture of the window, for the notebook.

# %%
from napari.utils.notebook_display import nbscreenshot

nbscreenshot(viewer)
