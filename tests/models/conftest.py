"""Tests that take long run when asked for: ``pytest -m full_size tests/models``."""

from __future__ import annotations

import pytest

ON_REQUEST = {
    "full_size": "needs a minute and 4 GB; runs with -m full_size only",
    "put_back": "puts known mistakes into a copy; runs with -m put_back only",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, why in ON_REQUEST.items():
        config.addinivalue_line("markers", f"{name}: {why}")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    asked = config.getoption("-m")
    waiting = [name for name in ON_REQUEST if name not in asked]
    left_out = [i for i in items if any(map(i.get_closest_marker, waiting))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if i not in set(left_out)]
