"""``napari-sam models``: what there is, what is here, and downloading."""

from __future__ import annotations

from napari_sam.cli.report import Report, megabytes, progress
from napari_sam.models.registry import download, find_model, list_models


def show(*, as_json: bool) -> None:
    """List the models known by name."""
    report = Report(as_json)
    report.data["models"] = [
        {
            "name": m.name,
            "summary": m.summary,
            "input_side": m.input_side,
            "size_bytes": m.path.stat().st_size if m.cached else m.size_bytes,
            "license": m.license,
            "citation": m.citation,
            "here": m.cached,
            "path": str(m.path),
            "url": m.url,
        }
        for m in list_models()
    ]
    report.say(f"{'name':<17}{'size':>10}  {'licence':<12}{'where':<14}what it is")
    for m in report.data["models"]:
        where = "here" if m["here"] else "to download" if m["url"] else "missing"
        size = megabytes(m["size_bytes"])
        report.say(
            f"{m['name']:<17}{size:>10}  {m['license']:<12}{where:<14}{m['summary']}"
        )
    report.finish()


def fetch(name: str) -> None:
    """Download a model's weights."""
    known = find_model(name)
    if not known.cached:
        print(known.notice)
    progress(download(name), name, "B")
    print(f"{name} is here: {known.path}")
