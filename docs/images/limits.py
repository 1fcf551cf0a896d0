"""Draw what nano does not see, for docs/nano.md, on pictures of scikit-image.

    python docs/images/limits.py

Every row is one picture with its prompts, and the mask ranked first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data

import napari_sam as ns
from napari_sam.cli.demo import panels
from napari_sam.core.picture import below
from napari_sam.core.planes import Plane

HERE = Path(__file__).parent
POINTS = {
    "gland, one click": ("immunohistochemistry", [(130, 110)]),
    "gland, four clicks": (
        "immunohistochemistry",
        [(130, 110), (60, 60), (60, 190), (210, 180)],
    ),
    "vessels, one click": ("retina", [(127, 130)]),
    "suit, one click": ("astronaut", [(330, 170)]),
}
"""Title to a picture and clicks (y, x) in it."""


def main() -> None:
    """Write ``limits.png`` next to this file."""
    rows = []
    for title, (name, points) in POINTS.items():
        image = np.asarray(getattr(skimage.data, name)())
        if name == "retina":
            image = image[300:812, 500:1012]
        session = ns.Session(image, "nano")
        session.segment(object_id=1, points=points, point_labels=[1] * len(points))
        rows.append(panels(session, Plane.of(image.shape[:2], 0), title, side=300))
    below(rows).save(HERE / "limits.png")


if __name__ == "__main__":
    main()
