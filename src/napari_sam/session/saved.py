"""A session on the disk, and what leaves it: saving, exporting, reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from napari_sam.session.annotation import Annotation
from napari_sam.session.storage import head_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_sam.core.intensity import IntensityMapping
    from napari_sam.core.planes import Plane
    from napari_sam.errors import SessionError
    from napari_sam.results.results import Results
    from napari_sam.results.views import View
    from napari_sam.session.storage import Storage

    Intensity = IntensityMapping | tuple[float, float]


class Saved(Annotation):
    """The part of `Session` that writes files."""

    _storage: Storage

    # -- files -----------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """Folder of this session, or None while it has none."""
        files = self._storage.files
        return None if files is None else str(files.path)

    @property
    def write_error(self) -> SessionError | None:
        """Why changes could not be saved; None once they are."""
        return self.document.journal.writer.error

    def flush(self) -> None:
        """Wait until every change is on the disk, as it is within a second anyway.

        Raises
        ------
        SessionError
            If it cannot be written; the next change tries again.
        """
        self.document.journal.writer.flush()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write a checkpoint of the labels; with a path, keep the session there.

        Raises
        ------
        SessionError
            If it cannot be written, the folder holds another session, or no path was
            ever given. The session in memory stays as it is.
        """
        self._storage.save(path, self._head())

    def results(self, *, reviewed_only: bool = False) -> Results:
        """Return labels, objects and provenance, as every writer takes them.

        Parameters
        ----------
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        """
        from napari_sam.session.provenance import results_of

        return results_of(self, reviewed_only=reviewed_only)

    def export(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        plane: int | Sequence[int] | Plane | None = None,
        view: View = "instance",
        reviewed_only: bool = False,
        overwrite: bool = False,
        **options: Any,
    ) -> list[str]:
        """Write the objects to a file; it is there whole or not at all.

        Parameters
        ----------
        path : path-like
            Its suffix names the format: see docs/formats.md.
        format : str, optional
            Name of a format, such as "coco", where the suffix does not say.
        plane : int, sequence of int or Plane, optional
            Only this plane, as a 2-D image.
        view : {"instance", "semantic", "panoptic"}
            What a value says: which object, of which class, or both; see
            `napari_sam.results.views.seen_as`.
        reviewed_only : bool
            Leave out objects that nobody has accepted.
        overwrite : bool
            Replace labels that are there as a folder. Files are replaced in any case.
        **options
            Of the format.

        Returns
        -------
        list of str
            What the file cannot hold, one sentence each. It is logged, too.

        Raises
        ------
        ExportError
            If there is no such format, it needs a package that is missing or cannot
            hold these labels, or the path cannot be written.

        Examples
        --------
        >>> session.export("cells.json")  # doctest: +SKIP
        >>> session.export("cells.geojson", format="qupath")  # doctest: +SKIP
        """
        from napari_sam.session.exchange import export

        return export(
            self.results(reviewed_only=reviewed_only), path, format, plane=plane,
            view=view, overwrite=overwrite, **options,
        )  # fmt: skip

    def read(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002
        *,
        plane: int | Sequence[int] | Plane | None = None,
        taken: Literal["new", "refuse"] = "new",
        **options: Any,
    ) -> Results:
        """Take in the objects of a file, as one change that can be undone.

        Pixels of other objects are kept or overwritten as `rule` says.

        Parameters
        ----------
        path : path-like
            Labels or annotations of this image.
        format : str, optional
            Name of a format, where neither the suffix nor the content says.
        plane : int, sequence of int or Plane, optional
            Where a file of a 2-D image belongs.
        taken : {"new", "refuse"}
            Objects whose id the session has already get new ids, or the file is
            refused.
        **options
            Of the format.

        Returns
        -------
        Results
            What was read, with the ids it has here; `Results.notes` says what was
            left out. It is logged, too.

        Raises
        ------
        VolumeError
            If the file is damaged, or belongs to another image.
        SessionError
            If ids are taken and may not be changed.
        ExportError
            If there is no such format, or it needs a package that is missing.
        """
        from napari_sam.session.exchange import read

        return read(self, path, format, plane=plane, taken=taken, **options)

    def close(self) -> None:
        """Finish writing and let go of the session's folder.

        Raises
        ------
        SessionError
            If the last changes could not be written; the folder is let go of.
        """
        self._storage.close()

    def _head(self) -> dict[str, Any]:
        return head_of(self.volume, self.model, self.engine.intensity, self.rule)
