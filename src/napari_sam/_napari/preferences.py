"""What a user sets once in napari's preferences: model, device, cache of embeddings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam.core.distribution import NAME
from napari_sam.embeddings.cache import LIMIT_VARIABLE, size_bytes
from napari_sam.errors import StoreError
from napari_sam.models.download import CACHE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import MutableMapping


@dataclass(frozen=True, slots=True)
class Preferences:
    """Settings of the plugin, as `napari.yaml` declares them under ``panel``."""

    model: str = "nano"
    """Model that a new panel begins with."""
    device: str = "auto"
    cache_folder: str = ""
    """For embeddings and downloaded weights; "" for the system's folder for caches."""
    cache_limit: str = ""
    """The most that embeddings there may take, as "50 GB"; "" for the default."""


def preferences() -> Preferences:
    """Read the preferences; those of napari versions without any are the defaults."""
    try:
        from napari.settings import get_plugin_settings

        found = get_plugin_settings(NAME).panel
    except (ImportError, KeyError, AttributeError):
        return Preferences()
    names = Preferences.__dataclass_fields__
    said = {name: str(getattr(found, name, "") or "").strip() for name in names}
    return Preferences(**{k: v for k, v in said.items() if v})


_set: dict[str, str] = {}
"""Variables of this process that came from preferences, and their values."""


def apply_cache(
    wanted: Preferences, environ: MutableMapping[str, str] = os.environ
) -> str:
    """Let everything in this process, and workers it starts, use the cache preferred.

    Variables that the user has set in the environment count more.

    Returns
    -------
    str
        What is wrong with a preference, which is left out then; "" when all is well.
    """
    wrong, limit = "", wanted.cache_limit
    if limit and limit.lower() != "none":
        try:
            size_bytes(limit, "the cache limit in napari's preferences")
        except StoreError as error:
            wrong, limit = str(error), ""
    chosen = {CACHE_VARIABLE: wanted.cache_folder, LIMIT_VARIABLE: limit}
    for name, value in chosen.items():
        if environ.get(name) != _set.get(name):
            continue  # the user's own
        environ.pop(name, None)
        _set.pop(name, None)
        if value:
            environ[name] = _set[name] = value
    return wrong
