"""The file that warnings and errors of the panel go to, for reports of bugs."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from napari_sam.models.user_models import config_folder

LINES = 60
"""Last lines that a report takes along."""
_MOST_BYTES = 500_000


def log_path() -> Path:
    """Return the log of panels; it need not exist."""
    return config_folder() / "panel.log"


def start() -> None:
    """Write warnings and errors of this process to the log from now on.

    Where the folder cannot be written nothing is kept, which is no reason to stop.
    """
    logger, path = logging.getLogger("napari_sam"), log_path()
    for handler in logger.handlers:
        if isinstance(handler, RotatingFileHandler):
            if Path(handler.baseFilename) == path.absolute():
                return
            logger.removeHandler(handler)
            handler.close()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = RotatingFileHandler(
            path, maxBytes=_MOST_BYTES, backupCount=1, encoding="utf-8", delay=True
        )
        made.setLevel(logging.WARNING)
        made.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        )
        logger.addHandler(made)


def last_lines(n: int = LINES) -> list[str]:
    """Return the end of the log; nothing where there is none."""
    try:
        with log_path().open(encoding="utf-8", errors="replace") as file:
            return [line.rstrip() for line in deque(file, n)]
    except OSError:
        return []
