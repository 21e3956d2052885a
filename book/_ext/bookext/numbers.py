"""Numbers in the pages around the chapters, taken from the chapters when the book is built, so that they cannot drift.

==========================================  ====================================================================
``{ours}`knative: A function's cold```      what the claim table of that notebook gives as ours
``{published}`knative: A function's cold``` what it gives as published
``{recorded}`knative/from_zero: lost```     a recorded value: lab, experiment, name
``{times}`a/b: c / d/e: f```                one recorded value as a multiple of another
==========================================  ====================================================================

A claim is named by how it begins. Where nothing, or more than one row, begins so, the build fails.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from beyondlab.kit import recordings
from beyondlab.kit.tables import quantity
from bookext import claims

logger = logging.getLogger(__name__)

LARGER = {"ms": ("s", 1000), "µs": ("ms", 1000), "ns": ("µs", 1000), "KiB": ("MiB", 1024)}
"""A unit and the one in which a thousand of it are said."""


def rounded(value: float, unit: str = "") -> str:
    """A measured value as people say it: two significant digits, the unit that fits.

    >>> rounded(3645.2, "ms"), rounded(8.0, "KiB"), rounded(17980, "KiB"), rounded(7)
    ('3.6 s', '8 KiB', '18 MiB', '7')
    """
    if isinstance(value, int) and not unit:
        return quantity(value)
    while unit in LARGER and value >= LARGER[unit][1]:
        unit, factor = LARGER[unit]
        value /= factor
    value = float(f"{value:.1e}")
    text = f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
    return f"{text} {unit}".strip()


@lru_cache(maxsize=64)
def _rows(path: Path, _changed: float) -> tuple[tuple[str, ...], ...]:
    lines = claims.read(path).table.strip().splitlines()
    return tuple(tuple(cell.strip() for cell in line.strip().strip("|").split("|")) for line in (lines[0], *lines[2:]))


def claimed(root: Path, text: str, column: str) -> str:
    """``column`` of the row of a claim table: ``text`` is ``notebook: how the claim begins``.

    What stands after a comma, such as "recorded", and the number of the source are left out. Raises ValueError if there
    is no such notebook, or not one such row.
    """
    stem, _, begins = (part.strip() for part in text.partition(":"))
    found = [path for path in (root / "notebooks").rglob(f"{stem}.ipynb") if ".ipynb_checkpoints" not in path.parts]
    if len(found) != 1:
        raise ValueError(f"{text!r}: there is no notebook {stem!r}")
    head, *rows = _rows(found[0], found[0].stat().st_mtime)
    place = next(i for i, name in enumerate(head) if column in name.lower())
    fitting = [row for row in rows if row[0].startswith(begins)]
    if not begins or len(fitting) != 1:
        raise ValueError(f"{text!r}: {len(fitting)} claims begin so; there are {'; '.join(row[0] for row in rows)}")
    return re.sub(r"(?<=\d)%", " %", re.split(r", (?=\D)", fitting[0][place])[0]).strip()


def measured(text: str) -> recordings.Measurement | int | float:
    """The recorded value of ``lab/experiment: name``. Raises ValueError if it is not recorded or no number."""
    where, _, name = (part.strip() for part in text.partition(":"))
    lab, _, experiment = where.partition("/")
    try:
        value = recordings.read(lab).results[experiment][name]
    except (LookupError, ValueError) as error:
        raise ValueError(f"{text!r}: not recorded ({error})") from error
    if isinstance(value, bool) or not isinstance(value, (int, float, recordings.Measurement)):
        raise ValueError(f"{text!r}: {value!r} is no number")
    return value


def _said(text: str) -> str:
    value = measured(text)
    return rounded(value.value, value.unit) if isinstance(value, recordings.Measurement) else rounded(value)


def _ratio(text: str) -> str:
    one, sign, other = text.partition(" / ")
    if not sign:
        raise ValueError(f"{text!r}: must be two recorded values with ' / ' between them")
    return rounded(float(measured(one)) / float(measured(other)))


ROLES = {
    "ours": lambda root, text: claimed(root, text, "ours"),
    "published": lambda root, text: claimed(root, text, "published"),
    "recorded": lambda root, text: _said(text),
    "times": lambda root, text: _ratio(text),
}
"""Name of a role -> what it writes, from the folder of the book and its text."""


class Number(SphinxRole):
    """One of :data:`ROLES`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.env.note_reread()
        try:
            text = ROLES[self.name](Path(self.env.srcdir), self.text)
        except ValueError as fault:
            logger.warning(f"{{{self.name}}}: {fault}", location=self.get_location(), type="numbers")
            text = "?"
        return [nodes.Text(text.replace(" ", "\u00a0"))], []


def setup(app: Sphinx) -> None:
    for name in ROLES:
        app.add_role(name, Number())
