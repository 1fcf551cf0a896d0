"""``napari-sam classify``: guess classes from the objects that have one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003 (typer reads annotations)
from typing import Annotated

import typer

from napari_sam.cli.options import AsJson, Device, NoStore  # noqa: TC001


def classify(
    session: Annotated[Path, typer.Argument(help="Session (.nsam) with classes.")],
    max_doubt: Annotated[
        float, typer.Option(min=0, max=1, help="Take guesses doubted no more than so.")
    ] = 0.5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Guess only; nothing is changed.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Another model than the session's."),
    ] = None,
    device: Device = "auto",
    image: Annotated[
        str | None, typer.Option(help="Its image, where that has moved.")
    ] = None,
    no_store: NoStore = False,
    as_json: AsJson = False,
) -> None:
    """Give objects the class of those they are like; one undo step."""
    from napari_sam.cli.report import Report, bar, load_with_progress
    from napari_sam.session import Session

    report = Report(as_json)
    network = None if model is None else load_with_progress(model, device)
    opened = Session.load(
        session, volume=image, model=network, embeddings=False if no_store else None,
        read_only=dry_run,
    )  # fmt: skip
    try:
        with bar("classify", unit="object") as shown:

            def show(done: int, total: int) -> None:
                shown.total = total
                shown.update(done - shown.n)

            found = opened.guess_classes(progress=show)
        taken = found.below(max_doubt)
        if not dry_run:
            opened.accept_classes(taken)
            opened.save()
    finally:
        opened.close()
    learnt = ", ".join(f"{n} {name}" for name, n in found.known.items())
    report.say(f"learnt from {learnt}")
    if found.accuracy is not None:
        right = round(100 * found.accuracy)
        report.say(f"of these, {right} % would be guessed right from the others")
    verb = "would get" if dry_run else "got"
    report.say(
        f"{len(taken)} of {len(found.guesses)} objects {verb} a class (doubt up to "
        f"{max_doubt:g})"
    )
    report.data = {
        "known": dict(found.known),
        "accuracy": found.accuracy,
        "taken": len(taken),
        "guesses": {str(i): asdict(g) for i, g in found.guesses.items()},
    }
    report.finish()
