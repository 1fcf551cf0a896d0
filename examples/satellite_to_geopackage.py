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
# # From a satellite tile to GeoPackage
#
# Fields are clicked on a GeoTIFF and leave as polygons in its coordinate system. The
# tile is made here, so that nothing is downloaded; use your own file instead.

# %%
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy import ndimage

import napari_sam as ns
from napari_sam.session.notebook import draw_session

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(3)
seeds = rng.uniform(0, 400, (14, 2))
ys, xs = np.mgrid[:400, :400]
squared = (ys[..., None] - seeds[:, 0]) ** 2 + (xs[..., None] - seeds[:, 1]) ** 2
fields = squared.argmin(-1)
hedges = ndimage.morphological_gradient(fields, size=7) > 0
colours = rng.uniform(60, 200, (14, 3))
tile = colours[fields] + rng.normal(0, 6, (400, 400, 3))
tile[hedges] = (35, 60, 30)
tile = np.clip(ndimage.gaussian_filter(tile, (0.7, 0.7, 0)), 0, 255).astype(np.uint8)
with rasterio.open(
    folder / "tile.tif", "w", driver="GTiff", width=400, height=400, count=3,
    dtype="uint8", crs="EPSG:32632", transform=from_origin(600000, 5300000, 2.5, 2.5),
) as file:  # fmt: skip
    file.write(tile.transpose(2, 0, 1))

# %%
volume = ns.open_volume(folder / "tile.tif")
volume

# %% [markdown]
# ## A click for each field

# %%
session = ns.Session(volume, "nano", embeddings=False)
inner = [np.argwhere((fields == i) & ~hedges).mean(0) for i in range(14)]
inside = [i for i, at in enumerate(inner) if ((at > 60) & (at < 340)).all()][:4]
for object_id, i in enumerate(inside, 1):
    session.segment(object_id=object_id, points=[tuple(inner[i])])
    session.describe(object_id, class_name="field")
draw_session(session, side=700)

# %% [markdown]
# ## Polygons in metres
#
# GeoPackage keeps the coordinate system and what is known of each object.

# %%
session.export(folder / "fields.gpkg")
table = geopandas.read_file(folder / "fields.gpkg")
print(table.crs, table.total_bounds.round())
table.assign(hectares=(table.area / 1e4).round(2))
