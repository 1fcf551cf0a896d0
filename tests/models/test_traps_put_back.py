"""Every trap is caught: put back into a copy of the package, its test fails.

What stands here is checked in every run; the traps are put back when asked for, which
takes a few seconds each: ``pytest -m put_back tests/models``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from traps import TRAPS, Trap

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
SETTINGS = """[pytest]
filterwarnings =
    error
markers =
    canvas: as in pyproject.toml
"""
"""For the copy, whose tests need no plugins: starting those takes longest."""

each_trap = pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)


@each_trap
def test_what_a_trap_replaces_stands_there_once(trap: Trap) -> None:
    text = (ROOT / "src" / "napari_sam" / trap.file).read_text(encoding="utf-8")
    for right, wrong in trap.edits:
        assert text.count(right) == 1 and right != wrong, right


@each_trap
def test_a_trap_names_a_test_and_stands_in_the_docs(trap: Trap) -> None:
    file, *_, function = trap.test.split("::")
    assert f"def {function}(" in (TESTS / file).read_text(encoding="utf-8")
    page = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
    assert f"{trap.name[0].upper()}{trap.name[1:]}" in page, trap.name


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("put_back")
    without_caches = shutil.ignore_patterns("__pycache__")
    for folder in ("src", "tests/models"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=without_caches)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, copy / file)
    (copy / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    return copy


@pytest.mark.put_back
@each_trap
def test_a_trap_that_is_put_back_fails_its_test(trap: Trap, copy: Path) -> None:
    path = copy / "src" / "napari_sam" / trap.file
    right = text = path.read_text(encoding="utf-8")
    for old, new in trap.edits:
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
             f"tests/models/{trap.test}"],
            cwd=copy,
            env={
                **os.environ,
                "PYTHONPATH": str(copy / "src"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            capture_output=True,
            text=True,
        )  # fmt: skip
    finally:
        path.write_text(right, encoding="utf-8")
    # An accident on the way to the test would end with the same exit code.
    assert "\n1 failed" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
