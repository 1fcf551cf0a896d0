"""Make the changelog of a version from the fragments in ``changes/``.

    python tools/changelog.py 0.2.0 > section.md
    python tools/changelog.py 0.2.0 --into CHANGELOG.md   # and remove the fragments

Fragments are named ``<issue>.<kind>.<topic>.md``; ``changes/README.md`` says what is in
them.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

CHANGES = Path(__file__).parents[1] / "changes"
KINDS = {
    "feature": "New",
    "bugfix": "Mended",
    "doc": "Documentation",
    "removal": "Gone",
    "misc": "Other",
}
"""Headings by the kind in a fragment's name, in their order."""
TITLE = "# Changelog\n"


def fragments(folder: Path) -> dict[str, list[tuple[int, str]]]:
    """Read all fragments: (issue, text) by kind, in the order of issues.

    Raises
    ------
    ValueError
        If a file's name is no fragment's, or the file is empty.
    """
    found: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.glob("*.md")):
        if path.name == "README.md":
            continue
        issue, _, rest = path.name.partition(".")
        kind = rest.partition(".")[0]
        text = " ".join(path.read_text(encoding="utf-8").split())
        if not issue.isdigit() or kind not in KINDS or not text:
            raise ValueError(
                "expected <issue>.<kind>.<topic>.md with a sentence in it, kind one "
                f"of {', '.join(KINDS)}; got {path.name} with {len(text)} characters"
            )
        found[kind].append((int(issue), text))
    return {kind: sorted(rows) for kind, rows in found.items() if rows}


def section(version: str, day: datetime.date, folder: Path) -> str:
    """Return the part of the changelog that tells of one version, as Markdown."""
    lines = [f"## {version} ({day.isoformat()})", ""]
    for kind, rows in fragments(folder).items():
        lines += [f"### {KINDS[kind]}", "", *(f"- {text}" for _, text in rows), ""]
    return "\n".join(lines)


def put_in(changelog: Path, new: str) -> None:
    """Put a version before the others."""
    old = changelog.read_text(encoding="utf-8") if changelog.exists() else TITLE
    rest = old.removeprefix(TITLE).lstrip("\n")
    changelog.write_text(f"{TITLE}\n{new}\n{rest}".rstrip() + "\n", encoding="utf-8")


def main() -> None:
    """Run on the command line."""
    parser = argparse.ArgumentParser(prog="python tools/changelog.py")
    parser.add_argument("version")
    parser.add_argument("--into", type=Path, help="write there, remove the fragments")
    args = parser.parse_args()
    new = section(args.version, datetime.date.today(), CHANGES)
    if args.into is None:
        print(new)
        return
    put_in(args.into, new)
    for path in CHANGES.glob("*.md"):
        if path.name != "README.md":
            path.unlink()


if __name__ == "__main__":
    main()
