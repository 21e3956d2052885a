"""Windows: Flink's own tests of its assigners and of merging; watermarks, late data and checkpoints."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.durable.windows import Session, Sliding, Tumbling, Windows, merge

# apache/flink (Apache License 2.0), flink-streaming-java/src/test/java/org/apache/flink/streaming/runtime/operators/
# windowing/TumblingEventTimeWindowsTest.java, commit 067bc18: (size, offset), event time, window.
TUMBLING = [
    ((5000, 0), 0, (0, 5000)), ((5000, 0), 4999, (0, 5000)), ((5000, 0), 5000, (5000, 10000)),
    ((5000, 100), 100, (100, 5100)), ((5000, 100), 5099, (100, 5100)), ((5000, 100), 5100, (5100, 10100)),
    ((5000, -100), 0, (-100, 4900)), ((5000, -100), 4899, (-100, 4900)), ((5000, -100), 4900, (4900, 9900)),
    ((5000, 1000), 1000, (1000, 6000)), ((5000, 1000), 5999, (1000, 6000)), ((5000, 1000), 6000, (6000, 11000)),
]  # fmt: skip
# SlidingEventTimeWindowsTest.java, commit 162894c: (size, slide, offset), event time, starts of the windows.
SLIDING = [
    ((5000, 1000, 0), 0, [-4000, -3000, -2000, -1000, 0]), ((5000, 1000, 0), 4999, [0, 1000, 2000, 3000, 4000]),
    ((5000, 1000, 0), 5000, [1000, 2000, 3000, 4000, 5000]), ((5000, 1000, 100), 100, [-3900, -2900, -1900, -900, 100]),
    ((5000, 1000, 100), 5099, [100, 1100, 2100, 3100, 4100]), ((5000, 1000, 100), 5100, [1100, 2100, 3100, 4100, 5100]),
    ((5000, 1000, -100), 0, [-4100, -3100, -2100, -1100, -100]), ((5000, 1000, -100), 4899, [-100, 900, 1900, 2900, 3900]),
    ((5000, 1000, -100), 4900, [900, 1900, 2900, 3900, 4900]), ((5000, 1000, 500), 100, [-4500, -3500, -2500, -1500, -500]),
    ((5000, 1000, 500), 5499, [500, 1500, 2500, 3500, 4500]), ((5000, 1000, 500), 5100, [500, 1500, 2500, 3500, 4500]),
]  # fmt: skip
# MergingWindowSetTest.java, commit 067bc18: windows added one after another, and the window that each becomes part of.
MERGING = [
    ("testIncrementalMerging", [((0, 4), (0, 4)), ((0, 4), (0, 4)), ((3, 5), (0, 5)), ((4, 6), (0, 6)), ((1, 4), (0, 6)), ((0, 4), (0, 6)),
                                ((3, 5), (0, 6)), ((4, 6), (0, 6)), ((11, 14), (11, 14)), ((10, 13), (10, 14)), ((12, 15), (10, 15)),
                                ((11, 14), (10, 15))]),
    ("testLateMerging", [((0, 3), (0, 3)), ((5, 8), (5, 8)), ((10, 13), (10, 13)), ((8, 10), (5, 13)), ((5, 8), (5, 13)), ((8, 10), (5, 13)),
                         ((10, 13), (5, 13)), ((3, 5), (0, 13))]),
    ("testMergeLargeWindowCoveringSingleWindow", [((1, 2), (1, 2)), ((0, 3), (0, 3))]),
]  # fmt: skip


@pytest.mark.parametrize(("options", "time", "window"), TUMBLING)
def test_tumbling_windows_are_flinks(options, time, window):
    assert Tumbling(*options).assign(time) == [window]


@pytest.mark.parametrize(("options", "time", "starts"), SLIDING)
def test_sliding_windows_are_flinks(options, time, starts):
    assert sorted(Sliding(*options).assign(time)) == [(start, start + options[0]) for start in starts]


@pytest.mark.parametrize(("name", "steps"), MERGING, ids=[name for name, _ in MERGING])
def test_sessions_merge_as_flinks(name, steps):
    held = []
    for added, wanted in steps:
        held = merge([*held, added])
        assert next(w for w in held if w[0] <= added[0] and added[1] <= w[1]) == wanted


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Tumbling(-1), "abs\\(offset\\) < size"), (lambda: Tumbling(10, 20), "abs\\(offset\\) < size"),
    (lambda: Tumbling(10, -11), "abs\\(offset\\) < size"), (lambda: Sliding(-2, 1), "abs\\(offset\\) < slide and size > 0"),
    (lambda: Sliding(2, -1), "abs\\(offset\\) < slide and size > 0"), (lambda: Sliding(-20, 10, -1), "abs\\(offset\\) < slide and size > 0"),
    (lambda: Sliding(20, 10, -11), "abs\\(offset\\) < slide and size > 0"), (lambda: Sliding(20, 10, 11), "abs\\(offset\\) < slide and size > 0"),
    (lambda: Session(0), "gap=0"), (lambda: Windows(Tumbling(10), -1), "delay=-1"), (lambda: Windows(Tumbling(10), 1, -1), "lateness=-1"),
])  # fmt: skip
def test_what_flink_refuses_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def fired(results):
    return [(result.key, result.start, result.end, result.count, result.firing) for result in results]


def test_a_window_fires_when_the_watermark_reaches_its_last_millisecond():
    windows = Windows(Tumbling(10), delay=5)
    assert windows.add("a", 3, 1.0) == []
    assert windows.add("a", 14, 1.0) == [] and windows.watermark == 8
    assert fired(windows.add("a", 15, 1.0)) == [("a", 0, 10, 1, 1)] and windows.watermark == 9


def test_late_events_are_dropped_and_counted_or_correct_the_window():
    strict, patient = Windows(Tumbling(10), delay=0), Windows(Tumbling(10), delay=0, lateness=20)
    for windows in (strict, patient):
        windows.add("a", 3, 1.0)
        assert fired(windows.add("a", 11, 1.0)) == [("a", 0, 10, 1, 1)]
    assert strict.add("a", 4, 5.0) == [] and strict.late == 1
    again = patient.add("a", 4, 5.0)
    assert fired(again) == [("a", 0, 10, 2, 2)] and again[0].mean == 3.0 and patient.late == 0
    patient.add("a", 31, 1.0)
    assert patient.add("a", 5, 1.0) == [] and patient.late == 1


def test_a_late_event_of_a_session_that_is_open_still_joins_it():
    windows = Windows(Session(10), delay=0)
    windows.add("a", 0, 1.0)
    windows.add("a", 9, 1.0)
    assert windows.add("a", 5, 1.0) == [] and windows.late == 0
    assert fired(windows.close()) == [("a", 0, 19, 3, 1)]


def test_the_watermark_never_goes_back():
    windows = Windows(Tumbling(10), delay=0)
    windows.add("a", 50, 1.0)
    assert windows.advance(10) == [] and windows.watermark == 49


EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.integers(-5, 5)), max_size=60)
OPERATORS = st.sampled_from([Tumbling(20), Tumbling(20, 7), Sliding(30, 10), Session(15)])


@settings(max_examples=120, deadline=None)
@given(EVENTS, OPERATORS, st.integers(0, 40), st.integers(0, 60))
def test_a_restart_from_a_checkpoint_anywhere_changes_nothing(events, assigner, delay, cut):
    whole = Windows(assigner, delay)
    wanted = [result for event in events for result in whole.add(*event)] + whole.close()
    first, second = Windows(assigner, delay), Windows(assigner, delay)
    found = [result for event in events[:cut] for result in first.add(*event)]
    second.restore(json.loads(json.dumps(first.state())))
    found += [result for event in events[cut:] for result in second.add(*event)] + second.close()
    assert found == wanted and second.late == whole.late


@settings(max_examples=120, deadline=None)
@given(EVENTS, OPERATORS)
def test_with_enough_delay_the_order_of_arrival_does_not_matter(events, assigner):
    def all_of(arrived):
        windows = Windows(assigner, delay=1_000)
        results = [result for event in arrived for result in windows.add(*event)] + windows.close()
        assert windows.late == 0
        return {(r.key, r.start, r.end): (r.count, r.low, r.high, pytest.approx(r.mean, abs=1e-5)) for r in results}

    assert all_of(events) == all_of(sorted(events, key=lambda event: event[1]))


@settings(max_examples=120, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=40), st.integers(1, 30))
def test_sessions_against_their_definition(times, gap):
    windows = Windows(Session(gap), delay=1_000)
    for time in times:
        windows.add("a", time, 0.0)
    found = sorted((r.start, r.end, r.count) for r in windows.close())
    wanted = []
    for time in sorted(times):
        if wanted and time - last <= gap:
            wanted[-1][1:] = [time + gap, wanted[-1][2] + 1]
        else:
            wanted.append([time, time + gap, 1])
        last = time
    assert found == [tuple(w) for w in wanted]


@given(st.integers(-10_000, 10_000), st.integers(1, 500), st.integers(1, 500))
def test_every_event_is_in_as_many_sliding_windows_as_cover_it(time, size, slide):
    found = Sliding(size, slide).assign(time)
    assert all(start <= time < end and start % slide == 0 for start, end in found)
    assert len(found) == len(set(found)) == len([s for s in range(time - size + 1, time + 1) if s % slide == 0])
