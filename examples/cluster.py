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
# # Embedding on a cluster
#
# Encoding is what takes long. A dask client does it on as many processes or machines as
# it has; the embeddings land in one store that every later click answers from. Here the
# "cluster" is a thread of this very process: give `Client` your scheduler's address.

# %%
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import zarr
from dask.distributed import Client, LocalCluster

import napari_sam as ns

folder = Path(tempfile.mkdtemp())
mosaic = np.tile(skimage.data.coins(), (3, 3))
zarr.save(folder / "mosaic.zarr", mosaic)
volume = ns.open_volume(folder / "mosaic.zarr", axes="yx")
volume

# %% [markdown]
# The workers open image and store by their paths, which must mean the same there.

# %%
model = ns.load_model("nano")
store = folder / "mosaic.nsam-emb"
local = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
with LocalCluster(processes=False, **local) as cluster, Client(cluster) as client:
    *_, finished = ns.encode_volume(volume, model, store, client=client)
finished

# %% [markdown]
# Run it again and it ends at once: finished tiles are never encoded twice.

# %%
list(ns.encode_volume(volume, model, store))[-1]

# %%
session = ns.Session(volume, model, embeddings=store)
best, *_ = session.segment(box=(107, 25, 160, 78))
best.mask.sum()
