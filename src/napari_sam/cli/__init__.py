"""The command line: ``napari-sam demo``, ``embed``, ``segment``, ``evaluate``, ..."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_KEYWORDS = re.compile(
    r"(?<![\w\[(,./\\-])(series|axes|channels|spacing|taken|volume)="
    r"(\.\.\.|\[\.\.\.\])?"
)
"""Keywords of the library that its messages name."""


def as_options(text: str) -> str:
    """Say a message of the library in the words of the command line.

    Examples
    --------
    >>> as_options("choose one with series=...: 1, 2")
    'choose one with --series: 1, 2'
    >>> as_options('name them, such as axes="cyx"')
    'name them, such as --axes "cyx"'
    """

    def option(found: re.Match[str]) -> str:
        name = {"volume": "image"}.get(found[1], found[1])
        after = text[found.end() : found.end() + 1]
        return f"--{name}" + (" " if after.isalnum() or after in "\"'<[" else "")

    return _KEYWORDS.sub(option, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``napari-sam``; errors of ours become one message and exit code 2."""
    from napari_sam.cli.app import app
    from napari_sam.errors import Cancelled, NapariSamError

    try:
        app(args=arguments, prog_name="napari-sam")
    except Cancelled as error:
        print(f"\nnapari-sam: {error}", file=sys.stderr)
        raise SystemExit(130) from None  # as shells name an interrupt
    except NapariSamError as error:
        print(f"napari-sam: {as_options(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error
        print(
            f"napari-sam: {what}. Check that it exists, may be read or written, and "
            "has space left; what was finished before is safe",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
