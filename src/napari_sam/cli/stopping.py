"""What Ctrl-C leaves behind, command by command, and how to go on."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from napari_sam.errors import Cancelled

AGAIN = "the same command again goes on there"
LEFT = {
    "embed": f"The tiles encoded so far are in the store: {AGAIN}.",
    "segment": "Files named with --out are whole or absent. With --session, the "
    f"objects segmented so far are kept: {AGAIN}.",
    "suggest": "The session is as it was: give the command again.",
    "propagate": "The session is as it was: give the command again, perhaps with fewer "
    "--planes.",
    "annotate": "Each file is whole or as it was before, and so is each session: "
    f"{AGAIN}.",
    "export": "Each file is whole or as it was before: give the command again.",
    "train": f"What was learned up to the last checkpoint is kept: {AGAIN}.",
    "evaluate": "Nothing was written: give the command again, perhaps with "
    "--max-objects.",
    "demo": "What was written so far is in its folder; the next run begins anew.",
    "models download": f"What was fetched so far is kept: {AGAIN}.",
    "store prune": f"Each store is whole or gone: {AGAIN}.",
}
"""What is safe after each command that takes long was stopped."""


class StoppableGroup(TyperGroup):
    """Commands that say what is safe when Ctrl-C stops them."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an interrupt becomes one sentence.

        Raises
        ------
        Cancelled
            If the user stopped it.
        """
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            path = f"{ctx.command_path} {ctx.invoked_subcommand}".split()
            left = LEFT.get(" ".join(path[1:]), "Nothing was written.")
            raise Cancelled(f"stopped. {left}") from None
