"""Ways through the book with their times, and the cards of one part: both from what the notebooks say of themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from bookext import chapters

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """A part of a way: a chapter, or a place in it, and ``minutes``; None means all of the chapter."""

    name: str
    anchor: str
    minutes: int | None
    what: str


def steps(lines: list[str]) -> list[Step]:
    """Steps of the lines ``name#anchor | minutes | what``; ``all`` for a whole chapter. Raises ValueError for another form."""
    found = []
    for line in lines:
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 3 or not re.fullmatch(r"all|\d+", parts[1]):
            raise ValueError(f"{line!r}: must be: chapter | minutes or all | what")
        name, _, anchor = parts[0].partition("#")
        found.append(Step(name, anchor, None if parts[1] == "all" else int(parts[1]), parts[2]))
    return found


def timed(way: list[Step], minutes: dict[str, int], limit: int) -> list[int]:
    """Minutes of each step of ``way``, where ``minutes`` are those of the chapters.

    Raises ValueError if a chapter is unknown, a step takes longer than its chapter, or all together are over ``limit``.
    """
    times = []
    for step in way:
        if step.name not in minutes and (step.minutes is None or "/" not in step.name):
            raise ValueError(f"{step.name!r}: no chapter of the book; there are {', '.join(minutes)}")
        whole = minutes.get(step.name)
        if whole is not None and (step.minutes or 0) > whole:
            raise ValueError(f"{step.name!r}: {step.minutes} minutes of a chapter of {whole}")
        times.append(whole if step.minutes is None else step.minutes)
    if sum(times) > limit:
        raise ValueError(f"{sum(times)} minutes are over the limit of {limit}")
    return times


class Track(SphinxDirective):
    """``{track}``: a table of steps and what they sum to. Option ``limit``: the minutes they may take together."""

    has_content = True
    option_spec = {"limit": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        known = {chapter.docname.rpartition("/")[2]: chapter for chapter in _every(self)}
        try:
            way = steps([line for line in self.content if line.strip()])
            times = timed(way, {name: chapter.minutes for name, chapter in known.items()}, self.options["limit"])
        except (ValueError, KeyError) as fault:
            logger.warning(f"{{track}}: {fault}", location=self.get_location(), type="tracks")
            return []
        rows = []
        for step, minutes in zip(way, times):
            if step.name in known:
                title, target = known[step.name].title, f"/{known[step.name].docname}.ipynb"
            else:
                title, target = "", f"/{step.name}.md"
            rows.append(f"| [{title}]({target}{'#' * bool(step.anchor)}{step.anchor}) | {step.what} | {minutes} |")
        table = "\n".join(["| Chapter | What | Minutes |", "|:--|:--|--:|", *rows, f"| **Together** | | **{sum(times)}** |"])
        return self.parse_text_to_nodes(f"{table}\n\nTogether **{chapters.length(sum(times))}**, without breaks.")


class Timetable(SphinxDirective):
    """``{timetable}``: every chapter with its time, its exercises and its labs. Option ``needs``: and with its needs."""

    has_content = False
    option_spec = {"needs": directives.flag}

    def run(self) -> list[nodes.Node]:
        rows, total = [], 0
        for chapter in _every(self):
            total += chapter.minutes
            needs = f": {chapter.needs[0].lower()}{chapter.needs[1:]}" if "needs" in self.options else ""
            rows.append(f"| [{chapter.title}](/{chapter.docname}.ipynb){needs} | {chapter.minutes} | {chapter.exercises} | {chapter.labs} |")
        head = ["| Chapter | Min. | Exercises | Labs |", "|:--|--:|--:|--:|"]
        return self.parse_text_to_nodes("\n".join([*head, *rows, f"| **All** | **{total:,}** | | |"]))


class Part(chapters.Chapters):
    """``{part} Foundations``: the cards of one part. A name that no chapter has is a warning."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        (node,) = super().run()
        node["chapters"] = [chapter for chapter in node["chapters"] if chapter.part == self.arguments[0]]
        if not node["chapters"]:
            logger.warning(f"{{part}}: no chapter belongs to {self.arguments[0]!r}", location=self.get_location(), type="tracks")
        return [node]


def _every(directive: SphinxDirective) -> list[chapters.Chapter]:
    try:
        return list(chapters.every(directive.env))
    except ValueError:  # the cover reports it
        return []


def setup(app: Sphinx) -> None:
    app.add_directive("track", Track)
    app.add_directive("timetable", Timetable)
    app.add_directive("part", Part)
