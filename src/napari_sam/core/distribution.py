"""What this package is called where it is installed, and who else uses its name."""

from __future__ import annotations

import importlib.metadata

NAME = "napari-sam-anysize"
"""Name of the distribution, and of the plugin. ``napari-sam`` on PyPI is another
project with the same import name."""


def version() -> str:
    """Version of the installed distribution."""
    return importlib.metadata.version(NAME)


def rivals() -> list[str]:
    """Names of other installed distributions that claim ``napari_sam``, sorted."""
    owners = importlib.metadata.packages_distributions().get("napari_sam", [])
    names = {owner.lower().replace("_", "-") for owner in owners}
    for found in importlib.metadata.distributions():
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name == "napari-sam":
            names.add(name)
    return sorted(names - {NAME})


def warning() -> str | None:
    """Say what to do where another distribution claims ``napari_sam``, or None."""
    others = rivals()
    if not others:
        return None
    listing = ", ".join(others)
    return (
        f"also installed: {listing}, which holds a package napari_sam, too, and may "
        f"have replaced files of {NAME}: pip uninstall {' '.join(others)}, then "
        f"install {NAME} again"
    )
