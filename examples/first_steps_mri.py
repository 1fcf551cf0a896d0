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
# # First steps: organs on an MR slice
#
# An MR slice of an abdomen that comes with pydicom, and the model `nano` that comes
# with napari-sam: nothing to download.

# %%
from pydicom.data import get_testdata_file
from tqdm.auto import tqdm

import napari_sam as ns
from napari_sam.session.notebook import draw_candidates, draw_session

path = get_testdata_file("examples_overlay.dcm", download=False)
volume = ns.open_volume(path)
volume

# %% [markdown]
# The volume knows its geometry, and how raw values become what the model sees.

# %%
volume.spacing, volume.units, volume.intensity.windows

# %% [markdown]
# ## A session
#
# Encoding is done once; the masks of every later click come from the embeddings. Here
# they stay in memory.

# %%
session = ns.Session(volume, "nano", embeddings=False)
session

# %% [markdown]
# ## A box around a kidney
#
# Boxes are `(y0, x0, y1, x1)`. `segment` returns candidates, best first, and puts the
# best into `session.labels`.

# %%
kidney = session.segment(object_id=1, box=(187, 118, 251, 186))
draw_candidates(session, kidney)

# %% [markdown]
# ## A click on the aorta

# %%
session.segment(object_id=2, points=[(167, 254)])
draw_session(session, side=800)

# %% [markdown]
# Not what you meant? Add a point with label 0 where the mask should not be, or take
# another candidate with `session.choose(1)`.

# %%
session.segment(object_id=2, points=[(167, 254), (150, 272)], point_labels=[1, 0])
session

# %% [markdown]
# Every step can be undone and done again.

# %%
session.undo(), session.redo()

# %% [markdown]
# ## Measure and write
#
# Areas in square millimetres come from the spacing in the file.

# %%
dy, dx = volume.spacing
{i: round(float((session.labels == i).sum() * dy * dx)) for i in (1, 2)}

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
session.export(folder / "organs.zarr")
session.export(folder / "organs.json")
sorted(p.name for p in folder.iterdir())

# %% [markdown]
# ## Encode beforehand
#
# For volumes: with the embeddings in a store, each click is answered at once. The
# progress bar is an ordinary tqdm.

# %%
steps = ns.encode_volume(volume, session.model, folder / "organs.nsam-emb", levels=[0])
done, total = list(tqdm(steps))[-1]
done, total
