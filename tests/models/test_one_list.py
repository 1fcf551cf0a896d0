"""Python, the command line and the widget show one list of models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from reference_sam import TINY, reference_sam

import napari_sam as ns
from napari_sam.cli import main
from napari_sam.models import remembered
from napari_sam.models.registry import add_model


def test_widget_command_line_and_python_list_the_same_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = pytest.importorskip("napari_sam._napari.opening")
    monkeypatch.setenv(remembered.CONFIG_VARIABLE, str(tmp_path / "config"))
    torch.save(reference_sam(TINY).state_dict(), tmp_path / "mine.pth")
    add_model("my_cells", tmp_path / "mine.pth")

    known = ns.list_models()
    with pytest.raises(SystemExit) as end:
        main(["models", "--json"])
    assert end.value.code in (0, None)
    listed = json.loads(capsys.readouterr().out)["models"]
    choices = opening.model_choices()

    names = [m.name for m in known]
    assert names[0] == "nano" and names[-1] == "my_cells" and len(names) > 20
    assert [m["name"] for m in listed] == names
    assert [c.name for c in choices] == names
    assert [m["license"] for m in listed] == [m.license for m in known]
    assert [c.license for c in choices] == [m.license for m in known]
    assert [m["here"] for m in listed] == [m.cached for m in known]
