"""Python, the command line and the widget show one list of models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_sam import TINY, reference_sam

import napari_sam as ns
from napari_sam.cli import main
from napari_sam.models import download, user_models
from napari_sam.models.registry import add_model


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model of one's own, one downloaded, nothing else."""
    monkeypatch.setenv(user_models.CONFIG_VARIABLE, str(tmp_path / "config"))
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "cache"))
    torch.save(reference_sam(TINY).state_dict(), tmp_path / "mine.pth")
    add_model("my_cells", tmp_path / "mine.pth")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mobile_sam.pt").write_bytes(b"as if downloaded")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(["models", *arguments])
    assert end.value.code in (0, None)
    return capsys.readouterr().out


def test_command_line_and_python_list_the_same_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = ns.list_models()
    names = [m.name for m in known]
    assert names[0] == "nano" and names[-1] == "my_cells" and len(names) > 20
    listed = json.loads(said(capsys, "--json"))["models"]
    for shown, model in zip(listed, known, strict=True):
        assert shown["name"] == model.name
        assert shown["license"] == model.license
        assert shown["citation"] == model.citation
        assert shown["input_side"] == model.input_side
        assert shown["prompts"] == sorted(model.prompts)
        assert shown["here"] == model.cached
        assert shown["where"] == model.where
    assert {m["name"] for m in listed if m["here"]} == {
        "nano", "mobile_sam", "my_cells",
    }  # fmt: skip
    table, citations = said(capsys).split("please cite")
    rows = table.splitlines()[1:]
    assert [line.split()[0] for line in rows if line.strip()] == names
    assert all(m.citation in citations for m in known)


def test_the_widget_lists_the_same_models(qtbot: Any) -> None:
    opening = pytest.importorskip("napari_sam._napari.opening")
    from napari_sam._napari.state import PanelState
    from napari_sam._napari.views.model_view import ModelView

    known = ns.list_models()
    view = ModelView()
    qtbot.addWidget(view)
    choices = opening.model_choices()
    view.show_state(PanelState(models=choices, model="nano"))
    names = [view.names.itemData(i) for i in range(view.names.count())]
    assert names == [m.name for m in known]
    assert [c.license for c in choices] == [m.license for m in known]
    assert [view.names.itemText(i).partition("  ")[2] for i in range(len(names))] == [
        "" if m.cached else f"({m.where})" for m in known
    ]
