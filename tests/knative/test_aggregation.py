"""Averages and maxima over windows, held to Knative's tables.

Source: knative/serving, Apache License 2.0, (c) The Knative Authors: ``pkg/autoscaler/aggregation/bucketing_test.go``,
``max/window_test.go`` (commit 1027d328) and ``max/timewindow_test.go`` (commit 18ea7bd6), written out as data.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.knative.aggregation import MaxTimeWindow, MaxWindow, WeightedAverage, WindowAverage, round_down, smoothing

NOW = 1_000.0


@pytest.mark.parametrize(("granularity", "records", "wanted"), [
    (1, [(0, 1), (0.1, 10), (1, 1), (3, 1)], {0: 11, 1: 1, 3: 1}),
    (5, [(0, 1), (3, 11), (6, 1)], {0: 12, 5: 1}),
    (1, [], {}),
])  # fmt: skip
def test_buckets(granularity, records, wanted):
    """TestTimedFloat64BucketsSimple."""
    buckets = WindowAverage(120, granularity)
    assert buckets.empty(NOW)
    for at, value in records:
        buckets.record(NOW + at, value)
    found = {place * granularity - NOW: value for place, value in buckets.values(NOW + 60).items() if value > 0}
    assert found == wanted


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [0, 3, 2, 1, 4]])
def test_many_records_in_any_order(order):
    """TestTimedFloat64BucketsManyReps and ...WithNonMonotonicalOrder."""
    buckets = WindowAverage(60)
    for step, at in enumerate(order):
        for more in range(5):
            buckets.record(NOW + at, step + more)
    assert sum(buckets.values(NOW + 4).values()) == 100


def test_window_average():
    """TestTimedFloat64BucketsWindowAverage, step by step."""
    now, buckets = NOW, WindowAverage(5)
    buckets.record(now, 1)
    assert buckets.average(now) == 1
    for at in range(1, 5):
        buckets.record(now + at, at + 1)
    assert buckets.average(now + 4) == 15 / 5 == buckets.average(now + 3.6)
    assert buckets.average(now + 6) == (15 - 1 - 2) / (5 - 2)
    assert buckets.average(now + 10) == 0
    buckets.record(now + 6, 91)
    assert buckets.average(now + 6) == round_down((15 - 1 - 2 + 91) / 5)
    now += 60
    buckets.record(now, 1984)
    assert buckets.average(now) == 1984
    buckets.record(now - 3, 4)
    assert buckets.average(now) == (4 + 1984) / 4
    now += 1
    buckets.record(now, 5)
    assert buckets.average(now) == (4 + 1984 + 5) / 5
    buckets.record(now - 3, 10)
    assert buckets.average(now) == (4 + 10 + 1984 + 5) / 5
    for early in (6, 5):
        buckets.record(now - early, 10)
        assert buckets.average(now) == (4 + 10 + 1984 + 5) / 5
    buckets.record(now + 5, 10)
    assert buckets.average(now + 5) == 10


def test_descending_records():
    """TestDescendingRecord."""
    buckets = WindowAverage(5)
    for at in range(8, -1, -1):
        buckets.record(NOW + at, 5)
    assert buckets.average(NOW + 5) == 5


def test_holes():
    """TestTimedFloat64BucketsHoles."""
    buckets = WindowAverage(5)
    for at in range(5):
        buckets.record(NOW + at, at + 1)
    assert sum(buckets.values(NOW + 4).values()) == 15 and buckets.average(NOW + 4) == 3
    buckets.record(NOW + 8, 2)
    assert sum(buckets.values(NOW + 8).values()) == 7


def test_another_window():
    """TestTimedFloat64BucketsWindowUpdate."""
    buckets = WindowAverage(5)
    for at in range(6):
        buckets.record(NOW + at, at + 1)
    now = NOW + 5
    assert sum(buckets.values(now).values()) == 20 and buckets.average(now) == 4
    buckets.resize(10, now)
    assert (buckets.buckets, buckets.window) == (10, 10)
    assert sum(buckets.values(now).values()) == 20 and buckets.average(now) == 4
    now += 1
    buckets.record(now, 7)
    assert sum(buckets.values(now).values()) == 27 and buckets.average(now) == round_down(27 / 6)
    buckets.resize(4, now)
    assert buckets.buckets == 4 and sum(buckets.values(now).values()) == 22 and buckets.average(now) == 22 / 4


def test_three_second_buckets():
    """TestTimedFloat64BucketsWindowUpdate3sGranularity; its start is a multiple of 3 s."""
    start, buckets = 999.0, WindowAverage(5, 3)
    assert buckets.buckets == 2
    for at, value in enumerate([10, 2, 3, 4, 5, 6, 7]):
        buckets.record(start + at, value)
    assert sum(buckets.values(start + 6).values()) == 22
    buckets.resize(10, start + 6)
    assert buckets.buckets == 4 and sum(buckets.values(start + 6).values()) == 22
    buckets.record(start + 9.3, 42)
    assert sum(buckets.values(start + 9).values()) == 64
    buckets.resize(4, start + 9)
    assert buckets.buckets == 2 and sum(buckets.values(start + 9).values()) == 49


def test_a_new_window_without_data_is_as_new():
    """TestTimedFloat64BucketsWindowUpdateNoOp: the first write is forgotten."""
    buckets = WindowAverage(5)
    buckets.record(NOW - 60, 19.82)
    buckets.resize(10, NOW)
    buckets.record(NOW, 3)
    assert buckets.average(NOW) == 3


@pytest.mark.parametrize(("digits", "value", "wanted"), [(6, 3.6e-17, 0), (3, 0.0004, 0), (3, 1.2345, 1.234), (4, 1.2345, 1.2345), (6, 12345, 12345)])
def test_rounding(digits, value, wanted):
    """TestRoundToNDigits."""
    assert round_down(value, digits) == wanted


@pytest.mark.parametrize(("buckets", "wanted"), [(100, 0.2), (60, 0.2), (40, 0.20567), (6, 0.78456)])
def test_smoothing(buckets, wanted):
    """TestComputeDecayMultiplier; the source compares within 0.9999, this within 1e-4."""
    assert smoothing(buckets) == pytest.approx(wanted, abs=1e-4)


def test_weighted_average():
    """TestWeightedFloat64Buckets...: "computed a mano"."""
    buckets = WeightedAverage(5)
    for at in range(6):
        buckets.record(NOW + at, at + 1)
    assert sum(buckets.values(NOW + 5).values()) == 20
    assert round(buckets.average(NOW + 5), 3) == 5.812
    buckets.resize(10, NOW + 5)
    assert buckets.buckets == 10


def test_weighted_average_of_a_published_example():
    """Zeng Xu, "Dive into Knative Pod Autoscaler" (2025-04-09): the output of Knative's code for ten seconds of data."""
    stable, panic = WeightedAverage(10), WeightedAverage(3)
    for at, load in enumerate([1, 3, 5, 4, 6, 7, 2, 8, 10, 20], 1):
        stable.record(NOW + at, load)
        panic.record(NOW + at, load)
    assert stable.average(NOW + 10) == pytest.approx(15.430728028666296)
    assert panic.average(NOW + 10) == pytest.approx(19.530732247258655)


MAXIMA = [
    ([1], None, [1]), ([1, 2], None, [1, 2]), ([2, 1], None, [2, 2]), ([1, 2, 1], None, [1, 2, 2]),
    ([5, 6, 5, 5, 5, 5, 5], None, [5, 6, 6, 6, 6, 6, 5]), ([6, 5, 2, 1], [0, 1, 2, 6], [6, 6, 6, 2]),
    ([5, 6, 5, 7, 5, 5, 1], None, [5, 6, 6, 7, 7, 7, 7]), ([5, 8, 5, 7, 5, 5], None, [5, 8, 8, 8, 8, 8]),
    ([5, 8, 5, 7, 5, 5, 1], None, [5, 8, 8, 8, 8, 8, 7]), ([5, 8, 5, 7, 5, 5, 1, 4, 4, 4], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5]),
    ([5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4]),
    ([5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9]),
    ([5, 8, 5, 7, 5, 5, 1, 4, 4, 4, 4, 9, 3, 4, 2, 1, 0], None, [5, 8, 8, 8, 8, 8, 7, 7, 5, 5, 4, 9, 9, 9, 9, 9, 4]),
    ([1, 2, 3, 4, 5, 6, 7], [1] * 7, [1, 2, 3, 4, 5, 6, 7]), ([7, 6, 5, 4, 3, 2, 1], [1] * 7, [7] * 7),
]  # fmt: skip


@pytest.mark.parametrize(("values", "indices", "wanted"), MAXIMA)
def test_running_maximum(values, indices, wanted):
    """TestWindowMax, a window of five."""
    window, found = MaxWindow(5), []
    for index, value in zip(indices or range(len(values)), values):
        window.record(index, value)
        found.append(window.current())
    assert found == wanted


@pytest.mark.parametrize(("records", "wanted"), [([(0, 5)], 5), ([(0, 6), (0.5, 5)], 6), ([(0, 5), (1, 8)], 8), ([(0, 5), (6, 4)], 4)])
def test_running_maximum_in_time(records, wanted):
    """TestTimedWindowMax."""
    window = MaxTimeWindow(5, 1)
    for at, value in records:
        window.record(NOW + at, value)
    assert window.current() == wanted


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 12))
def test_the_running_maximum_is_the_maximum(values, length):
    window = MaxWindow(length)
    for index, value in enumerate(values):
        window.record(index, value)
        assert window.current() == max(values[max(0, index - length + 1) : index + 1])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=90), st.integers(1, 30))
def test_without_gaps_the_average_is_the_mean_of_the_last_buckets(values, window):
    buckets = WindowAverage(window)
    for at, value in enumerate(values):
        buckets.record(float(at), value)
    kept = values[-window:]
    assert buckets.average(len(values) - 1.0) == pytest.approx(sum(kept) / len(kept), abs=2e-6)


@pytest.mark.parametrize("make", [lambda: WindowAverage(0.5), lambda: WindowAverage(5, 0), lambda: MaxWindow(0), lambda: MaxTimeWindow(1, 2), lambda: smoothing(0)])
def test_bad_windows(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_nothing_recorded():
    with pytest.raises(ValueError):
        MaxWindow(3).current()
    assert WindowAverage(5).average(NOW) == 0 == WeightedAverage(5).average(NOW) and not math.isnan(WindowAverage(5).average(0))
