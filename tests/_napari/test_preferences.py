"""What is set in napari's preferences, and the log that reports take along."""

import logging
from dataclasses import asdict
from pathlib import Path

import yaml

from napari_sam._napari import log_file, preferences
from napari_sam._napari.doctor import as_text, examine
from napari_sam._napari.opening import first_model
from napari_sam._napari.preferences import Preferences, apply_cache

FOLDER, LIMIT = "NAPARI_SAM_CACHE", "NAPARI_SAM_CACHE_LIMIT"


def test_the_manifest_declares_each_preference_with_its_default():
    root = Path(__file__).parents[2]
    raw = yaml.safe_load((root / "napari.yaml").read_text())["contributions"]
    declared = raw["configurations"]["panel"]["properties"]
    defaults = {name: one["default"] for name, one in declared.items()}
    assert defaults == {**asdict(Preferences()), "cache_limit": "20 GB"}


def test_napari_gives_what_is_set_and_older_ones_the_defaults(monkeypatch):
    class Panel:
        model, device, cache_folder, cache_limit = "sam_vit_b", " cpu ", None, "5 GB"

    class Settings:
        panel = Panel

    monkeypatch.setattr(
        "napari.settings.get_plugin_settings", lambda name: Settings, raising=False
    )
    assert preferences.preferences() == Preferences("sam_vit_b", "cpu", "", "5 GB")
    monkeypatch.delattr("napari.settings.get_plugin_settings")
    assert preferences.preferences() == Preferences()


def test_the_cache_follows_preferences_and_the_environment_counts_more(monkeypatch):
    monkeypatch.setattr(preferences, "_set", {})
    around = {FOLDER: "/mine"}
    assert not apply_cache(Preferences(cache_folder="/a", cache_limit="5 GB"), around)
    assert around == {FOLDER: "/mine", LIMIT: "5 GB"}
    assert not apply_cache(Preferences(cache_limit="none"), around)
    assert around[LIMIT] == "none"
    wrong = apply_cache(Preferences(cache_limit="much"), around)
    assert "'much'" in wrong and "preferences" in wrong
    assert around == {FOLDER: "/mine"}


def test_a_preferred_model_that_is_not_here_gives_way_to_nano(tmp_path):
    assert first_model("sam_vit_h") == first_model("no such") == "nano"
    file = tmp_path / "own.pth"
    file.write_bytes(b"")
    assert first_model(str(file)) == str(file)


def test_warnings_are_logged_to_a_file_that_the_report_ends_with(sessions):
    logger = logging.getLogger("napari_sam")
    before = list(logger.handlers)
    logger.handlers.clear()  # a panel of an earlier test may have begun one
    log_file.start()
    log_file.start()
    assert len(logger.handlers) == 1
    logging.getLogger("napari_sam.session").warning("a scan of %d planes", 7)
    text = as_text(list(examine(encode=False)))
    assert text.endswith("napari_sam.session: a scan of 7 planes")
    assert text.count("Log of the panel") == 1
    logger.handlers[-1].close()
    logger.handlers[:] = before
