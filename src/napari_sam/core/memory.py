"""How much memory there is, for what can only be read whole."""

from __future__ import annotations

import os

_WITHOUT_SYSCONF = 4 << 30
"""What is taken to be free where the system does not say."""


def available_bytes() -> int:
    """Memory that is free now, as far as the system says."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return _WITHOUT_SYSCONF


def readable_size(n_bytes: float) -> str:
    """Bytes for people: "3.2 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return (
                f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
            )
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
