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
# # A measured table
#
# Objects of a picture, their sizes and brightness in the units of the file, and what is
# known of each beside them.

# %%
import skimage.data

import napari_sam as ns
from napari_sam.session.notebook import draw_session

coins = skimage.data.coins()
session = ns.Session(coins, "nano", embeddings=False)
for object_id, box in enumerate(
    [(107, 25, 160, 78), (37, 305, 80, 350), (172, 36, 218, 84), (92, 167, 138, 213)], 1
):
    session.segment(object_id=object_id, box=box)
    session.describe(object_id, class_name="coin")
draw_session(session, side=700)

# %% [markdown]
# ## Measure
#
# One row an object: area, shape, place, brightness, score and where it comes from.

# %%
table = session.table()
table

# %% [markdown]
# It is a pandas table: sort it, join it, draw it.

# %%
table.sort_values("size", ascending=False).head(3)

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
session.export(folder / "coins.csv")
print((folder / "coins.csv").read_text()[:300])
