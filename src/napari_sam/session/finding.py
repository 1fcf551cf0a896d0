"""Finding what a word names: the part of `Session` that reads text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam.engine.propose import Proposer
from napari_sam.engine.propose_options import ProposeOptions, parted
from napari_sam.errors import PromptError
from napari_sam.session.everything import Everything
from napari_sam.session.text_search import ORIGIN, TextSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.models.protocol import TextScorer

_LENIENT = 0.7
"""Share of a model's usual thresholds from which masks are shown to the scorer."""
DEFAULT_SCORER = "clip_vit_b32"
"""What reads words for a model that does not, unless told otherwise."""


class Finding(Everything):
    """Words; the part of `Session` that finds what they name."""

    scorer: TextScorer | str = DEFAULT_SCORER
    """What reads words where the model does not: a `TextScorer`, or a name or folder
    that `napari_sam.models.clip.clip.load_scorer` takes, loaded when first needed."""

    # -- words -----------------------------------------------------------------------

    @property
    def reads_words(self) -> str:
        """Name of what reads words: the model itself, or else the scorer."""
        if _reads(self.engine.model):
            return self.engine.model.spec.name
        return self.scorer if isinstance(self.scorer, str) else self.scorer.name

    def find(
        self,
        text: str,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        planes: Iterable[Any] | None = None,
        axis: int = 0,
        region: Bbox | None = None,
        min_score: float | None = None,
        cancel: Callable[[], bool] | None = None,
        **options: Any,
    ) -> list[Proposal]:
        """Find the objects that a word names; they wait in `proposals`.

        A model that reads words (SAM 3) finds them itself. With any other, everything
        is proposed and `scorer`, a CLIP or SigLIP, says how well the words fit each
        mask, shown alone on a plain ground, as in SAM's paper. Both were trained on
        photographs: everyday words ("round", "dark", "leaf") work better than names of
        science, which they hardly know.

        What words found there before and nobody has decided on is replaced.

        Parameters
        ----------
        text : str
            A short noun phrase, in English.
        plane : int, sequence of int or Plane, optional
            As `Plane.of` takes it; may be left out for single images.
        planes : iterable of int, sequence of int or Plane, optional
            Many planes, in the order they are looked at.
        axis : int
            Sliced axis among the last three.
        region : (y0, x0, y1, x1), optional
            Level-0 pixels, half-open: look only in here.
        min_score : float, optional
            Least score, 0..1; what is usual for the reader when left out.
        cancel : callable, optional
            Asked between windows and batches; once true, what was found so far is
            returned.
        **options
            Fields of `ProposeOptions` and `SelectOptions`, as `everything` takes them.

        Returns
        -------
        list of Proposal
            Those found, with the score as `likeness`; planes in the order given, on
            each the best first.

        Raises
        ------
        PromptError, VolumeError, ModelError, DownloadError
            Also if the scorer's weights are not here and cannot be fetched.

        Examples
        --------
        >>> session.find("a cell", plane=30)  # doctest: +SKIP
        [<mask of 812 px in (96, 40, 128, 75), predicted IoU 0.93, stability 0.97>]
        """
        search = self.search_text(
            text, plane, planes=planes, axis=axis, region=region, min_score=min_score,
            **options,
        )  # fmt: skip
        out: list[Proposal] = []
        for step in search.run(cancel):
            out += self.proposals.add(step)
        return out

    def search_text(
        self,
        text: str,
        plane: int | Sequence[int] | Plane | None = None,
        *,
        planes: Iterable[Any] | None = None,
        axis: int = 0,
        region: Bbox | None = None,
        min_score: float | None = None,
        **options: Any,
    ) -> TextSearch:
        """Prepare what `find` does, to be run in another thread.

        Pass each `Found` that ``run`` yields to ``proposals.add``. Takes what `find`
        does.
        """
        if not text.strip():
            raise PromptError("text is empty: name what to look for, such as 'a cell'")
        iou, stability = self.engine.model.spec.proposal_thresholds
        usual = {  # the words choose among the masks, so worse ones are let in
            "thorough": False,
            "pred_iou_thresh": _LENIENT * iou,
            "stability_score_thresh": _LENIENT * stability,
        }
        given = {k: v for k, v in options.items() if v is not None}
        asked, chosen = parted({**usual, **given})
        wanted = [plane] if planes is None else list(planes)
        places = [
            self.set_everything(p, asked, axis=axis, region=region) for p in wanted
        ]
        model = self.engine.model
        reader: Callable[[], TextScorer] | None = self._loaded_scorer
        if _reads(model):
            least = 0.5 if min_score is None else min_score
            masks = partial(model.instances_of, text=text, min_score=least)  # type: ignore[attr-defined]
            places = [_asking_for(masks, least, asked, p) for p in places]
            chosen = replace(chosen, pred_iou_thresh=least, stability_score_thresh=0.0)
            reader = None
        there = {p.plane for p in places}
        self.proposals.drop(
            p for p in self.proposals.waiting
            if p.plane in there and p.origin == ORIGIN
        )  # fmt: skip
        refused = {
            where: [r for r in self.proposals.rejected if r.plane == where]
            for where in there
        }
        return TextSearch(text, tuple(places), chosen, reader, min_score, refused)

    def _loaded_scorer(self) -> TextScorer:
        if isinstance(self.scorer, str):
            from napari_sam.models.clip.clip import load_scorer

            self.scorer = load_scorer(self.scorer)
        return self.scorer


def _reads(model: Any) -> bool:
    return "text" in model.spec.prompts


def _asking_for(
    masks: Callable[[Any], Any], least: float, asked: ProposeOptions, p: Proposer
) -> Proposer:
    """Return a proposer whose masks are those that the model finds for the words."""
    return Proposer(
        p.engine, p.plane, asked, p.region, p.taken, masks=masks,
        thresholds=(least, 0.0),
    )  # fmt: skip
