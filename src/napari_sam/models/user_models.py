"""What the user has told about models: own files by name, and licences accepted."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from napari_sam.errors import ModelError


class Licensed(Protocol):
    """Weights whose notice is shown before they are fetched."""

    @property
    def name(self) -> str:
        """What they are called."""
        ...

    @property
    def license(self) -> str:
        """Their licence."""
        ...

    @property
    def notice(self) -> str:
        """What a user should read."""
        ...


CONFIG_VARIABLE = "NAPARI_SAM_CONFIG"
"""Environment variable that moves the folder of what is remembered."""


def config_folder() -> Path:
    """Folder of what is remembered; need not exist yet."""
    if chosen := os.environ.get(CONFIG_VARIABLE):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("napari-sam", appauthor=False))


def models() -> dict[str, dict[str, Any]]:
    """Own models: name -> source, input_side, size_bytes, prompts."""
    return _read("models.json")


def add(name: str, noted: dict[str, Any]) -> None:
    """Remember an own model, in place of an earlier one of that name.

    Raises
    ------
    ModelError
        If the folder cannot be written.
    """
    _write("models.json", {**models(), name: noted})


def remove(name: str) -> bool:
    """Forget an own model; whether there was one."""
    kept = models()
    there = kept.pop(name, None) is not None
    if there:
        _write("models.json", kept)
    return there


def is_accepted(known: Licensed) -> bool:
    """Whether the user has accepted this model under its present licence."""
    noted = _read("licenses.json").get(known.name, {})
    return noted.get("license") == known.license


def accept(known: Licensed) -> None:
    """Record that the user has been shown a model's notice and wants its weights."""
    accepted = _read("licenses.json")
    accepted[known.name] = {
        "license": known.license,
        "notice": known.notice,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        _write("licenses.json", accepted)
    except ModelError:
        return  # a read-only home: the notice is shown again next time


def _read(name: str) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((config_folder() / name).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(name: str, content: dict[str, Any]) -> None:
    path = config_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=name, delete=False
        ) as f:
            json.dump(content, f, indent=2)
        os.replace(f.name, path)
    except OSError as error:
        raise ModelError(
            f"cannot write {path}: {error}. Set {CONFIG_VARIABLE} to a folder that "
            "can be written"
        ) from error
