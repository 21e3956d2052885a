"""The timeline of the field in the book: its picture, and its events as a list that reads well on a phone."""

from __future__ import annotations

import itertools
from pathlib import Path

from docutils import nodes
from docutils.nodes import make_id
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from beyondlab.kit import timeline
from beyondlab.kit.book import figure_html

logger = logging.getLogger(__name__)


class TimelinePicture(SphinxDirective):
    """``{timeline-picture}``: the timeline as a figure."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        _depends(self)
        drawn = timeline.figure()
        html = figure_html(drawn.svg, name=drawn.name, alt=drawn.alt, caption=drawn.caption)
        return [nodes.raw("", html, format="html")]


class TimelineList(SphinxDirective):
    """``{timeline-list}``: a section for each year, newest first. ``{timeline-list} ahead``: what is announced."""

    has_content = False
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        _depends(self)
        if self.arguments == ["ahead"]:
            return self.parse_text_to_nodes("\n".join(map(_line, timeline.ahead())))
        if self.arguments:
            logger.warning(f"{{timeline-list}}: {self.arguments[0]!r} is not 'ahead'", location=self.get_location(), type="timeline")
            return []
        years = itertools.groupby(reversed(timeline.every()), key=lambda event: event.date[:4])
        return [self._year(year, list(events)) for year, events in years]

    def _year(self, year: str, events: list[timeline.Event]) -> nodes.section:
        section = nodes.section("", nodes.title("", year), ids=[make_id(f"year-{year}")], names=[year])
        section += self.parse_text_to_nodes("\n".join(map(_line, events)))
        return section


def _depends(directive: SphinxDirective) -> None:
    for file in ("timeline.py", "timeline.toml"):
        directive.env.note_dependency(str(Path(timeline.__file__).with_name(file)))


def _line(event: timeline.Event) -> str:
    return f"- **{event.when}:** {event.event} ([{event.by}]({event.source}))."


def setup(app: Sphinx) -> None:
    app.add_directive("timeline-picture", TimelinePicture)
    app.add_directive("timeline-list", TimelineList)
