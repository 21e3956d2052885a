"""Trace readers: what is right comes through, what is wrong is told with file, line and reason; nothing is lost."""

from __future__ import annotations

import gzip
import io
import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.sim import traces
from beyondlab.sim.traces import TraceError, arrivals_of_minutes, read_durations, read_invocations, read_memory, read_requests

MINUTES = ",".join(map(str, range(1, 1_441)))
INVOCATIONS = f"HashOwner,HashApp,HashFunction,Trigger,{MINUTES}\n"
DURATIONS = (
    "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,"
    "percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,percentile_Average_100\n"
)
MEMORY = (
    "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct5,"
    "AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,AverageAllocatedMb_pct75,AverageAllocatedMb_pct95,"
    "AverageAllocatedMb_pct99,AverageAllocatedMb_pct100\n"
)


def invocations(function="f", trigger="http", counts=None):
    counts = counts or ["0"] * 1_440
    return f"o,a,{function},{trigger},{','.join(counts)}\n"


def test_invocations():
    counts = ["0"] * 1_440
    counts[0], counts[1_439] = "3", "7"
    (row,) = read_invocations(io.StringIO(INVOCATIONS + invocations(counts=counts)))
    assert (row.owner, row.app, row.function, row.trigger) == ("o", "a", "f", "http")
    assert row.per_minute.shape == (1_440,) and row.per_minute.sum() == 10 and row.per_minute[-1] == 7


def test_durations_and_memory(tmp_path):
    path = tmp_path / "durations.csv"
    path.write_text(DURATIONS + "o,a,f,10.5,4,2,30,2,2,5,9,12,30,30\n")
    (row,) = read_durations(path)
    assert (row.average, row.count, row.minimum, row.maximum) == (10.5, 4, 2.0, 30.0)
    assert row.percentiles == {0: 2.0, 1: 2.0, 25: 5.0, 50: 9.0, 75: 12.0, 99: 30.0, 100: 30.0}
    (memory,) = read_memory(io.StringIO(MEMORY + "o,a,60,120.5,100,101,110,120,130,140,150,160\n"))
    assert (memory.samples, memory.average, memory.percentiles[95]) == (60, 120.5, 140.0)


def test_requests():
    text = "timestamp,function\n0.5,f\n0.5,g\n2,f\n"
    assert [(row.timestamp, row.function) for row in read_requests(io.StringIO(text))] == [(0.5, "f"), (0.5, "g"), (2.0, "f")]
    dated = "timestamp,function\n2026-11-23T00:00:00Z,f\n2026-11-23T01:00:00+01:00,g\n"
    first, second = read_requests(io.StringIO(dated))
    assert first.timestamp == second.timestamp == 1_795_392_000.0


GOOD = {
    read_invocations: (INVOCATIONS, [invocations("f"), invocations("g", "timer")]),
    read_durations: (DURATIONS, ["o,a,f,1,1,1,1,1,1,1,1,1,1,1\n", "o,a,g,1,1,1,1,1,1,1,1,1,1,1\n"]),
    read_memory: (MEMORY, ["o,a,1,1,1,1,1,1,1,1,1,1\n", "o,b,1,1,1,1,1,1,1,1,1,1\n"]),
    read_requests: ("timestamp,function\n", ["1,f\n", "2,g\n"]),
}
BAD = [
    (read_invocations, "\n", "blank line"),
    (read_invocations, "o,a,h,http,1\n", "wrong number of columns: 5, must be 1444"),
    (read_invocations, invocations(""), "empty name: function"),
    (read_invocations, invocations("h", "cron"), "unknown trigger: 'cron'"),
    (read_invocations, invocations("h", counts=["-1"] + ["0"] * 1_439), "minute 1 is '-1'"),
    (read_invocations, invocations("h", counts=["0"] * 1_439 + ["1.5"]), "minute 1440 is '1.5'"),
    (read_invocations, invocations("h", counts=["²"] + ["0"] * 1_439), "minute 1 is"),
    (read_invocations, invocations("f"), "function occurred before: f"),
    (read_durations, "o,a,h,nan,1,1,1,1,1,1,1,1,1,1\n", "Average is 'nan'"),
    (read_durations, "o,a,h,1,1,1,1,1,1,1,1,1,1,-2\n", "percentile 100 is '-2'"),
    (read_durations, "o,a,h,1,1.0,1,1,1,1,1,1,1,1,1\n", "Count is '1.0'"),
    (read_memory, "o,a,1,1,1,1,1,1,1,1,1,1\n", "application occurred before: a"),
    (read_memory, "o,c,1,inf,1,1,1,1,1,1,1,1\n", "AverageAllocatedMb is 'inf'"),
    (read_requests, "soon,h\n", "not a timestamp: 'soon'"),
    (read_requests, "nan,h\n", "not a timestamp: 'nan'"),
    (read_requests, "0,h\n", "timestamp before the last one: '0'"),
    (read_requests, "2026-11-23T00:00:00,h\n", "timestamp without an offset"),
    (read_requests, "3, \n", "empty name: function"),
    (read_requests, '3,"h"x\n', "not CSV"),
    (read_requests, "3,h\ufffd\n", "not UTF-8"),
    (read_requests, "3,h\0\n", "not UTF-8 text"),
    (read_requests, '3,"h\n', "not CSV: unexpected end of data"),
    (read_requests, "3," + "h" * 200_000 + "\n", "not CSV: field larger than field limit"),
    (read_requests, "1_5,h\n", "not a timestamp: '1_5'"),
    (read_requests, "\u0662,h\n", "not a timestamp"),
    (read_requests, " 2,h\n", "not a timestamp: ' 2'"),
    (read_requests, "1e999,h\n", "not a timestamp: '1e999'"),
    (read_requests, "0x10,h\n", "not a timestamp: '0x10'"),
    (read_requests, "2026-11-23T00:00:00Z,h\n", "dates and numbers of seconds mixed"),
    (read_requests, "2,h,\n", "wrong number of columns: 3, must be 2"),
    (read_invocations, invocations("h", counts=["9" * 30] + ["0"] * 1_439), "too large a number: minute 1"),
    (read_invocations, invocations("h", counts=["9" * 5_000] + ["0"] * 1_439), "too large a number: minute 1"),
    (read_invocations, invocations("h", counts=[""] + ["0"] * 1_439), "minute 1 is ''"),
    (read_durations, "o,a,h,1_0,1,1,1,1,1,1,1,1,1,1\n", "Average is '1_0'"),
]


@pytest.mark.parametrize(("read", "row", "reason"), BAD)
def test_a_faulty_row_stops_or_is_counted(tmp_path, read, row, reason):
    header, good = GOOD[read]
    path = tmp_path / "trace.csv"
    path.write_text(header + good[0] + row + good[1], encoding="utf-8")
    rows = read(path)
    next(rows)
    with pytest.raises(TraceError, match="trace.csv, line 3: ") as error:
        next(rows)
    assert reason in error.value.reason and (error.value.line, error.value.file) == (3, str(path))
    reader = read(path, on_error="skip")
    assert len(list(reader)) == 2
    assert reader.skipped.count == sum(reader.skipped.reasons.values()) == 1
    assert reader.skipped.first[0].line == 3 and reason in reader.skipped.first[0].reason


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"timestamp,function\n1,f\n2,\xff\n")
    with pytest.raises(TraceError, match="line 3: not UTF-8"):
        list(read_requests(path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: is empty"),
        ("time,function\n", "column 1 is called 'time', must be 'timestamp'"),
        ("timestamp\n", "has 1 columns, must have 2"),
        ("1,f\n", "column 1 is called '1'"),
    ],
)
def test_a_wrong_header_is_never_skipped(text, complaint):
    with pytest.raises(TraceError, match=complaint):
        list(read_requests(io.StringIO(text), on_error="skip"))


def test_a_file_by_a_tool_that_marks_the_byte_order(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes("timestamp,function\r\n1,f\r\n".encode("utf-8-sig"))
    assert [row.function for row in read_requests(path)] == ["f"]


def test_quoted_cells_and_ends_of_lines():
    rows = read_requests(io.StringIO('timestamp,function\r\n1,"f, with ""marks"""\r\n2,g'))
    assert [row.function for row in rows] == ['f, with "marks"', "g"]
    with pytest.raises(TraceError, match="line 3: blank line"):
        list(read_requests(io.StringIO("timestamp,function\n1,f\n\n")))


def test_a_mark_that_is_never_closed_spoils_one_row():
    reader = read_requests(io.StringIO('timestamp,function\n1,f\n2,"g\n3,h\n4,k\n'), on_error="skip")
    assert [row.function for row in reader] == ["f", "h", "k"]
    assert reader.skipped.count == 1 and reader.skipped.first[0].line == 3


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_compressed_files_and_files_that_break_off(tmp_path, on_error):
    path = tmp_path / "trace.csv.gz"
    whole = gzip.compress("timestamp,function\n".encode() + b"".join(b"%d,f%d\n" % (n, n * n) for n in range(9_000)))
    path.write_bytes(whole)
    assert sum(1 for _ in read_requests(path, on_error=on_error)) == 9_000
    for broken in (whole[: len(whole) // 2], whole[:-4], whole[:-8] + b"\0" * 8, b"timestamp,function\n1,f\n", whole[:12] + b"junk"):
        path.write_bytes(broken)
        with pytest.raises(TraceError, match=r"trace.csv.gz, line \d+: the file breaks off"):
            list(read_requests(path, on_error=on_error))


def test_an_open_file_that_cannot_be_decoded(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(b"timestamp,function\n1,f\n2,\xff\n")
    with open(path, encoding="utf-8") as file, pytest.raises(TraceError, match="trace.csv, line .*: cannot be decoded"):
        list(read_requests(file, on_error="skip"))
    with open(path, "rb") as file, pytest.raises(ValueError, match="source=.*must be a path or an open text file"):
        read_requests(file)


@pytest.mark.parametrize("source", [3, None, b"trace.csv", io.BytesIO(b""), ["timestamp,function"]])
def test_a_source_that_is_none(source):
    with pytest.raises(ValueError, match="source=.*: must be a path or an open text file"):
        read_requests(source)


@settings(max_examples=100, derandomize=True)
@given(st.lists(st.sampled_from(["good", "blank", "short", "late", "nameless", "word"]), max_size=40))
def test_every_row_is_read_or_counted(kinds):
    lines, now = [], 10
    for kind in kinds:
        now += 1
        lines.append({
            "good": f"{now},f", "blank": "", "short": f"{now}", "late": "1,f", "nameless": f"{now},", "word": "x,f",
        }[kind])  # fmt: skip
    reader = read_requests(io.StringIO("timestamp,function\n10,f\n" + "".join(line + "\n" for line in lines)), on_error="skip")
    assert len(list(reader)) == 1 + kinds.count("good")
    assert reader.skipped.count == len(kinds) - kinds.count("good")
    wrong = [place for place, kind in enumerate(kinds, 3) if kind != "good"]
    assert [error.line for error in reader.skipped.first] == wrong[: traces.KEPT]


def test_reading_streams():
    class Endless(io.TextIOBase):
        """A million rows that are never all there."""

        def __init__(self):
            self.lines = itertools.chain(["timestamp,function\n"], (f"{second},f\n" for second in range(1_000_000)))

        def __iter__(self):
            return self.lines

        def readable(self):
            return True

    rows = read_requests(Endless())
    next(rows)
    tracemalloc.start()
    assert sum(1 for _ in itertools.islice(rows, 100_000)) == 100_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_arrivals_of_minutes():
    times = arrivals_of_minutes([3, 0, 2], 1)
    assert np.all(np.diff(times) >= 0) and np.bincount((times // 60).astype(int)).tolist() == [3, 0, 2]
    assert np.array_equal(times, arrivals_of_minutes([3, 0, 2], 1))
    assert arrivals_of_minutes([], 1).size == 0
    with pytest.raises(ValueError, match=r"per_minute\[1\]=-1"):
        arrivals_of_minutes([1, -1], 1)
    with pytest.raises(ValueError, match=r"per_minute\[0\]=0.5"):
        arrivals_of_minutes([0.5], 1)
    with pytest.raises(ValueError, match="per_minute: 1e\\+15 arrivals in all, must be at most 1,000,000,000"):
        arrivals_of_minutes([1e15], 1)
    with pytest.raises(ValueError, match="on_error='ignore'"):
        read_requests(io.StringIO(), on_error="ignore")
