"""Readers of recorded workloads: the files of the Azure Functions trace of 2019, and plain ``timestamp,function`` files.

All of them stream: memory does not grow with the file, but for the names of the functions seen where each may occur
only once. Nothing is silently dropped: a row that is not as it must be stops the reader, or is counted and skipped, as
asked; its file, line and reason are told. A row is a line: no quoted cell reaches beyond its line, so that a quotation
mark which is never closed spoils one row and not all that follow. A file that ends before its end (a broken ``.gz``) or
cannot be decoded always stops the reader, for nobody can count what is missing.

Schema of the Azure files: Azure/AzurePublicDataset, AzureFunctionsDataset2019.md, revision 2 of 18 June 2020.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Literal, TextIO, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beyondlab.sim import _check
from beyondlab.sim._check import Seed

MINUTES = 1_440
TRIGGERS = ("http", "timer", "event", "queue", "storage", "orchestration", "others")
DURATION_PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
MEMORY_PERCENTILES = (1, 5, 25, 50, 75, 95, 99, 100)
KEPT = 10
"""How many of the rows skipped are kept with line and reason; all are counted."""
MOST_PLACED = 1_000_000_000
"""Arrivals that :func:`arrivals_of_minutes` places at most."""
_MOST_COUNT = 2**63 - 1
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

OnError = Literal["raise", "skip"]
Source = str | os.PathLike[str] | TextIO
Row = TypeVar("Row")


class TraceError(ValueError):
    """A row that is not as it must be: ``file``, ``line`` (from 1) and ``reason``."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}, line {line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


@dataclass
class Skipped:
    """The rows that a reader left out."""

    count: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Kind of fault -> how often."""
    first: list[TraceError] = field(default_factory=list)
    """The first ten, whole."""


@dataclass(frozen=True, eq=False)
class Invocations:
    """A row of ``invocations_per_function_md.anon.dNN.csv``: one function, one day."""

    owner: str
    app: str
    function: str
    trigger: str
    """One of ``TRIGGERS``."""
    per_minute: NDArray[np.int64]
    """Invocations in each minute of the day, shape (1440,)."""


@dataclass(frozen=True)
class Durations:
    """A row of ``function_durations_percentiles.anon.dNN.csv``: execution times in milliseconds, start-up left out."""

    owner: str
    app: str
    function: str
    average: float
    count: int
    minimum: float
    maximum: float
    percentiles: dict[int, float]
    """Percentile -> milliseconds; of averages over 30 seconds each, not of single executions."""


@dataclass(frozen=True)
class Memory:
    """A row of ``app_memory_percentiles.anon.dNN.csv``: memory that an application has allocated, in MB."""

    owner: str
    app: str
    samples: int
    average: float
    percentiles: dict[int, float]
    """Percentile -> MB; of averages over a minute each."""


@dataclass(frozen=True)
class Request:
    """A row of a ``timestamp,function`` file."""

    timestamp: float
    """Seconds, as given; since 1970 if the file has dates."""
    function: str


class Fault(Exception):
    """What is wrong with a row: a kind, and the details."""

    def __init__(self, kind: str, details: str = "") -> None:
        self.kind, self.reason = kind, f"{kind}: {details}" if details else kind


class Reader(Generic[Row]):
    """Iterate over it once for the rows; ``skipped`` then tells what was left out. The file closes with the iteration."""

    def __init__(
        self,
        source: Source,
        on_error: OnError,
        header: Callable[[list[str]], str | None],
        parse: Callable[[list[str]], Row],
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error={on_error!r}: must be 'raise' or 'skip'")
        if not (isinstance(source, str | os.PathLike) or _is_text(source)):
            raise ValueError(f"source={source!r}: must be a path or an open text file")
        self.skipped = Skipped()
        self._source, self._on_error, self._header, self._parse = source, on_error, header, parse
        self._rows = self._read()

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def __next__(self) -> Row:
        return next(self._rows)

    def _read(self) -> Iterator[Row]:
        with _opened(self._source) as (file, name):
            lines = _lines(file, name)
            line, text = next(lines, (1, None))
            try:
                names = None if text is None else _cells(text)
                complaint = "is empty: must begin with a header" if names is None else self._header(names)
            except Fault as fault:
                complaint = fault.reason
            if complaint:
                raise TraceError(name, line, complaint)
            columns = len(names or ())
            for line, text in lines:
                try:
                    row = self._parsed(_cells(text), columns)
                except Fault as fault:
                    self._tell(name, line, fault)
                else:
                    yield row

    def _parsed(self, row: list[str], columns: int) -> Row:
        if not row:
            raise Fault("blank line")
        if len(row) != columns:
            raise Fault("wrong number of columns", f"{len(row)}, must be {columns}")
        if any("\ufffd" in cell or "\0" in cell for cell in row):
            raise Fault("not UTF-8 text")
        return self._parse(row)

    def _tell(self, name: str, line: int, fault: Fault) -> None:
        error = TraceError(name, line, fault.reason)
        if self._on_error == "raise":
            raise error
        self.skipped.count += 1
        self.skipped.reasons[fault.kind] += 1
        if len(self.skipped.first) < KEPT:
            self.skipped.first.append(error)


def read_invocations(source: Source, *, on_error: OnError = "raise") -> Reader[Invocations]:
    """Invocations per minute of each function: ``HashOwner,HashApp,HashFunction,Trigger,1,…,1440``.

    Faults: a blank line, a wrong number of columns, an empty name, a trigger not in ``TRIGGERS``, a count that is no
    whole number from 0 to 2**63 - 1, a function that occurred before, bytes that are no UTF-8 text, broken quotes.

    Parameters
    ----------
    source
        Path, of a file compressed by gzip if it ends in ``.gz``; or an open text file, which is not closed.
    on_error
        ``"raise"`` a :class:`TraceError` at the first faulty row, or ``"skip"`` and count it.

    Raises
    ------
    TraceError
        At a faulty row, as asked; for a wrong header, a file cut short or one that cannot be decoded always.
    ValueError
        If ``source`` or ``on_error`` is not as said.
    OSError
        If the file cannot be opened.
    """
    expected = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, MINUTES + 1))]
    seen = _Once("function")

    def parse(row: list[str]) -> Invocations:
        owner, app, function, trigger = row[:4]
        _named(owner=owner, app=app, function=function)
        if trigger not in TRIGGERS:
            raise Fault("unknown trigger", f"{trigger!r}, must be one of {', '.join(TRIGGERS)}")
        per_minute = np.array([_count(f"minute {minute}", cell) for minute, cell in enumerate(row[4:], 1)], np.int64)
        seen.check(owner, app, function)
        return Invocations(owner, app, function, trigger, per_minute)

    return Reader(source, on_error, _exactly(expected), parse)


def read_durations(source: Source, *, on_error: OnError = "raise") -> Reader[Durations]:
    """Execution times of each function in milliseconds.

    Arguments, faults and errors as for :func:`read_invocations`; times must be finite and at least 0. The trace has rows
    whose minimum and maximum were not recorded rightly (its note 6), so their order is not checked.
    """
    expected = ["HashOwner", "HashApp", "HashFunction", "Average", "Count", "Minimum", "Maximum"]
    expected += [f"percentile_Average_{percentile}" for percentile in DURATION_PERCENTILES]
    seen = _Once("function")

    def parse(row: list[str]) -> Durations:
        owner, app, function = row[:3]
        _named(owner=owner, app=app, function=function)
        average, minimum, maximum = (_number(name, row[place]) for name, place in (("Average", 3), ("Minimum", 5), ("Maximum", 6)))
        percentiles = _percentiles(DURATION_PERCENTILES, row[7:])
        count = _count("Count", row[4])
        seen.check(owner, app, function)
        return Durations(owner, app, function, average, count, minimum, maximum, percentiles)

    return Reader(source, on_error, _exactly(expected), parse)


def read_memory(source: Source, *, on_error: OnError = "raise") -> Reader[Memory]:
    """Memory of each application in MB. Arguments, faults and errors as for :func:`read_durations`."""
    expected = ["HashOwner", "HashApp", "SampleCount", "AverageAllocatedMb"]
    expected += [f"AverageAllocatedMb_pct{percentile}" for percentile in MEMORY_PERCENTILES]
    seen = _Once("application")

    def parse(row: list[str]) -> Memory:
        owner, app = row[:2]
        _named(owner=owner, app=app)
        samples, average = _count("SampleCount", row[2]), _number("AverageAllocatedMb", row[3])
        percentiles = _percentiles(MEMORY_PERCENTILES, row[4:])
        seen.check(owner, app)
        return Memory(owner, app, samples, average, percentiles)

    return Reader(source, on_error, _exactly(expected), parse)


def read_requests(source: Source, *, on_error: OnError = "raise") -> Reader[Request]:
    """Requests from a file ``timestamp,function``: numbers of seconds, or dates and times of ISO 8601 with an offset.

    Faults: a blank line, a wrong number of columns, a timestamp that is neither, is not finite or lies before the one of
    the last good row or is a date where that was a number (or the other way round), an empty name, bytes that are no
    UTF-8 text, broken quotes. Arguments and errors as for :func:`read_invocations`.
    """
    last, first_dated = -math.inf, None

    def parse(row: list[str]) -> Request:
        nonlocal last, first_dated
        timestamp, dated = _timestamp(row[0])
        _named(function=row[1])
        if first_dated not in (None, dated):
            raise Fault("dates and numbers of seconds mixed", _short(row[0]))
        if timestamp < last:
            raise Fault("timestamp before the last one", _short(row[0]))
        last, first_dated = timestamp, dated
        return Request(timestamp, row[1])

    return Reader(source, on_error, _exactly(["timestamp", "function"]), parse)


def arrivals_of_minutes(per_minute: ArrayLike, seed: Seed) -> NDArray[np.float64]:
    """Arrival times in seconds, sorted, of counts per minute: uniform in each minute, as the trace says no more.

    ``per_minute``: whole numbers of at least 0, shape (minutes,), in all at most :data:`MOST_PLACED`. Raises ValueError
    otherwise.
    """
    counts = _check.vector("per_minute", per_minute)
    wrong = np.flatnonzero(~((counts >= 0) & (counts == np.floor(counts)) & (counts < math.inf)))
    if wrong.size:
        raise ValueError(f"per_minute[{wrong[0]}]={counts[wrong[0]]}: must be a whole number, at least 0")
    if counts.sum() > MOST_PLACED:
        raise ValueError(f"per_minute: {counts.sum():g} arrivals in all, must be at most {MOST_PLACED:,}")
    minute = np.repeat(np.arange(counts.size), counts.astype(np.int64))
    return np.sort(60.0 * (minute + _check.generator(seed).random(minute.size)))


@contextmanager
def _opened(source: Source) -> Iterator[tuple[TextIO, str]]:
    if not isinstance(source, str | os.PathLike):
        yield source, str(getattr(source, "name", "the text given"))
        return
    name = os.fsdecode(source)
    how = {"encoding": "utf-8-sig", "errors": "replace", "newline": ""}
    with gzip.open(name, "rt", **how) if name.endswith(".gz") else open(name, **how) as file:
        yield file, name


def _is_text(source: object) -> bool:
    binary = isinstance(source, io.RawIOBase | io.BufferedIOBase) or "b" in str(getattr(source, "mode", ""))
    return hasattr(source, "readable") and hasattr(source, "__iter__") and not binary


def _lines(file: TextIO, name: str) -> Iterator[tuple[int, str]]:
    """Lines from 1 on, without their ends. Raises TraceError where the file breaks off."""
    line = 0
    try:
        for line, text in enumerate(file, 1):
            yield line, text.rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TraceError(name, line + 1, f"the file breaks off: {error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(name, line + 1, f"cannot be decoded: {error}") from error


def _cells(text: str) -> list[str]:
    try:
        return next(csv.reader((text,), strict=True), [])
    except csv.Error as error:
        raise Fault("not CSV", str(error)) from None


class _Once:
    """Refuses a name that occurred before. Keeps 8 bytes a name."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.seen: set[int] = set()

    def check(self, *names: str) -> None:
        mark = hash(names)
        if mark in self.seen:
            raise Fault(f"{self.what} occurred before", names[-1])
        self.seen.add(mark)


def _exactly(expected: list[str]) -> Callable[[list[str]], str | None]:
    def complaint(names: list[str]) -> str | None:
        if names == expected:
            return None
        for place, (name, wanted) in enumerate(zip(names, expected, strict=False), 1):
            if name != wanted:
                return f"column {place} is called {name!r}, must be {wanted!r}"
        return f"has {len(names)} columns, must have {len(expected)}"

    return complaint


def _named(**names: str) -> None:
    for what, name in names.items():
        if not name.strip():
            raise Fault("empty name", what)


def _count(what: str, cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise Fault("not a whole number of at least 0", f"{what} is {_short(cell)}")
    if len(cell) > 400 or (count := int(cell)) > _MOST_COUNT:
        raise Fault("too large a number", f"{what} is {_short(cell)}")
    return count


def _number(what: str, cell: str) -> float:
    value = float(cell) if _DECIMAL.fullmatch(cell) else math.nan
    if not 0 <= value < math.inf:
        raise Fault("not a finite number of at least 0", f"{what} is {_short(cell)}")
    return value


def _short(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:40] + "…")


def _percentiles(names: tuple[int, ...], cells: list[str]) -> dict[int, float]:
    return {name: _number(f"percentile {name}", cell) for name, cell in zip(names, cells, strict=True)}


def _timestamp(cell: str) -> tuple[float, bool]:
    """Seconds, and whether they come from a date."""
    if _DECIMAL.fullmatch(cell):
        value = float(cell)
        if not math.isfinite(value):
            raise Fault("not a timestamp", _short(cell))
        return value, False
    try:
        moment = datetime.datetime.fromisoformat(cell)
    except ValueError:
        raise Fault("not a timestamp", _short(cell)) from None
    if moment.tzinfo is None:
        raise Fault("timestamp without an offset from UTC", _short(cell))
    return moment.timestamp(), True
