"""Where sessions of the widget are kept as they are made, before anybody saves them."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam._napari.own_layers import TAG
from napari_sam.errors import NapariSamError

if TYPE_CHECKING:
    from napari_sam.session import Session

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Return the folder of kept sessions: ``$NAPARI_SAM_SESSIONS`` or the user's data.

    It is not made by asking for it.
    """
    import platformdirs

    given = os.environ.get("NAPARI_SAM_SESSIONS")
    data = platformdirs.user_data_dir("napari-sam", appauthor=False)
    return Path(given).expanduser() if given else Path(data) / "sessions"


def kept(name: str) -> list[Path]:
    """Sessions kept for images of that name, the newest first."""
    if not folder().is_dir():
        return []
    found = folder().glob(f"{_slug(name)} *.nsam/session.json")
    return sorted((head.parent for head in found), reverse=True)


def others(name: str, session: Session) -> bool:
    """Whether earlier work on an image of that name was kept."""
    return any(str(path) != session.path for path in kept(name))


def keep(session: Session, name: str, place: str | None = None) -> str:
    """Keep every change of a session from now on; return why not, "" when it is so.

    A full disk is no reason to stop: it may be tried again.

    Parameters
    ----------
    session : Session
    name : str
        Of its image, for a folder among those of the widget.
    place : str, optional
        Folder to keep it in instead.
    """
    path = _new_folder(name) if place is None else Path(place)
    try:
        session.save(path)
    except (NapariSamError, OSError) as error:
        logger.warning("changes are kept in memory only: %s", error)
        if session.path is None:
            shutil.rmtree(path, ignore_errors=True)  # nothing half made stays
        return str(error)
    return ""


def _new_folder(name: str) -> Path:
    stamp = time.strftime("%Y-%m-%d %H.%M.%S")
    path = folder() / f"{_slug(name)} {stamp}.nsam"
    for number in range(2, 100):
        if not path.exists():
            break
        path = path.with_name(f"{_slug(name)} {stamp} {number}.nsam")
    return path


def drop_if_empty(session: Session, *, fresh: bool = False) -> None:
    """Close a session; delete its folder when it was kept for nothing.

    Parameters
    ----------
    session : Session
    fresh : bool
        Whether the folder was made for this session now, wherever it lies.
    """
    path = session.path
    used = session.can_undo or session.can_redo
    session.close()
    if path is not None and not used and (fresh or Path(path).parent == folder()):
        shutil.rmtree(path, ignore_errors=True)


def leave(session: Session, image: Any, object_id: int, *, fresh: bool = False) -> None:
    """Close a session, and note on its image layer where `left` finds it again."""
    path = session.path
    drop_if_empty(session, fresh=fresh)
    notes = image.metadata.setdefault(TAG, {})
    notes.pop("left", None)
    if path is not None and Path(path).exists():
        notes["left"] = str(path), object_id


def left(image: Any) -> tuple[str, int] | None:
    """Session and object that an image layer was left with, if they are still there."""
    found: tuple[str, int] | None = image.metadata.get(TAG, {}).get("left")
    return found if found is not None and Path(found[0]).exists() else None


def _slug(name: str) -> str:
    """Name of an image as part of a file name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_.")[:60] or "image"
