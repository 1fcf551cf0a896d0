"""What is declared is imported, and what is imported is declared."""

import ast
import functools
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "napari_sam"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
PLUGINS = {
    "pylibjpeg": "pydicom finds it by itself and decodes JPEG with it",
    "pylibjpeg-openjpeg": "pylibjpeg's plugin for JPEG 2000",
    "pyjpegls": "pydicom finds it by itself and decodes JPEG-LS with it",
    "pyogrio": "geopandas' engine, named as text",
}
"""Distributions that work without being imported by us, and why."""


def normal(name):
    return re.sub(r"[-_.]+", "-", name.lower())


def declared():
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"]]
    wanted += [r for name, entries in extras.items() if name != "dev" for r in entries]
    names = {normal(Requirement(r).name) for r in wanted}
    return names - {normal(PROJECT["name"])}


@functools.cache
def imported():
    """Top-level names imported anywhere in the package, with one file for each."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        if path.is_relative_to(SOURCE / "testing"):  # pytest itself, for users' tests
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                found.setdefault(name.partition(".")[0], path)
    return {
        name: path
        for name, path in found.items()
        if name not in sys.stdlib_module_names and name != "napari_sam"
    }


OWNERS = {
    module: {normal(owner) for owner in owners}
    for module, owners in importlib.metadata.packages_distributions().items()
}


def test_what_is_imported_is_declared():
    names = declared()
    missing = {
        module: str(path.relative_to(ROOT))
        for module, path in imported().items()
        if not OWNERS.get(module, {normal(module)}) & names
    }
    assert not missing


@pytest.mark.parametrize("name", sorted(declared() - set(PLUGINS)))
def test_what_is_declared_is_imported(name):
    modules = {module for module, owners in OWNERS.items() if name in owners}
    assert (modules or {name.replace("-", "_")}) & set(imported())


def test_no_module_reaches_into_private_parts_of_zarr():
    private = re.compile(
        r"\bzarr(\.\w+)*\._\w+|from zarr(\.\w+)* import _|zarr\.core\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if private.search(line)
    ]
    assert not found


def test_no_hint_installs_this_package_by_another_projects_name():
    hints = re.compile(r"pip install[^\n&]*\bnapari[-_]sam\b(?!-anysize)")
    texts = [*SOURCE.rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert not [p for p in texts if hints.search(p.read_text(encoding="utf-8"))]
