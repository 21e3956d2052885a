"""What happened in the field, dated, from one file (``timeline.toml`` beside this one): tables and a picture.

The page "State of the field" shows all of it, a chapter what belongs to its topic.
"""

from __future__ import annotations

import datetime
import itertools
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from beyondlab.kit import check
from beyondlab.kit.tables import Table, table

if TYPE_CHECKING:
    from beyondlab.kit.figures import Figure

STRANDS: dict[str, str] = {
    "containers": "Containers",
    "isolation": "Isolation",
    "clusters": "Clusters, meshes",
    "functions": "Functions",
    "state": "State, events",
    "rules": "Rules",
}
"""Where the picture puts an event -> what its legend calls it."""

TOPICS: tuple[str, ...] = (
    "what-is-a-container", "measuring-and-simulating", "microvms", "service-mesh", "hybrid-orchestration", "aws-lambda", "knative",
    "machine-learning", "stateful", "serverless-containers", "event-driven", "capstone",
)  # fmt: skip
"""The chapters, by the names of their notebooks."""

BEGIN = 2013
"""The first year of the timeline: Docker's."""

LONGEST = 110
"""Characters that an event may have: a line or two on a phone."""

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_FIELDS = ("date", "event", "source", "by", "strand", "topics", "cite", "label")


@dataclass(frozen=True)
class Event:
    """One thing that happened on ``date``: a day, a month or a year, as exact as ``source`` is.

    ``source`` is an https address, ``by`` says whose, ``cite`` is its key in the book's references, or empty. ``strand``
    is one of :data:`STRANDS`, ``topics`` are some of :data:`TOPICS`. ``label``, if there is one, stands in the picture.

    Raises ValueError naming the field that is missing or not allowed.
    """

    date: str
    event: str
    source: str
    by: str
    strand: str
    topics: tuple[str, ...]
    cite: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        where = f"event {self.event!r} of {self.date!r}"
        if not isinstance(self.event, str) or not self.event.strip() or self.event.endswith(".") or len(self.event) > LONGEST:
            raise ValueError(f"{where}: event must be a line of at most {LONGEST} characters without a full stop")
        self._parts(where)
        if not isinstance(self.source, str) or not re.fullmatch(r"https://[^\s/]+\.\S+", self.source):
            raise ValueError(f"{where}: source={self.source!r} must be an https address")
        if not isinstance(self.by, str) or not self.by.strip():
            raise ValueError(f"{where}: by={self.by!r} must say whose source it is")
        if self.strand not in STRANDS:
            raise ValueError(f"{where}: strand={self.strand!r} must be one of {', '.join(STRANDS)}")
        object.__setattr__(self, "topics", tuple(self.topics))
        if not self.topics or (strange := set(self.topics) - set(TOPICS)):
            raise ValueError(f"{where}: topics={list(self.topics)!r} must be some of {', '.join(TOPICS)}")

    def _parts(self, where: str) -> tuple[int, int | None, int | None]:
        found = _DATE.fullmatch(self.date) if isinstance(self.date, str) else None
        if found:
            year, month, day = (int(part) if part else None for part in found.groups())
            try:
                datetime.date(year, month or 1, day or 1)
            except ValueError:
                found = None
        if not found or year < BEGIN:
            raise ValueError(f'{where}: date={self.date!r} must be a day, a month or a year from {BEGIN} on, such as "2026-11-27"')
        return year, month, day

    @property
    def first_day(self) -> datetime.date:
        """The first day that ``date`` can mean."""
        year, month, day = self._parts("date")
        return datetime.date(year, month or 1, day or 1)

    @property
    def moment(self) -> float:
        """The middle of ``date`` as a year with a fraction, for the picture."""
        year, month, day = self._parts("date")
        if month is None:
            return year + 0.5
        return year + (month - 1 + (0.5 if day is None else (day - 1) / 31)) / 12

    @property
    def when(self) -> str:
        """The date as people write it: 27 Nov 2026, Nov 2026, 2026."""
        year, month, day = self._parts("date")
        name = "" if month is None else f"{'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split()[month - 1]} "
        return f"{'' if day is None else f'{day} '}{name}{year}"


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("timeline.toml").read_text("utf-8"))


def as_of() -> datetime.date:
    """The day up to which the file tells what happened. Raises ValueError if the file does not say it."""
    found = _document().get("as_of")
    if not isinstance(found, datetime.date):
        raise ValueError(f"as_of={found!r} in timeline.toml: must be a day")
    return found


def read(entries: list[dict[str, Any]]) -> tuple[Event, ...]:
    """Events of ``entries``, in the order of their dates.

    Raises ValueError for an entry that lacks a field, has one too many, or has one that is not allowed, and for two that
    are alike.
    """
    events = []
    for entry in entries:
        lacking = [name for name in _FIELDS[:6] if not entry.get(name)]
        strange = [name for name in entry if name not in _FIELDS]
        if lacking or strange:
            faults = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has the unknown {', '.join(strange)}"] * bool(strange)
            raise ValueError(f"event {entry.get('event')!r} of {entry.get('date')!r}: {' and '.join(faults)}")
        events.append(Event(**entry))
    texts = [event.event for event in events]
    if twice := {text for text in texts if texts.count(text) > 1}:
        raise ValueError(f"event {min(twice)!r}: stands there twice")
    return tuple(sorted(events, key=lambda event: (event.date[:4], event.date)))


@cache
def every() -> tuple[Event, ...]:
    """What happened, in the order of time: all entries of the file up to :func:`as_of`."""
    return tuple(event for event in read(_document()["event"]) if event.first_day <= as_of())


@cache
def ahead() -> tuple[Event, ...]:
    """What is announced for a day after :func:`as_of`, in the order of time."""
    return tuple(event for event in read(_document()["event"]) if event.first_day > as_of())


def of(topic: str) -> tuple[Event, ...]:
    """What belongs to one chapter, the announced at the end. Raises ValueError for a topic that is none."""
    check.one_of("topic", topic, TOPICS)
    return tuple(event for event in (*every(), *ahead()) if topic in event.topics)


def show(topic: str) -> Table:
    """What happened in the field of one chapter, as a table to show: date, event, source."""
    rows = [[event.when, event.event, f"[{event.by}]({event.source})"] for event in of(topic)]
    return table(["When", "What", "Source"], rows, align="lll")


def figure() -> Figure:
    """The timeline as a picture: a dot for each event, one column for each strand, names for those with a label."""
    from matplotlib import pyplot as plt

    from beyondlab.kit import figures

    events, names = every(), list(STRANDS)
    named = sorted((event for event in events if event.label), key=lambda event: event.moment)
    end = as_of().year + as_of().timetuple().tm_yday / 366
    with figures.style():
        fig, axes = plt.subplots(figsize=(5.2, 8.6))
        axes.set(xlim=(-0.6, 12.6), ylim=(end + 0.35, BEGIN - 0.35))
        for lane, strand in enumerate(names):
            line = figures.series(lane + 1)
            moments = [event.moment for event in events if event.strand == strand]
            axes.plot([lane, lane], [BEGIN, end], color=figures.colour("grid"), linewidth=0.8, zorder=1)
            axes.plot([lane] * len(moments), moments, linestyle="none", marker=line["marker"], color=line["color"],
                      markersize=6, zorder=3, label=STRANDS[strand])
        for event, place in zip(named, _apart([event.moment for event in named], 0.372, BEGIN, end)):
            lane = names.index(event.strand)
            axes.plot([lane + 0.22, 5.9, 6.35], [event.moment, event.moment, place], color=figures.colour("muted"), linewidth=0.6,
                      zorder=2)
            axes.text(6.5, place, event.label, va="center", fontsize=10.2)
        axes.set_yticks(range(BEGIN, as_of().year + 1))
        axes.set_xticks([])
        axes.grid(True, axis="y")
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        fig.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=1.2, columnspacing=1.2)
    years = itertools.groupby(named, key=lambda event: event.date[:4])
    labels = "; ".join(f"{year} {', '.join(event.label for event in held)}" for year, held in years)
    counts = {strand: sum(event.strand == strand for event in events) for strand in names}
    last = sum(event.date >= "2025" for event in events)
    return figures.Figure(
        fig,
        name="timeline",
        alt=f"A time axis from {BEGIN} down to {as_of().year}, {len(events)} dots in {len(names)} columns. Named: {labels}.",
        caption=f"{len(events)} events since {BEGIN}, {last} of them from 2025 on. Containers, clusters and functions come first; "
                f"what keeps state, what isolates, and rules follow from 2017 on. Rules are few, {counts['rules']}, and bind.",
    )


def _apart(places: list[float], gap: float, low: float, high: float) -> list[float]:
    """``places`` in ascending order, moved as little as a few sweeps can so that neighbours are ``gap`` apart."""
    if gap * (len(places) - 1) > high - low:
        raise ValueError(f"{len(places)} labels do not fit between {low:g} and {high:g}, {gap:g} apart")
    found = list(places)
    for _ in range(500):
        for i in range(len(found) - 1):
            short = gap - (found[i + 1] - found[i])
            if short > 1e-9:
                found[i] -= short / 2
                found[i + 1] += short / 2
        found[0] = max(found[0], low)
        found[-1] = min(found[-1], high)
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + gap)
    overshoot = found[-1] - high
    if overshoot > 0:
        for i in range(len(found) - 1, -1, -1):
            limit = high - gap * (len(found) - 1 - i)
            found[i] = min(found[i], limit)
    return found
