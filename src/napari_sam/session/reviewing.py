"""Objects by the hundred: a table, changes of many, review, and how many are wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from napari_sam.core.error_rate import ErrorRate
from napari_sam.errors import ExportError, SessionError
from napari_sam.results.label_objects import boxes_of_each
from napari_sam.session import edits
from napari_sam.session.annotation import Annotation, whole
from napari_sam.session.objects import checked_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from napari_sam.core.masks import Bbox
    from napari_sam.core.planes import Plane
    from napari_sam.results.measure import MeasureOptions
    from napari_sam.results.results import Results

    Ids = int | Iterable[int]

Order = Literal["doubt", "random"]
"""How objects are gone through: the most doubtful first, or as drawn by lot."""


class Reviewing(Annotation):
    """What is said and done of many objects; the part of `Session` for review."""

    # -- many objects ----------------------------------------------------------------

    def table(
        self,
        options: MeasureOptions | None = None,
        *,
        reviewed_only: bool = False,
        cancel: Callable[[], bool] | None = None,
    ) -> pd.DataFrame:
        """Return a table with a row an object, and a time point where there is time.

        Parameters
        ----------
        options : MeasureOptions, optional
            What is measured; size, place, shape and intensity when left out.
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        cancel : callable, optional
            Asked between blocks; True raises `Cancelled`.

        Returns
        -------
        pandas.DataFrame
            The columns of `napari_sam.results.table.object_table`: class, review,
            origin, model, doubt, and measurements in the units of the image.

        Raises
        ------
        ExportError
            If pandas is not installed.
        VolumeError, Cancelled

        Examples
        --------
        >>> from napari_sam.session import Session
        >>> from napari_sam.testing import ToyModel, phantom_image
        >>> image = phantom_image()
        >>> session = Session(image.image, ToyModel(), embeddings=False)
        >>> _ = session.segment(object_id=1, points=[image.center(1)])
        >>> table = session.table()
        >>> table.loc[0, "origin"], bool(table.loc[0, "pixels"] > 0)
        ('clicked', True)
        """
        from napari_sam.results.table import object_table

        try:
            import pandas as pd
        except ImportError:
            raise ExportError(
                "tables in memory need pandas, which is not installed: pip install "
                "pandas, or export a .csv file"
            ) from None
        found = self._results(reviewed_only=reviewed_only)
        return pd.DataFrame(object_table(found, options, cancel))

    def describe(self, object_id: Ids, **values: Any) -> int:
        """Say the same of many objects, as one undoable change; count them.

        Parameters
        ----------
        object_id : int or iterable of int
        **values
            ``class_name``, ``review``, ``color``, ``note`` or ``name``, as
            `ObjectHandle` takes them.

        Raises
        ------
        SessionError
            If there is no such object, or a value makes no sense.
        """
        ids = self._known(object_id)
        if "parent" in values:
            raise SessionError("objects have parents of their own: set each by itself")
        checked = checked_values(values)
        if ids:
            self.change(lambda d: edits.describe(d, ids, **checked))
        return len(ids)

    def delete_objects(
        self,
        object_id: Ids,
        *,
        boxes: Mapping[int, Mapping[Plane, Bbox]] | None = None,
    ) -> int:
        """Remove many objects with their pixels and prompts, as one undoable change.

        Parameters
        ----------
        object_id : int or iterable of int
        boxes : mapping, optional
            Where they are, as `boxes_of_each` found it in another thread.

        Returns
        -------
        int
            How many there were.
        """
        ids = self._known(object_id)
        for one in ids:
            self._requests.supersede_object(one)
        found = boxes_of_each(self.labels, ids) if boxes is None else boxes
        everywhere = {i: found.get(i, {}) for i in ids}
        if ids:
            self.change(lambda d: edits.delete(d, everywhere))
        return len(ids)

    # -- review ----------------------------------------------------------------------

    def review_queue(
        self, order: Order = "doubt", among: Iterable[int] | None = None
    ) -> list[int]:
        """Return the objects to look at, in order.

        Parameters
        ----------
        order : {"doubt", "random"}
            "doubt": those that nobody has reviewed, the most doubtful first, then those
            whose doubt is not known. "random": all that were not drawn yet, as by lot,
            the same lot each time: what is found wrong among them says how many are
            wrong in all; see `judge`.
        among : iterable of int, optional
            Only these.

        Raises
        ------
        SessionError
            For another order.
        """
        ids = list(self.objects) if among is None else self._known(among)
        document = self.document
        if order == "random":
            drawn = {i for i, _ in document.verdicts.values()}
            return sorted((i for i in ids if i not in drawn), key=_lot)
        if order != "doubt":
            raise SessionError(f'order is "doubt" or "random"; got {order!r}')
        doubts = {}
        for i in ids:
            about = document.about.get(i)
            if about is None or about.review == "open":
                known = [p.doubt for p in document.planes(i).values()]
                doubts[i] = max((d for d in known if d is not None), default=-1.0)
        return sorted(doubts, key=lambda i: (-doubts[i], i))

    def judge(self, object_id: int, right: bool) -> None:
        """Say whether an object drawn at random is right, as one undoable change.

        It is accepted or rejected, and counts in `error_rate` from now on, also when it
        is mended or deleted later.

        Raises
        ------
        SessionError
            If there is no such object.
        """
        (one,) = self._known(object_id)
        self.change(lambda d: edits.judge(d, one, right))

    def error_rate(self) -> ErrorRate:
        """Return how many of the objects drawn at random were wrong."""
        verdicts = [right for _, right in self.document.verdicts.values()]
        return ErrorRate(len(verdicts), verdicts.count(False))

    # -- inside ----------------------------------------------------------------------

    def _known(self, object_id: Ids) -> list[int]:
        given = object_id if isinstance(object_id, Iterable) else [object_id]
        ids = list(dict.fromkeys(whole(i) for i in given))
        objects = self.objects
        if missing := [i for i in ids if i not in objects]:
            raise SessionError(
                f"there is no object {missing[0]}: there are {len(objects)} objects, "
                f"{_listed(sorted(objects))}"
            )
        return ids

    def _results(self, *, reviewed_only: bool) -> Results:
        from napari_sam.session.provenance import results_of

        return results_of(self, reviewed_only=reviewed_only)


def _lot(object_id: int) -> bytes:
    """Place of an object in the lot: by chance, and the same each time."""
    return hashlib.blake2b(str(object_id).encode(), digest_size=8).digest()


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
