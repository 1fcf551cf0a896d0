"""Where a training run keeps its state: whole or not at all, and what was logged."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STATE = "state.pt"
LOG = "log.csv"


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write all that a run needs to go on, in the place of the former state."""
    part = folder / f"{STATE}.part"
    torch.save(dict(state), part)
    os.replace(part, folder / STATE)


def load_state(folder: Path, device: str = "cpu") -> dict[str, Any] | None:
    """Read a state, or None where there is none; nothing in it is executed."""
    path = folder / STATE
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def log_rows(
    folder: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> None:
    """Add rows to the table of a run, with a header where it is new."""
    path = folder / LOG
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" for k, v in row.items()})
