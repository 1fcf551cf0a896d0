"""Every exception that napari-sam raises on purpose.

::

    NapariSamError (ValueError)
    ├── VolumeError             an image cannot be opened or read
    │   ├── SeriesError         several DICOM series (or OME series) and none was chosen
    │   └── SpacingError        slices at uneven distances, and nobody said what to do
    ├── PromptError             prompts that no model can answer
    ├── IntensityError          an intensity mapping that does not fit the data
    ├── ModelError              an unknown model, or one that cannot do what is asked
    │   ├── CheckpointError     a checkpoint that does not fit, is damaged or is unsafe
    │   └── DownloadError       weights that could not be fetched or verified
    ├── StoreError              an embedding store that cannot be read or written
    │   └── SignatureError      a store of another model, image or intensity
    ├── SessionError            a session that cannot be read or written
    │   └── SessionLockedError  a session that another process has open
    ├── ExportError             a result that cannot be written in the format asked for
    └── Cancelled               work that was stopped on request

Messages say what was expected, what came, and what to do about it.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger = logging.getLogger(__name__)


class NapariSamError(ValueError):
    """Root of all errors of this package."""


class VolumeError(NapariSamError):
    """An image cannot be opened or read."""


class SeriesError(VolumeError):
    """A folder or file holds several series and none was chosen.

    Parameters
    ----------
    message : str
        What was found and how to choose.
    series : dict of str to str
        Identifier of each series (what ``open_volume(series=...)`` takes) and a
        description for people.
    """

    def __init__(self, message: str, series: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.series: dict[str, str] = dict(series or {})


class SpacingError(VolumeError):
    """Slices lie at uneven distances; `open_volume` takes ``spacing=`` to open them."""


class PromptError(NapariSamError):
    """Prompts that no model can answer."""


class IntensityError(NapariSamError):
    """An intensity mapping does not fit the data."""


class ModelError(NapariSamError):
    """A model is unknown, or cannot do what is asked of it."""


class CheckpointError(ModelError):
    """A checkpoint does not fit its architecture, is damaged, or is unsafe to read."""


class DownloadError(ModelError):
    """Weights could not be fetched or did not verify."""


class StoreError(NapariSamError):
    """An embedding store cannot be read or written."""


class SignatureError(StoreError):
    """A store holds embeddings of another model, image or intensity mapping."""


class SessionError(NapariSamError):
    """A session cannot be read or written."""


class SessionLockedError(SessionError):
    """Another process has the session open for writing."""


class ExportError(NapariSamError):
    """A result cannot be written in the format asked for."""


class Cancelled(NapariSamError):
    """Work was stopped on request; what was finished before is kept."""


@contextlib.contextmanager
def refused_as(kind: type[NapariSamError], what: str, advice: str) -> Iterator[None]:
    """Turn any failure of somebody else's parser into one error for people.

    Files lie, and the packages that parse them answer with whatever exception their
    code happens to meet. The cause stays chained and goes to the log with its
    traceback, so that faults of this package can be found.

    Parameters
    ----------
    kind : type of NapariSamError
        Error to raise; errors of this package pass as they are.
    what : str
        What failed, with the file's name: "'a.tif' cannot be opened".
    advice : str
        What to do about it.

    Examples
    --------
    >>> with refused_as(VolumeError, "'a.png' cannot be opened", "copy it again"):
    ...     {}["width"]
    Traceback (most recent call last):
    napari_sam.errors.VolumeError: 'a.png' cannot be opened (KeyError: 'width'): copy \
it again
    """
    try:
        yield
    except NapariSamError:
        raise
    except Exception as error:
        logger.info("%s", what, exc_info=error)
        raise kind(f"{what} ({reason(error)}): {advice}") from error


def reason(error: BaseException) -> str:
    """Kind and first line of a foreign error, for messages."""
    lines = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    )


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """Return the known name that a wrong one is closest to, as the end of a sentence.

    Parameters
    ----------
    wrong : str
        What was given.
    names : iterable of str
        What there is.

    Returns
    -------
    str
        " (did you mean 'nano'?)", or "" where nothing is close.

    Examples
    --------
    >>> did_you_mean("nanoo", ["nano", "sam_vit_b"])
    " (did you mean 'nano'?)"
    >>> did_you_mean("SAM-VIT-B", ["nano", "sam_vit_b"])
    " (did you mean 'sam_vit_b'?)"
    >>> did_you_mean("liver", ["nano", "sam_vit_b"])
    ''
    """
    plain = {_plain(name): name for name in names}
    found = difflib.get_close_matches(_plain(wrong), plain, n=1)
    return f" (did you mean {plain[found[0]]!r}?)" if found else ""


def _plain(name: str) -> str:
    """Case and the kind of dash are what people get wrong most."""
    return name.lower().replace("-", "_").replace(" ", "_")
