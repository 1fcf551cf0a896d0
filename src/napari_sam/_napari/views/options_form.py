"""A form made from a frozen dataclass of options, by magicgui."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_type_hints

from magicgui.widgets import CheckBox, Container, create_widget
from qtpy.QtWidgets import QAbstractSpinBox, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import Field

T = TypeVar("T")
BY_ITSELF = "auto"
"""Shown for a number that may be None, which leaves it to the program."""


class OptionsForm(QWidget, Generic[T]):  # type: ignore[misc]
    """One field for each option: text from its docstring, range from its metadata.

    Parameters
    ----------
    options : type
        Frozen dataclass, of bool, int, float, str, and numbers that may be None. A
        field's metadata may have "range": (least, most).
    leave_out : sequence of str
        Options that keep their defaults.
    """

    def __init__(self, options: type[T], *, leave_out: Sequence[str] = ()) -> None:
        super().__init__()
        self._options = options
        hints, texts = get_type_hints(options), field_texts(options)
        self._optional: dict[str, float] = {}
        rows = []
        for field in fields(options):  # type: ignore[arg-type]
            if field.name not in leave_out:
                row = self._row(field, hints[field.name], texts.get(field.name, ""))
                rows.append(row)
        self.form = Container(widgets=rows, labels=True)
        self.form.margins = (0, 0, 0, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form.native)

    def value(self) -> T:
        """Return the options as they are filled in.

        Raises
        ------
        NapariSamError
            If the options refuse a combination.
        """
        said = {row.name: row.value for row in self.form}
        for name, least in self._optional.items():
            said[name] = None if said[name] == least else said[name]
        return self._options(**said)

    def _row(self, field: Field[Any], hint: Any, text: str) -> Any:
        kinds = [k for k in get_args(hint) if k is not types.NoneType]
        optional = isinstance(hint, types.UnionType) and len(kinds) == 1
        kind = kinds[0] if optional else hint
        given: dict[str, Any] = {"tooltip": text}
        if kind in (int, float):
            least, most = field.metadata.get("range", (0, 10**6))
            step = 0.05 if kind is float and most <= 1 else 1
            if optional:
                least = least - step
                self._optional[field.name] = least
            given |= {"min": least, "max": most, "step": step}
        value = given["min"] if optional and field.default is None else field.default
        row: Any = create_widget(
            value=value,
            annotation=kind,
            name=field.name,
            label="" if kind is bool else field.name.replace("_", " "),
            options=given,
        )
        if isinstance(row, CheckBox):
            row.text = field.name.replace("_", " ")
        elif isinstance(row.native, QAbstractSpinBox):
            if optional:
                row.native.setSpecialValueText(BY_ITSELF)
            row.native.setMinimumWidth(64)
        return row


def field_texts(options: type) -> dict[str, str]:
    """Docstrings beneath the fields of a class, as its source has them.

    Examples
    --------
    >>> from napari_sam.engine.suggest import SuggestRules
    >>> field_texts(SuggestRules)["max_doubt"]
    'Proposals that are more doubtful are not made.'
    """
    try:
        source = textwrap.dedent(inspect.getsource(options))
    except (OSError, TypeError):  # frozen programs have no source
        return {}
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    out = {}
    for said, text in itertools.pairwise(body):
        if not (isinstance(said, ast.AnnAssign) and isinstance(said.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            out[said.target.id] = inspect.cleandoc(str(text.value.value))
    return out
