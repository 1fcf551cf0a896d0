import importlib
import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest
from npe2 import PluginManifest
from packaging.requirements import Requirement

import napari_sam

ROOT = Path(__file__).parents[1]
PACKAGE = Path(napari_sam.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = (Requirement(v) for v in lines if v and not v.startswith("#"))
    return {re.sub(r"[-_.]+", "-", r.name.lower()): r for r in found}


def requirements():
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    for name, entries in {"": project["dependencies"], **extras}.items():
        for entry in entries:
            yield pytest.param(Requirement(entry), id=f"{name}:{entry}")


def test_readme_has_the_two_commands_word_for_word():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert (
        'python -m pip install -c constraints.txt ".[all]" && napari-sam demo' in lines
    )
    assert (
        'python -m pip install -c constraints.txt -e ".[all,dev]" && python -m pytest'
        in lines
    )


def test_an_index_renders_the_readme_with_its_pictures():
    from readme_renderer.markdown import render

    html = render((ROOT / "README.md").read_text(encoding="utf-8"))
    pictures = re.findall(r'<img[^>]* src="([^"]+)"', html)

    assert "<h1>" in html or "<h1 " in html
    assert pictures
    for address in pictures:
        # An index shows no picture by a relative address.
        _, on_main, path = address.partition("/napari-sam/napari-sam/raw/main/")
        assert on_main, address
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("requirement", list(requirements()))
def test_tested_version_lies_in_the_open_range(requirement):
    if requirement.name == "napari-sam-anysize":
        return
    (pin,) = pins()[re.sub(r"[-_.]+", "-", requirement.name.lower())].specifier

    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version)


def test_constraints_are_exact_and_unmarked():
    for requirement in pins().values():
        assert [s.operator for s in requirement.specifier] == ["=="]
        assert not requirement.extras
        assert requirement.marker is None


def test_constraints_name_what_is_installed():
    differing = {}
    for name, requirement in pins().items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            differing[name] = installed
    if differing and os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.skip(f"other versions are installed here: {differing}")
    assert not differing


def test_no_agpl_or_qt_binding_among_the_core_dependencies():
    names = {Requirement(d).name.lower() for d in PROJECT["project"]["dependencies"]}

    assert not names & {"pyqt5", "pyqt6", "pyside6", "ultralytics", "napari"}


def test_manifest_is_one_file_that_the_package_links_to():
    assert (PACKAGE / "napari.yaml").resolve() == (ROOT / "napari.yaml").resolve()


def test_manifest_is_valid_and_all_its_commands_import():
    manifest = PluginManifest.from_file(ROOT / "napari.yaml")

    assert manifest.contributions.widgets
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_plugin_is_discovered():
    entry_points = importlib.metadata.entry_points(group="napari.manifest")

    assert [e.value for e in entry_points if e.name == "napari-sam-anysize"] == [
        "napari_sam:napari.yaml"
    ]


def test_weights_of_nano_ship_and_are_small():
    weights = PACKAGE / "weights" / "nano.safetensors"

    assert 100_000 < weights.stat().st_size <= 12_000_000
