"""Finding a kind of objects: the part of `Session` for words and examples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam.core.mask_prompt import MaskPrompt
from napari_sam.engine.example_bank import ExampleBank
from napari_sam.engine.propose import Proposer
from napari_sam.engine.propose_options import ProposeOptions, parted
from napari_sam.errors import PromptError
from napari_sam.session.everything import Everything
from napari_sam.session.kind_search import BY_EXAMPLE, BY_TEXT, KindSearch

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.core.proposals import Proposal
    from napari_sam.models.protocol import TextScorer

_LENIENT = 0.7
"""Share of a model's usual thresholds from which masks are shown to the scorer."""
_PLANES = 4
"""Planes of an object that are taken as examples; more teach little."""
DEFAULT_SCORER = "clip_vit_b32"
"""What reads words for a model that does not, unless told otherwise."""


class Finding(Everything):
    """Words and examples; the part of `Session` that finds what they mean."""

    scorer: TextScorer | str = DEFAULT_SCORER
    """What reads words where the model does not: a `TextScorer`, or a name or folder
    that `napari_sam.models.clip.clip.load_scorer` takes, loaded when first needed."""

    # -- words and examples ----------------------------------------------------------

    @property
    def reads_words(self) -> str:
        """Name of what reads words: the model itself, or else the scorer."""
        if _reads(self.engine.model):
            return self.engine.model.spec.name
        return self.scorer if isinstance(self.scorer, str) else self.scorer.name

    def find(
        self,
        text: str = "",
        plane: int | Sequence[int] | Plane | None = None,
        *,
        like: Iterable[int] = (),
        unlike: Iterable[int] = (),
        examples: ExampleBank | str | os.PathLike[str] | None = None,
        planes: Iterable[Any] | None = None,
        axis: int = 0,
        region: Bbox | None = None,
        min_score: float | None = None,
        min_likeness: float = 0.5,
        cancel: Callable[[], bool] | None = None,
        **options: Any,
    ) -> list[Proposal]:
        """Find the objects that a word names, or that are like examples.

        What is found waits in `proposals`. A model that reads words (SAM 3) finds what
        they name itself. With any other, everything is proposed and `scorer`, a CLIP
        or SigLIP, says how well the words fit each mask, shown alone on a plain ground,
        as in SAM's paper. Both were trained on photographs: everyday words ("round",
        "dark", "leaf") work better than names of science, which they hardly know.

        Examples are compared by what the model's embedding holds of them, with any
        model. They may come from other planes, and by `examples` from other images.

        What words, or examples, found there before and nobody has decided on is
        replaced.

        Parameters
        ----------
        text : str
            A short noun phrase, in English; may be left out where there are examples.
        plane : int, sequence of int or Plane, optional
            As `Plane.of` takes it; may be left out for single images.
        like, unlike : iterable of int
            Objects of this session: examples of what is wanted, and of what is not.
        examples : ExampleBank or path-like, optional
            Further examples, or the file they are kept in; see `examples`.
        planes : iterable of int, sequence of int or Plane, optional
            Many planes, in the order they are looked at.
        axis : int
            Sliced axis among the last three.
        region : (y0, x0, y1, x1), optional
            Level-0 pixels, half-open: look only in here.
        min_score : float, optional
            Least score of words, 0..1; what is usual for the reader when left out.
        min_likeness : float
            Least likeness to the examples, 0..1.
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
            Also if the scorer's weights are not here and cannot be fetched, or
            examples were made with another model.

        Examples
        --------
        >>> session.find("a cell", plane=30)  # doctest: +SKIP
        >>> session.find(like=[1, 4], unlike=[2])  # doctest: +SKIP
        """
        search = self.search_kind(
            text, plane, like=like, unlike=unlike, examples=examples, planes=planes,
            axis=axis, region=region, min_score=min_score, min_likeness=min_likeness,
            **options,
        )  # fmt: skip
        out: list[Proposal] = []
        for step in search.run(cancel):
            out += self.proposals.add(step)
        return out

    def search_kind(
        self,
        text: str = "",
        plane: int | Sequence[int] | Plane | None = None,
        *,
        like: Iterable[int] = (),
        unlike: Iterable[int] = (),
        examples: ExampleBank | str | os.PathLike[str] | None = None,
        planes: Iterable[Any] | None = None,
        axis: int = 0,
        region: Bbox | None = None,
        min_score: float | None = None,
        min_likeness: float = 0.5,
        **options: Any,
    ) -> KindSearch:
        """Prepare what `find` does, to be run in another thread.

        Pass each `Found` that ``run`` yields to ``proposals.add``. Takes what `find`
        does.
        """
        text = text.strip()
        bank = self._bank(like, unlike, examples)
        if not text and bank is None:
            raise PromptError(
                "nothing to look for: name it, such as 'a cell', or give objects that "
                "are examples of it"
            )
        iou, stability = self.engine.model.spec.proposal_thresholds
        usual = {  # words or examples choose among the masks: worse ones are let in
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
        reader: Callable[[], TextScorer] | None = None
        if text and _reads(model):
            least = 0.5 if min_score is None else min_score
            masks = partial(model.instances_of, text=text, min_score=least)  # type: ignore[attr-defined]
            places = [_asking_for(masks, least, asked, p) for p in places]
            chosen = replace(chosen, pred_iou_thresh=least, stability_score_thresh=0.0)
        elif text:
            reader = self._loaded_scorer
        origin = BY_TEXT if text else BY_EXAMPLE
        there = {p.plane for p in places}
        self.proposals.drop(
            p for p in self.proposals.waiting
            if p.plane in there and p.origin == origin
        )  # fmt: skip
        refused = {
            where: [r for r in self.proposals.rejected if r.plane == where]
            for where in there
        }
        return KindSearch(
            text, tuple(places), chosen, reader, min_score, bank, min_likeness, refused
        )

    def examples(
        self, like: Iterable[int], unlike: Iterable[int] = (), *, name: str = ""
    ) -> ExampleBank:
        """Take objects as examples, for this image and others.

        Add the banks of several images, ``a + b``, ``save`` them to a file, and give
        either to `find`.

        Parameters
        ----------
        like, unlike : iterable of int
            Objects that are examples of what is wanted, and of what is not.
        name : str
            Of the image, for lists; its own when left out.

        Raises
        ------
        PromptError
            If there is no such object.

        Examples
        --------
        >>> bank = session.examples([1, 4], unlike=[2])  # doctest: +SKIP
        >>> bank.save("nuclei.safetensors")  # doctest: +SKIP
        >>> other.find(examples="nuclei.safetensors")  # doctest: +SKIP
        """
        wanted, unwanted = self._masks_of(like), self._masks_of(unlike)
        return ExampleBank.of(
            self.engine, wanted, unwanted, name=name or self.volume.name
        )

    def _bank(
        self,
        like: Iterable[int],
        unlike: Iterable[int],
        examples: ExampleBank | str | os.PathLike[str] | None,
    ) -> Callable[[], ExampleBank] | None:
        """Return what gives all examples; making them encodes, beside this thread."""
        wanted, unwanted = self._masks_of(like), self._masks_of(unlike)
        given: ExampleBank | None = None
        if isinstance(examples, ExampleBank):
            given = examples
        elif examples is not None:
            given = ExampleBank.load(examples)
        if given is not None:
            given.check(self.engine)
        if not wanted and (given is None or not given.wanted.any()):
            if not unwanted and given is None:
                return None
            raise PromptError(
                "there are only examples of what is not wanted: give at least one of "
                "what is"
            )
        engine, name = self.engine, self.volume.name

        def gather() -> ExampleBank:
            here = ExampleBank.of(engine, wanted, unwanted, name=name)
            return here if given is None else given + here

        return gather

    def _masks_of(self, ids: Iterable[int]) -> list[tuple[Plane, MaskPrompt]]:
        """Masks of objects on planes that were worked on, at most `_PLANES` of each."""
        from napari_sam.results.label_objects import iter_objects, iter_planes

        ids = {int(i) for i in ids}
        if not ids:
            return []
        planes: Iterable[Plane] = {
            key[1] for keys in self.document.keys.values() for key in keys
        } or iter_planes(self.labels.shape)
        found: dict[int, list[tuple[Plane, MaskPrompt]]] = {i: [] for i in ids}
        for where in sorted(planes, key=lambda p: (p.axis, p.index)):
            for object_id, bbox, mask in iter_objects(self.labels, where):
                if object_id in ids:
                    found[object_id].append((where, MaskPrompt(bbox, mask)))
        if missing := sorted(i for i, masks in found.items() if not masks):
            raise PromptError(
                f"object {missing[0]} has no mask to be an example: give objects of "
                f"this session, such as {sorted(self.objects)[:5]}"
            )
        return [m for ms in found.values() for m in ms[:: -(-len(ms) // _PLANES)]]

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
