"""``napari-sam inspect``: what a file, a folder or a study holds."""

from __future__ import annotations

from napari_sam.cli.report import Report


def run(source: str, *, series: str | None, as_json: bool) -> None:
    """Print what there is, for people or as JSON."""
    from napari_sam.volume.inspection import inspect

    report = Report(as_json)
    found = inspect(source, series=series)
    for line in found.lines():
        report.say(line)
    report.data.update(found.to_json())
    report.finish()
