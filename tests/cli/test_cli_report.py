from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_sam.cli import report

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def _slowly() -> Iterator[tuple[int, int]]:
    for done in range(1, 5):
        time.sleep(0.02)
        yield done, 4


def test_a_log_is_told_in_whole_lines_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LINE_EVERY_S", 0.005)
    assert report.progress(_slowly(), "embed", "tile") == (4, 4)
    lines = capsys.readouterr().err.splitlines()
    assert any("embed" in line and "2/4" in line for line in lines)
    assert all(line.strip() and "\r" not in line for line in lines)


def test_a_short_command_tells_a_log_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.progress(_slowly(), "embed", "tile")
    assert capsys.readouterr().err == ""
