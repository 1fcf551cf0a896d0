"""The command line: ``napari-sam demo``, ``embed``, ``segment``, ``evaluate``, ..."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``napari-sam``; errors of ours become one message and exit code 2."""
    from napari_sam.cli.app import app
    from napari_sam.errors import NapariSamError

    try:
        app(args=arguments, prog_name="napari-sam")
    except NapariSamError as error:
        print(f"napari-sam: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        print(
            f"napari-sam: {what}. Check that it exists, may be read or written, and "
            "has space left; what was finished before is safe",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
