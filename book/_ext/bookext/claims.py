"""The page of claims: the claim table of every chapter, read from the stored outputs of its notebook."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.nodes import make_id
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from bookext import chapters

logger = logging.getLogger(__name__)

COLUMNS = ("claim", "published", "ours", "ratio")
"""What the columns of a claim table are called, in any case and order."""


@dataclass(frozen=True)
class Claims:
    """The claim table of a chapter as Markdown, with the text that stands below it: sources, reasons for a difference."""

    table: str
    below: str


def read(path: Path) -> Claims:
    """The claim table in the notebook at ``path``: the last output with the four columns.

    Raises ValueError if no cell of the notebook shows one.
    """
    cells = json.loads(path.read_text("utf-8"))["cells"]
    found = None
    for place, cell in enumerate(cells):
        for output in cell.get("outputs", ()):
            table = "".join(output.get("data", {}).get("text/markdown", ""))
            heads = [head.lower() for line in table.splitlines()[:1] for head in line.split("|")]
            if all(any(name in head for head in heads) for name in COLUMNS):
                found = Claims(table, _text_after(cells, place))
    if found is None:
        raise ValueError(f"{path.name}: no output is a table with the columns {', '.join(COLUMNS)}")
    return found


def _text_after(cells: list[dict], place: int) -> str:
    """The Markdown from the cell at ``place`` to the next heading. Cells of code between are left out."""
    lines: list[str] = []
    for cell in cells[place + 1 :]:
        if cell["cell_type"] != "markdown":
            continue
        for line in "".join(cell["source"]).splitlines():
            if line.startswith("#"):
                return "\n".join(lines).strip()
            lines.append(line)
        lines.append("")
    return "\n".join(lines).strip()


class ClaimsPage(SphinxDirective):
    """``{claims}``: a section for every chapter of the table of contents, with its claim table and what stands below it."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        try:
            return [self._section(chapter) for chapter in chapters.every(self.env)]
        except ValueError as fault:
            logger.warning(str(fault), location=self.get_location(), type="claims")
            return []

    def _section(self, chapter: chapters.Chapter) -> nodes.section:
        name = chapter.docname.rpartition("/")[2]
        section = nodes.section("", nodes.title("", chapter.title), ids=[make_id(f"claims-{name}")], names=[chapter.title])
        claims = read(Path(self.env.srcdir, chapter.docname + ".ipynb"))
        section += self.parse_text_to_nodes(f"*“{chapter.claim}”* {chapter.question} [To the chapter](/{chapter.docname}.ipynb).")
        section += self.parse_text_to_nodes(claims.table)
        section += self.parse_text_to_nodes(claims.below)
        return section


def setup(app: Sphinx) -> None:
    app.add_directive("claims", ClaimsPage)
