"""What is typed above the table: words, and comparisons with numbers."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Column = Callable[[str], list[Any]]
    """Gives the cells of a column; None where one says nothing."""

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
    >>> columns = {"class": ["cell", "cell", None], "size": [250.0, 90.0, 300.0]}
    >>> RowFilter("cell size>200", list(columns)).rows(columns.get, 3)
    [0]
    >>> RowFilter('size > 200 class=""', list(columns)).rows(columns.get, 3)
    [2]
    """

    def __init__(self, text: str, names: list[str]) -> None:
        self.unknown = ""
        """Name of a column that there is not; "" when all are known."""
        self._names = names
        self._tests: list[tuple[str, Callable[[Any], bool]]] = []
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
                test = _test(part["sign"], part["value"].strip('"'))
                self._tests.append((by_name[name], test))
            else:
                self.unknown = name
        self._words = f"{rest} {text[at:]}".lower().split()

    def rows(self, column: Column, n: int) -> list[int]:
        """Return which of `n` rows are asked for."""
        kept = list(range(n))
        for name, test in self._tests:
            cells = column(name)
            kept = [row for row in kept if test(cells[row])]
        if self._words:
            texts = [column(name) for name in TEXTS if name in self._names]
            kept = [row for row in kept if self._has_words(c[row] for c in texts)]
        return kept

    def _has_words(self, cells: Iterable[Any]) -> bool:
        told = " ".join(str(c) for c in cells if c is not None).lower()
        return all(word in told for word in self._words)


TEXTS = ("object", "class", "review", "origin", "note", "likely class")
"""Columns that words are looked for in."""


def _test(sign: str, value: str) -> Callable[[Any], bool]:
    """Make the comparison of a cell with a value: as numbers where both are."""
    compare, text = _OPERATORS[sign], value.lower()
    try:
        number: float | None = float(value)
    except ValueError:
        number = None

    def holds(there: Any) -> bool:
        if number is not None and isinstance(there, (int, float)):
            return compare(there, number)
        if sign not in ("=", "!=") and not isinstance(there, str):
            return False
        return compare("" if there is None else str(there).lower(), text)

    return holds
