"""Small tables that read well in a notebook, in the book and in a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from beyondlab.kit import check

_RULES = {"l": ":--", "r": "--:", "c": ":-:"}


def quantity(value: float, *, digits: int = 3) -> str:
    """A number at the precision a reader can use: ``digits`` significant digits, thousands separated by commas.

    Whole numbers (``int``) and the digits before the decimal point are never rounded away; below 0.0001 and from 1e15
    the exponent is written out.

    >>> quantity(0.01976), quantity(1234.5), quantity(200_000), quantity(3.2e-7)
    ('0.0198', '1,234', '200,000', '3.20e-07')
    """
    check.whole("digits", digits, 1)
    if isinstance(value, int):
        return f"{value:,}"
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if not 1e-4 <= abs(rounded) < 1e15:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def percent(share: float, *, digits: int = 3) -> str:
    """A share as per cent, at ``digits`` significant digits at most.

    >>> percent(0.00146), percent(0.47), percent(1.0), percent(2e-7)
    ('0.146 %', '47 %', '100 %', '< 0.0001 %')
    """
    if 0 < share < 1e-6:
        return "< 0.0001 %"
    text = quantity(100 * float(share), digits=digits)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int) or hasattr(cell, "__float__"):
        return quantity(cell if isinstance(cell, int) else float(cell))
    return str(cell)


def _literal(cell: str) -> str:
    """Markdown that keeps a pipe, and the star of a name such as ``K_*``, of which a pair would be emphasis."""
    return cell.replace("|", "\\|").replace("_*", "_\\*")


@dataclass(frozen=True, repr=False)
class Table:
    """A table of texts. ``align`` has one letter a column: ``l``, ``r`` or ``c``. Made by :func:`table`."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    caption: str | None = None

    def _repr_markdown_(self) -> str:
        def line(cells: Iterable[str]) -> str:
            return "| " + " | ".join(" ".join(_literal(cell).split()) for cell in cells) + " |"

        rule = "|" + "|".join(_RULES[letter] for letter in self.align) + "|"
        lines = [line(self.header), rule, *map(line, self.rows)]
        return "\n".join(([f"*{self.caption}*", ""] if self.caption else []) + lines)

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        just = {"l": str.ljust, "r": str.rjust, "c": str.center}
        drawn = [
            "  ".join(just[letter](cell, width) for cell, width, letter in zip(line, widths, self.align)).rstrip()
            for line in lines
        ]
        drawn.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join((textwrap.wrap(self.caption, 100) if self.caption else []) + drawn)


def table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str | None = None, align: str | None = None
) -> Table:
    """A table to show. Numbers are written by :func:`quantity`, None as an empty cell, a bool as yes or no.

    ``align`` has one letter a column (``l``, ``r``, ``c``); by default columns of numbers are set to the right.
    Raises ValueError if a row or ``align`` does not fit the header.
    """
    header = tuple(map(str, header))
    rows = [tuple(row) for row in rows]
    if not header:
        raise ValueError("header=(): a table needs at least one column")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(f"rows[{number}]={row!r}: has {len(row)} cells, the header has {len(header)}")
    if align is None:
        align = "".join("r" if _numbers(row[column] for row in rows) else "l" for column in range(len(header)))
    if len(align) != len(header) or not set(align) <= set(_RULES):
        raise ValueError(f"align={align!r}: needs one of l, r, c for each of {len(header)} columns")
    return Table(header, tuple(tuple(map(_text, row)) for row in rows), align, caption)


def _numbers(cells: Iterable[Any]) -> bool:
    cells = [cell for cell in cells if cell is not None]
    return bool(cells) and all(hasattr(cell, "__float__") and not isinstance(cell, bool) for cell in cells)
