"""The cards of the cover, written from what each notebook says about itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from beyondlab.kit.book import inline_svg

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chapter:
    """What ``metadata.beyondlab.chapter`` of a notebook says; ``minutes`` is the time to learn.

    ``exercises`` is how many exercises the notebook has, ``labs`` how many of its cells start real components.
    """

    docname: str
    title: str
    part: str
    claim: str
    question: str
    answer: str
    minutes: int
    needs: str
    drawing: str | None
    exercises: int
    labs: int


def read(path: Path, docname: str) -> Chapter:
    """The chapter in the notebook at ``path``. Raises ValueError naming what its metadata lacks."""
    notebook = json.loads(path.read_text("utf-8"))
    words = notebook["metadata"].get("beyondlab", {}).get("chapter")
    if not words:
        raise ValueError(f"{docname}: metadata.beyondlab.chapter is missing")
    missing = [key for key in ("part", "claim", "question", "answer", "minutes", "needs") if not words.get(key)]
    if missing:
        raise ValueError(f"{docname}: metadata.beyondlab.chapter lacks {', '.join(missing)}")
    first = "".join(notebook["cells"][0]["source"])
    title = first.splitlines()[0].removeprefix("# ").strip()
    drawing = _drawing(notebook, words["figure"]) if words.get("figure") else None
    if words.get("figure") and drawing is None:
        raise ValueError(f"{docname}: metadata.beyondlab.chapter names the figure {words['figure']!r}, which no cell shows")
    tags = [cell["metadata"].get("tags", ()) for cell in notebook["cells"]]
    exercises, labs = (sum(tag in held for held in tags) for tag in ("solution", "lab"))
    said = (words[key] for key in ("part", "claim", "question", "answer", "minutes", "needs"))
    return Chapter(docname, title, *said, drawing, exercises, labs)


def _drawing(notebook: dict[str, Any], name: str) -> str | None:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if output.get("metadata", {}).get("name") == name:
                alt = escape(output["metadata"]["alt"])
                svg = inline_svg("".join(output["data"]["image/svg+xml"]), prefix="card-")
                return f'<div class="card-figure" role="img" aria-label="{alt}">{svg}</div>'
    return None


def every(env: BuildEnvironment) -> Iterator[Chapter]:
    """The chapters of the table of contents, in its order. The document being read depends on them from now on."""
    for tree in env.app.config.external_site_map.root.subtrees:
        for docname in tree.files():
            path = Path(env.srcdir, docname + ".ipynb")
            if path.is_file():
                env.note_dependency(str(path))
                yield read(path, docname)


def length(minutes: int) -> str:
    """Time to learn as people say it: 45 minutes, 1 hour 15."""
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{rest} minutes"
    return f"{hours} hour{'s' * (hours > 1)}" + (f" {rest}" if rest else "")


_UNIT = re.compile(r"(?<=\d) (?=(?:ms|s|B|[KMG]i?B|USD|vCPU|calls/s|minutes|hours)\b)")


def typeset(text: str) -> str:
    """Words of a card as HTML: apostrophes are curved, and a number stays on one line with its unit."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", escape(text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")))


class chapters(nodes.General, nodes.Element):
    """The place of the cards."""


class Chapters(SphinxDirective):
    """``{chapters}``: one card for every chapter of the table of contents."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        found = []
        try:
            found = list(every(self.env))
        except ValueError as fault:
            logger.warning(str(fault), location=self.get_location(), type="chapters")
        node = chapters()
        node["chapters"] = found
        return [node]


def visit(self, node: chapters) -> None:
    found: list[Chapter] = node["chapters"]
    single = len(found) == 1
    self.body.append(f'<div class="{"card-only" if single else "cards"}">\n')
    for chapter in found:
        link = self.builder.get_relative_uri(self.builder.current_docname, chapter.docname)
        head = (
            f'<p class="label">{escape(chapter.part)}</p>\n<h2><a href="{escape(link)}">{escape(chapter.title)}</a></h2>\n'
            f'<p class="card-claim">“{typeset(chapter.claim)}”</p>\n<p class="card-question">{typeset(chapter.question)}</p>\n'
        )
        answer = f'<p class="card-answer">{typeset(chapter.answer)}</p>\n'
        facts = f'<ul class="facts"><li>{length(chapter.minutes)}</li><li>{typeset(chapter.needs)}</li></ul>\n'
        if single and chapter.drawing:
            card = f'<div class="card-words">{head}{answer}{facts}</div>\n{chapter.drawing}'
        elif single:
            card = f'<div class="card-words">{head}</div>\n<div class="card-words">{answer}{facts}</div>\n'
        else:
            card = head + answer + facts
        self.body.append(f'<article class="card{" card-alone" * single}">\n{card}</article>\n')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def skip(self, node: chapters) -> None:
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_node(chapters, html=(visit, None), latex=(skip, None), text=(skip, None), man=(skip, None), texinfo=(skip, None))
    app.add_directive("chapters", Chapters)
