import ast
import re
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def executed(name, tmp_path):
    """Run an example as a notebook; gives the types of what its cells showed."""
    notebook = jupytext.read(EXAMPLES / name)
    NotebookClient(
        notebook, timeout=240, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # fmt: skip
    return [
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    ]


def test_every_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")

    assert all(f'"{p.name}"' in text for p in EXAMPLES.glob("*.py"))


def test_first_steps_run_and_show_pictures(tmp_path):
    shown = executed("first_steps_mri.py", tmp_path)

    assert shown.count("image/png") >= 3


@pytest.mark.parametrize(
    "name",
    [
        "cluster.py",
        "ct_to_dicom_seg.py",
        "fine_tuning.py",
        "measured_table.py",
        "satellite_to_geopackage.py",
        "time_lapse_with_lineage.py",
    ],
)
def test_example_runs_to_its_end(name, tmp_path):
    assert executed(name, tmp_path)


@pytest.mark.canvas
def test_microscopy_stack_opens_in_napari(tmp_path):
    shown = executed("microscopy_stack_napari.py", tmp_path)

    assert "image/png" in shown or "text/html" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_of_the_docs_use_names_that_are_there(page):
    import napari_sam

    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ns":
                assert hasattr(napari_sam, node.attr), node.attr
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "session":
                known = dir(napari_sam.Session)
                known += ["model", "labels", "volume", "rule"]
                assert node.attr in known, node.attr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_the_docs_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)

    assert [link for link in links if not (page.parent / link).exists()] == []
