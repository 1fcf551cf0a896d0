"""``python -m napari_sam.cli``."""

from napari_sam.cli import main

main()
