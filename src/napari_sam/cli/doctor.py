"""``napari-sam doctor``: what a bug report should tell."""

from __future__ import annotations

import json
from dataclasses import asdict


def run(*, encode: bool, as_json: bool) -> None:
    """Print what is found; what is wrong comes with what to do about it."""
    from napari_sam._napari.doctor import as_text, examine

    findings = list(examine(encode=encode))
    if as_json:
        print(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        print(as_text(findings))
