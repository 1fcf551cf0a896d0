"""``napari-sam models``: what there is, what is here, downloading, and own files."""

from __future__ import annotations

from typing import Any

from napari_sam.cli.report import Report, megabytes, progress
from napari_sam.models.registry import (
    accept_license,
    add_model,
    download,
    find_model,
    list_models,
    remove_model,
)


def show(*, as_json: bool) -> None:
    """List the models known by name."""
    report = Report(as_json)
    report.data["models"] = [
        {
            "name": m.name,
            "summary": m.summary,
            "input_side": m.input_side,
            "prompts": sorted(m.prompts),
            "size_bytes": m.path.stat().st_size if m.cached else m.size_bytes,
            "license": m.license,
            "citation": m.citation,
            "here": m.cached,
            "where": m.where,
            "path": str(m.path),
            "url": m.url,
        }
        for m in list_models()
    ]
    report.say(
        f"{'name':<17}{'size':>10}{'side':>6}  {'prompts':<18}{'licence':<13}"
        f"{'where':<15}what it is"
    )
    for m in report.data["models"]:
        size, prompts = megabytes(m["size_bytes"]), ", ".join(m["prompts"])
        report.say(
            f"{m['name']:<17}{size:>10}{m['input_side']:>6}  {prompts:<18}"
            f"{m['license'] or '-':<13}{m['where']:<15}{m['summary']}"
        )
    report.say("\nplease cite")
    for citation, names in _citations(report.data["models"]).items():
        report.say(f"{', '.join(names)}:\n    {citation}")
    report.finish()


def _citations(models: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names by what to cite for them, in the order of the list."""
    out: dict[str, list[str]] = {}
    for m in models:
        if m["citation"]:
            out.setdefault(m["citation"], []).append(m["name"])
    return out


def fetch(name: str) -> None:
    """Download a model's weights."""
    known = find_model(name)
    if not known.cached:
        print(known.notice)
        accept_license(name)
    progress(download(name), name, "B")
    print(f"{name} is here: {known.path}")


def add(name: str, path: str) -> None:
    """Remember a checkpoint file under a name."""
    known = add_model(name, path)
    print(f"{name} is {known.path}, a model of {known.input_side} pixels a side")


def remove(name: str) -> None:
    """Forget a name given by `add`."""
    remove_model(name)
    print(f"{name} is forgotten; its file stays")
