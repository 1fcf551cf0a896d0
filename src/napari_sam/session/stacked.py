"""Objects carried through a stack: what `Session` does on volumes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.clean import CleanOptions
from napari_sam.core.objects import DOUBTFUL
from napari_sam.core.planes import Plane
from napari_sam.engine.propagate import PropagateOptions
from napari_sam.errors import VolumeError
from napari_sam.session import doubts, edits, propagation
from napari_sam.session.annotation import Annotation, whole
from napari_sam.session.cleaning import cleaned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.engine.propagate import PlaneMask
    from napari_sam.session.propagation import Propagation

    Intensity = IntensityMapping | tuple[float, float]

logger = logging.getLogger(__name__)


class Stacked(Annotation):
    """Propagation and interpolation; the part of `Session` for volumes."""

    # -- volumes ---------------------------------------------------------------------

    def propagate(
        self,
        object_id: int | Sequence[int] = 1,
        *,
        planes: tuple[int, int] | None = None,
        plane: int | Sequence[int] | Plane | None = None,
        axis: int = 0,
        through: str | None = None,
        method: str = "auto",
        options: PropagateOptions | None = None,
        anew: bool = True,
        cancel: Callable[[], bool] | None = None,
    ) -> list[PlaneMask]:
        """Carry objects from the planes they were made on to those between and beyond.

        One undoable change. Planes that a person prompted or painted are never changed.

        Parameters
        ----------
        object_id : int or sequence of int
            Several objects do not take each other's pixels: the surer one has them.
        planes : (first, last), optional
            Planes to fill, both included; as far as the object goes when left out.
        plane, axis
            A plane of the stack, as `Plane.of` takes it: only needed to name the axis,
            or the time point.
        through : str, optional
            Name of an axis before the last three, such as "t": the object is followed
            through that, on the planes at the depth that `plane` names.
        method : {"auto", "memory", "projection", "interpolate"}
            As `PropagateOptions` says; `options` holds the rest.
        anew : bool
            False: only stretches next to a plane that has changed since.

        Returns
        -------
        list of PlaneMask
            What was found, with its doubt. Key planes that look wrong are logged.

        Raises
        ------
        PromptError
            If an object was made on no plane of this stack.
        ModelError, VolumeError, Cancelled
        """
        chosen = replace(options or PropagateOptions(), method=method)  # type: ignore[arg-type]
        task = self.set_propagation(
            object_id, plane, axis=axis, through=through, planes=planes,
            options=chosen, anew=anew,
        )  # fmt: skip
        found = list(task.run(cancel))
        self.accept_propagation(task, found)
        for note in task.notes:
            logger.warning("%s", note)
        return [one for _, one in found]

    def interpolate(
        self,
        object_id: int | Sequence[int] = 1,
        *,
        snap: bool = False,
        **options: Any,
    ) -> list[PlaneMask]:
        """Fill the planes between key planes from their shapes: as `propagate` does.

        Parameters
        ----------
        object_id : int or sequence of int
        snap : bool
            Fit each shape to the image by the model, where the two agree.
        **options
            As `propagate` takes them.
        """
        if snap:
            given = options.pop("options", None) or PropagateOptions()
            options["options"] = replace(given, snap=True)
        return self.propagate(object_id, method="interpolate", **options)

    def set_propagation(
        self,
        object_id: int | Sequence[int],
        plane: int | Sequence[int] | Plane | None = None,
        *,
        axis: int = 0,
        through: str | None = None,
        planes: tuple[int, int] | None = None,
        options: PropagateOptions | None = None,
        anew: bool = True,
    ) -> Propagation:
        """Ask for what `propagate` does, to be run in any thread."""
        ids = np.atleast_1d(np.asarray(object_id, object)).tolist()
        n_leading = max(len(self.volume.shape) - 3, 0)
        stack = (0,) * (n_leading + 1) if plane is None else plane
        if len(self.volume.shape) < 3:
            raise VolumeError("a 2-D image is one plane: there is none to propagate to")
        return propagation.prepare(
            self, [self._check_id(i) for i in ids],
            Plane.of(self.volume.shape, stack, axis=axis),
            planes, options or PropagateOptions(), anew=anew,
            along=-1 if through is None else self._leading(through),
        )  # fmt: skip

    def _leading(self, name: str) -> int:
        """Place of a leading axis of the volume."""
        leading = self.volume.axes[: max(len(self.volume.shape) - 3, 0)]
        if name not in leading:
            raise VolumeError(
                f"objects are followed through an axis before the last three, one of "
                f"{list(leading)}, or through depth; got through={name!r}"
            )
        return leading.index(name)

    def accept_propagation(
        self, task: Propagation, found: Iterable[tuple[int, PlaneMask]]
    ) -> int | None:
        """Apply what a propagation found, as one undoable change; count the planes.

        Returns
        -------
        int or None
            None when too much has changed since it was asked for.
        """
        document = self.document
        masks = propagation.settled(found)
        with document.journal.lock:
            filled = edits.fill(
                document, masks, task.replaced, task.order, task.position, task.rule
            )
        self.changed.emit()
        return filled

    def clean(
        self,
        object_id: int = 1,
        options: CleanOptions | None = None,
        *,
        plane: int | Sequence[int] | Plane | None = None,
        axis: int = 0,
    ) -> int:
        """Tidy an object: holes, fragments, outline, largest part; one undo step.

        Parameters
        ----------
        object_id : int
        options : CleanOptions, optional
        plane, axis
            Only on this plane; the whole object, in 3-D, where left out.

        Returns
        -------
        int
            Planes on which something changed.
        """
        where = None
        if plane is not None:
            where = Plane.of(self.volume.shape, plane, axis=axis)
        masks = cleaned(
            self.labels, self.volume, whole(object_id),
            options or CleanOptions(), where,
        )  # fmt: skip
        self.change(lambda d: edits.reshape(d, whole(object_id), masks))
        return len(masks)

    def doubtful(
        self, object_id: int | None = None, least: float = DOUBTFUL
    ) -> list[tuple[int, Plane, float]]:
        """Doubtful planes not reviewed, as (object, plane, doubt).

        First those whose correction is worth most: not the most doubtful plane beside
        a key, but the midst of a doubtful stretch.

        Parameters
        ----------
        object_id : int, optional
            Of one object; of all when left out.
        least : float
            Doubt from which on a plane counts, 0..1.
        """
        ids = None if object_id is None else [whole(object_id)]
        return doubts.doubtful(self.document, ids, least)

    def conflicts(
        self, object_id: int | None = None, plane: Plane | None = None
    ) -> list[doubts.Conflict]:
        """Planes of different axes that disagree on an object where they cross.

        Both were prompted, so neither is changed: where one of them has the object,
        the labels have it. The worst come first; correct one of the two.

        Parameters
        ----------
        object_id : int, optional
            Of one object; of all when left out.
        plane : Plane, optional
            Only what this plane disagrees with.
        """
        ids = None if object_id is None else [whole(object_id)]
        return doubts.conflicts(self.document, ids, plane)
