"""Tests at full size run when asked for: ``pytest -m full_size tests/models``."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "full_size: needs a minute and 4 GB; runs with -m full_size only"
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if "full_size" in config.getoption("-m"):
        return
    asked_for = [i for i in items if i.get_closest_marker("full_size") is None]
    left_out = [i for i in items if i.get_closest_marker("full_size") is not None]
    config.hook.pytest_deselected(items=left_out)
    items[:] = asked_for
