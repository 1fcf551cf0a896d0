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
# # A time-lapse with lineage
#
# Cells that move, pass each other and divide: segmented by a box each in every frame,
# linked, corrected and written. The film is made
# here; use your own.

# %%
import tempfile
from pathlib import Path

import numpy as np
from scipy import ndimage

import napari_sam as ns
from napari_sam.session.notebook import draw_session

rng = np.random.default_rng(0)
ys, xs = np.mgrid[:160, :240]
film, boxes = [], []
for t in range(8):
    cells = [(40 + 4 * t, 40 + 8 * t, 16), (120 - 5 * t, 60 + 9 * t, 15)]
    if t < 4:
        cells.append((80, 190, 17))
    else:
        cells += [(80 - 6 * (t - 2), 190, 12), (80 + 6 * (t - 2), 190, 12)]
    frame = np.full(ys.shape, 50.0)
    for y, x, r in cells:
        frame[np.hypot(ys - y, xs - x) < r] = 150
    frame = ndimage.gaussian_filter(frame, 1.2) + rng.normal(0, 6, frame.shape)
    film.append(np.clip(frame, 0, 255).astype(np.uint8))
    boxes.append([(y - r, x - r, y + r + 1, x + r + 1) for y, x, r in cells])
volume = ns.open_volume(np.stack(film), axes="tyx")
volume

# %% [markdown]
# ## Segment every frame
#
# Ids need not agree from frame to frame.

# %%
session = ns.Session(volume, "nano", embeddings=False)
object_id = 0
for t, here in enumerate(boxes):
    for box in here:
        object_id += 1
        session.segment(object_id=object_id, plane=t, box=box)
draw_session(session, plane=6, side=600)

# %% [markdown]
# ## Link
#
# An id is a track now, and daughters know their mother.

# %%
tracks = session.track()
for line in tracks.lines():
    print("track", line[0].object_id, "frames", line[0].frame, "to", line[-1].frame)
print("divisions:", tracks.divisions)
{i: record.parent for i, record in session.objects.items() if record.parent}

# %% [markdown]
# ## Correct
#
# Each correction is one undo step, across pixels, ids and lineage.

# %%
first = tracks.lines()[0][0].object_id
session.tracks.cut((5, first))
print(len(session.lineage().lines()), "tracks")
session.undo()
len(session.lineage().lines())

# %%
folder = Path(tempfile.mkdtemp())
session.export(folder / "tracked.tif", "ome_tiff")
sorted(p.name for p in folder.iterdir())
