from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest

from tools import changelog

if TYPE_CHECKING:
    from pathlib import Path

DAY = datetime.date(2026, 11, 25)


def test_fragments_of_the_repository_make_a_changelog() -> None:
    text = changelog.section("1.0", DAY, changelog.CHANGES)
    assert text.startswith("## 1.0 (2026-11-25)")


def test_fragments_stand_under_their_kind_in_the_order_of_issues(
    tmp_path: Path,
) -> None:
    (tmp_path / "README.md").write_text("how")
    (tmp_path / "12.feature.b.md").write_text("Twelve\nlines.\n")
    (tmp_path / "9.feature.a.md").write_text("Nine.")
    (tmp_path / "3.bugfix.md").write_text("Three.")
    text = changelog.section("0.2", DAY, tmp_path)
    assert text.split("\n\n")[1:] == [
        "### New",
        "- Nine.\n- Twelve lines.",
        "### Mended",
        "- Three.\n",
    ]


@pytest.mark.parametrize("name", ["x.feature.md", "3.fix.md"])
def test_a_name_that_is_no_fragments_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text")
    with pytest.raises(ValueError, match="expected <issue>"):
        changelog.fragments(tmp_path)


def test_a_new_version_stands_before_the_others(tmp_path: Path) -> None:
    path = tmp_path / "CHANGELOG.md"
    changelog.put_in(path, "## 1\n\n- a\n")
    changelog.put_in(path, "## 2\n\n- b\n")
    assert path.read_text().split("\n\n") == [
        "# Changelog",
        "## 2",
        "- b",
        "## 1",
        "- a\n",
    ]
