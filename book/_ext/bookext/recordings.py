"""The page of recordings: a table for every recorded experiment, straight from the files of the library."""

from __future__ import annotations

from collections.abc import Mapping

from docutils import nodes
from docutils.nodes import make_id
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from beyondlab.kit import recordings
from beyondlab.kit.tables import Table, table
from bookext import chapters

logger = logging.getLogger(__name__)


LONGEST = 40
"""A text of more characters, or of several lines, is no cell of a table: the chapter shows it."""


def tables(result: recordings.Result) -> list[Table]:
    """What an experiment found: its single figures, and its mappings that have the same keys, a row each."""
    single = result.table()
    name = result.experiment.replace("_", " ")
    mappings = {
        key: value for key, value in result.items()
        if isinstance(value, Mapping) and value and all(map(_plain, value.values()))
    }  # fmt: skip
    first = next(iter(mappings.values()), {})
    alike = {key: value for key, value in mappings.items() if list(value) == list(first)}
    found = [single] if single.rows else []
    if len(alike) > 1:
        found.append(table([name, *first], [[key, *value.values()] for key, value in alike.items()]))
    return found or [table([name], [["no single figures: the chapter shows what it found"]])]


def _plain(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST and "\n" not in value
    return isinstance(value, (bool, int, float))


class Recordings(SphinxDirective):
    """``{recordings}``: a section for every lab, a table for every experiment, each with its label."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        try:
            found = list(recordings.every())
        except ValueError as fault:
            logger.warning(str(fault), location=self.get_location(), type="recordings")
            return []
        if not found:
            return self.parse_text_to_nodes("Nothing is recorded yet.")
        return [self._section(recording) for recording in found]

    def _section(self, recording: recordings.Recording) -> nodes.section:
        title = self._title(recording.lab)
        section = nodes.section("", nodes.title("", title), ids=[make_id(f"lab-{recording.lab}")], names=[title])
        label = None
        for result in recording.results.values():
            if result.label != label:
                label = result.label
                section += nodes.paragraph("", label, classes=["recorded"])
            for shown in tables(result):
                section += self.parse_text_to_nodes(shown._repr_markdown_())
        return section

    def _title(self, lab: str) -> str:
        """The title of the chapter whose notebook has the name of the lab, else that name."""
        try:
            found = [chapter.title for chapter in chapters.every(self.env) if chapter.docname.rpartition("/")[2] == lab]
        except ValueError:  # the cover reports it
            found = []
        return found[0] if found else lab.replace("-", " ")


def setup(app: Sphinx) -> None:
    app.add_directive("recordings", Recordings)
