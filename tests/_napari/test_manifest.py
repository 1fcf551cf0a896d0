from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest

from napari_sam.results.registry import FORMATS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_the_manifest_is_valid_and_everything_it_names_can_be_imported(manifest):
    manifest.validate_imports()


def test_the_package_carries_the_same_manifest():
    link = ROOT / "src" / "napari_sam" / "napari.yaml"
    assert link.read_text() == (ROOT / "napari.yaml").read_text()


def test_the_widget_and_each_action_are_in_the_segment_menu():
    raw = yaml.safe_load((ROOT / "napari.yaml").read_text())["contributions"]
    [(menu, items)] = raw["menus"].items()
    assert menu == "napari/layers/segment"
    listed = [item["command"] for item in items]
    others = (".read_", ".write_", ".sample_")
    actions = [c["id"] for c in raw["commands"]]
    assert listed == [a for a in actions if not any(o in a for o in others)]
    assert raw["widgets"][0]["display_name"] == "Segment Anything"


def test_readers_claim_only_their_own_files(manifest):
    for reader in manifest.contributions.readers:
        assert reader.accepts_directories
        assert "*" not in reader.filename_patterns


def test_the_save_dialog_offers_every_format(manifest):
    offered = {
        w.command.partition(".write_")[2]: (
            w.display_name,
            tuple(w.filename_extensions),
        )
        for w in manifest.contributions.writers
    }

    assert offered == {n: (f.title, f.suffixes) for n, f in FORMATS.items()}
    assert {tuple(w.layer_types) for w in manifest.contributions.writers} == {
        ("labels",)
    }
