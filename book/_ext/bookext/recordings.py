"""The page of recordings: a table for every recorded experiment, straight from the files of the library."""

from __future__ import annotations

from docutils import nodes
from docutils.nodes import make_id
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from beyondlab.kit import recordings

logger = logging.getLogger(__name__)


class Recordings(SphinxDirective):
    """``{recordings}``: a section for every lab, a table for every experiment, each with its label."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        for path in sorted(recordings._folder().glob("*.json")):
            self.env.note_dependency(str(path))
        try:
            found = list(recordings.every())
        except ValueError as fault:
            logger.warning(str(fault), location=self.get_location(), type="recordings")
            return []
        if not found:
            return self.parse_text_to_nodes("Nothing is recorded yet: every lab has run on the machine it was read on.")
        return [self._section(recording) for recording in found]

    def _section(self, recording: recordings.Recording) -> nodes.section:
        title = recording.lab.replace("-", " ")
        section = nodes.section("", nodes.title("", title), ids=[make_id(f"lab-{recording.lab}")], names=[title])
        section += self.parse_text_to_nodes(recording._repr_markdown_())
        return section


def setup(app: Sphinx) -> None:
    app.add_directive("recordings", Recordings)
