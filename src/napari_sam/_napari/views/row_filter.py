"""What is typed above the table: words, and comparisons with numbers."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Cell = Callable[[str], Any]
    """Gives the value of a column for one row; None where it has none."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_PART = re.compile(
    r'(?P<name>[\w:. ]*?\w)\s*(?P<sign><=|>=|!=|<|>|=)\s*(?P<value>"[^"]*"|\S+)'
)


class RowFilter:
    """Chooses rows: all that is asked for must hold.

    A word must be in one of the row's texts. ``class=cell`` compares a text,
    ``size > 200`` a number, ``class=""`` finds rows without a class.

    Parameters
    ----------
    text : str
    names : sequence of str
        Columns there are.

    Examples
    --------
    >>> row = {"class": "cell", "size": 250.0, "review": "open"}
    >>> RowFilter("cell size>200", list(row)).holds(row.get)
    True
    >>> RowFilter("size > 200 review=accepted", list(row)).holds(row.get)
    False
    """

    def __init__(self, text: str, names: list[str]) -> None:
        self.unknown = ""
        """Name of a column that there is not; "" when all are known."""
        self._tests: list[Callable[[Cell], bool]] = []
        self._words: list[str] = []
        by_name = {n.lower(): n for n in names}
        rest, at = "", 0
        for part in _PART.finditer(text):
            said = part["name"].lower().strip()
            # Words before a name belong to the words: the longest name is taken.
            start, name = 0, said
            while name not in by_name and " " in name:
                start = said.index(" ", start) + 1
                name = said[start:]
            rest += f" {text[at : part.start()]} {said[: len(said) - len(name)]}"
            at = part.end()
            if name in by_name:
                test = _test(by_name[name], part["sign"], part["value"].strip('"'))
                self._tests.append(test)
            else:
                self.unknown = name
        self._words = f"{rest} {text[at:]}".lower().split()

    def holds(self, cell: Cell) -> bool:
        """Whether a row is asked for."""
        if self._words:
            told = " ".join(str(cell(n) or "") for n in TEXTS).lower()
            if not all(word in told for word in self._words):
                return False
        return all(test(cell) for test in self._tests)


TEXTS = ("object", "class", "review", "origin")
"""Columns that words are looked for in."""


def _test(name: str, sign: str, value: str) -> Callable[[Cell], bool]:
    compare = _OPERATORS[sign]
    try:
        number: float | None = float(value)
    except ValueError:
        number = None

    def holds(cell: Cell) -> bool:
        there = cell(name)
        if number is not None and isinstance(there, (int, float)):
            return compare(there, number)
        if there is None or isinstance(there, (int, float)):
            there = "" if there is None else str(there)
            if sign not in ("=", "!="):
                return False
        return compare(str(there).lower(), value.lower())

    return holds
