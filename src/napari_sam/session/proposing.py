"""Objects that a model proposes for the rest: what `Session` does beyond prompts."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from napari_sam.session.annotation import Annotation

if TYPE_CHECKING:
    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.proposals import Proposal
    from napari_sam.session.proposals import Proposals

    Intensity = IntensityMapping | tuple[float, float]


class Proposing(Annotation):
    """Proposals; the part of `Session` that looks for objects by itself."""

    # -- proposals -------------------------------------------------------------------

    @cached_property
    def proposals(self) -> Proposals:
        """What a model proposes, apart from the labels until accepted."""
        from napari_sam.session.proposals import Proposals

        return Proposals(self)

    def suggest(self, planes: Any = None, **options: Any) -> list[Proposal]:
        """Look for further objects; return all that wait, most doubtful first.

        Takes what `Proposals.find` does; accept or reject them in `proposals`.
        """
        for _ in self.proposals.find(planes, **options):
            pass
        return self.proposals.pending
