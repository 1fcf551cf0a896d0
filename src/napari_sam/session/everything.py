"""Everything on a plane as proposals: what `Session` does without a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.planes import Plane
from napari_sam.embeddings.source import planes_of
from napari_sam.engine.propose import Proposer
from napari_sam.engine.propose_options import ProposeOptions, parted
from napari_sam.engine.select import select
from napari_sam.errors import VolumeError
from napari_sam.session.proposals import check_region
from napari_sam.session.proposing import Proposing
from napari_sam.session.search import Found, annotated_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.proposals import Proposal

ORIGIN = "everything"
"""`Proposal.origin` of what is found here."""


class Everything(Proposing):
    """Looking for everything; the part of `Session` that needs no prompt."""

    # -- everything ------------------------------------------------------------------

    def everything(
        self,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
        region: Bbox | None = None,
        cancel: Callable[[], bool] | None = None,
        **options: Any,
    ) -> list[Proposal]:
        """Look for all objects of a plane; they wait in `proposals`.

        What everything found there before and nobody has accepted is replaced. Pixels
        that are annotated are left out, and so is what was rejected.

        Parameters
        ----------
        plane : int, sequence of int or Plane, optional
            As `Plane.of` takes it; may be left out for single images.
        axis : int
            Sliced axis among the last three.
        region : (y0, x0, y1, x1), optional
            Level-0 pixels, half-open: ask only in here.
        cancel : callable, optional
            Asked between batches of points; True raises `Cancelled`.
        **options
            Fields of `ProposeOptions` and `SelectOptions`; they have the names that
            ``SamAutomaticMaskGenerator`` gives them.

        Returns
        -------
        list of Proposal
            Finer tiles first, then by predicted IoU. They may overlap: parts and
            wholes are proposed both.

        Raises
        ------
        PromptError, VolumeError, ModelError, Cancelled

        Examples
        --------
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> cells = phantom_image((64, 96), n_objects=4, noise=0)
        >>> session = Session(cells.image, ToyModel(), embeddings=False)
        >>> found = session.everything(points_per_side=12, max_area=1000)
        >>> len(found), session.proposals.accept()
        (4, 4)
        """
        asked, chosen = parted(options)
        proposer = self.set_everything(plane, asked, axis=axis, region=region)
        proposer.cancel = cancel
        found = proposer.candidates([step.found for step in proposer.run()])
        return self.accept_everything(proposer.plane, select(found, chosen))

    def set_everything(
        self,
        plane: int | Sequence[int] | Plane | None = None,
        options: ProposeOptions | None = None,
        *,
        axis: int = 0,
        region: Bbox | None = None,
    ) -> Proposer:
        """Prepare what `everything` does, to be run in another thread.

        Pass what ``select`` chooses of its candidates to `accept_everything`.
        """
        shape = self.volume.shape
        if plane is None and len(planes_of(self.volume, None, axis)) > 1:
            raise VolumeError(
                f"{self.volume.name} has many planes: say which, as plane=3 does"
            )
        where = Plane.of(shape, 0 if plane is None else plane, axis=axis)
        if region is not None:
            check_region(region, where.shape(shape))
        taken = annotated_on(self.labels, where)
        return Proposer(self.engine, where, options or ProposeOptions(), region, taken)

    def accept_everything(
        self, plane: Plane, found: Iterable[Proposal], *, more: bool = False
    ) -> list[Proposal]:
        """Let what was chosen on a plane wait in `proposals`.

        Parameters
        ----------
        plane : Plane
        found : iterable of Proposal
            As ``select`` gives them; those that were rejected before are left out.
        more : bool
            Keep what everything found there before; else it is replaced.
        """
        if not more:
            self.proposals.drop(
                p
                for p in self.proposals.waiting
                if p.plane == plane and p.origin == ORIGIN
            )
        refused = [p for p in self.proposals.rejected if p.plane == plane]
        news = [
            p for p in found
            if not any(r.overlap(p.bbox, p.mask) > 0.5 for r in refused)
        ]  # fmt: skip
        return self.proposals.add(Found(1, 1, tuple(news)))
