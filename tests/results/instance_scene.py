"""Truth and a find of it with all that can go wrong."""

import numpy as np


def scene():
    """Return labels of 64 squares, and them shifted, merged, split, lost, made up."""
    rng = np.random.default_rng(5)
    truth = np.zeros((160, 160), np.int32)
    for n in range(64):
        y, x = 20 * (n // 8) + 3, 20 * (n % 8) + 3
        truth[y : y + 14, x : x + 14] = n + 1
    found = np.zeros_like(truth)
    for n in range(64):
        y, x = 20 * (n // 8) + 3, 20 * (n % 8) + 3
        dy, dx = rng.integers(-3, 4, 2)
        size = 14 + rng.integers(-4, 5)
        kind = n % 9
        if kind == 0:
            continue
        name = 100 + n - (1 if kind == 2 else 0)  # 1 and 2 merged
        found[y + dy : y + dy + size, x + dx : x + dx + size] = name
        if kind == 4:
            found[y : y + 7, x : x + 14] = 300 + n  # split
        if kind == 7:
            found[y - 2 : y + 1, x : x + 5] = 500 + n  # made up
    return truth, found
