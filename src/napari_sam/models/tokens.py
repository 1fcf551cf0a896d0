"""Words as the numbers that text encoders read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_sam.errors import ModelError, PromptError, reason

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

FILE = "tokenizer.json"
"""Name of the file beside a model's weights that says how its words are cut."""


class Tokenizer:
    """Cuts words into the pieces that a text encoder knows.

    Parameters
    ----------
    folder : Path
        Where the model's ``tokenizer.json`` is.
    length : int
        Pieces that the encoder takes; shorter texts are filled up.

    Raises
    ------
    ModelError
        If the file is missing or damaged, or its package is not installed.
    """

    def __init__(self, folder: Path, length: int) -> None:
        path = folder / FILE
        if not path.is_file():
            raise ModelError(
                f"words are read with the help of {FILE}, which is published beside "
                f"the model's weights and is missing here: put it into {folder}"
            )
        try:
            from tokenizers import Tokenizer as Reader
        except ImportError as error:
            raise ModelError(
                "words are read with the package tokenizers, which is not installed "
                "here: pip install transformers"
            ) from error
        try:
            self._reader = Reader.from_file(str(path))
        except Exception as error:  # Rust's errors have no class of their own
            raise ModelError(
                f"{path} is no list of word pieces ({reason(error)}): get it again "
                "from where the weights are from"
            ) from error
        self.length = length
        self._reader.no_padding()
        self._reader.no_truncation()

    def __call__(self, text: str) -> tuple[Tensor, Tensor]:
        """Read one text.

        Returns
        -------
        ids : Tensor, (1, length), int64
            Filled up with the last piece, the end of the text.
        mask : Tensor, (1, length), int64
            1 for pieces of the text, 0 behind its end.

        Raises
        ------
        PromptError
            If there are no words, or too many.
        """
        words = text.strip()
        if not words:
            raise PromptError("text is empty: name what to look for, such as 'nucleus'")
        ids = self._reader.encode(words).ids
        if len(ids) > self.length:
            raise PromptError(
                f"text has {len(ids)} word pieces and this model reads {self.length} "
                f"at most: say it in fewer words than {text!r}"
            )
        filled = ids + ids[-1:] * (self.length - len(ids))
        mask = [1] * len(ids) + [0] * (self.length - len(ids))
        return torch.tensor([filled]), torch.tensor([mask])
