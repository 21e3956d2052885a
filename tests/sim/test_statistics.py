"""Intervals that hold as often as they say; corrections against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from beyondlab import sim
from beyondlab.sim import (
    Interval,
    batch_means,
    batch_percentile,
    correct_omission,
    mean_interval,
    percentile_interval,
    warm_up_length,
    without_warm_up,
)


def test_interval():
    interval = Interval(3.0, 1.0, 5.0, 0.95)
    assert 1.0 in interval and 5.0 in interval and 5.1 not in interval and interval.half_width == 2.0


@pytest.mark.parametrize(("percentile", "count"), [(50, 30), (90, 200), (99, 1_000)])
@pytest.mark.parametrize("shape", ["exponential", "log-normal"])
def test_percentile_intervals_hold_for_any_distribution(shape, percentile, count):
    law = stats.expon() if shape == "exponential" else stats.lognorm(2.0)
    samples = law.rvs((2_000, count), random_state=percentile)
    held = np.mean([law.ppf(percentile / 100) in percentile_interval(row, percentile) for row in samples])
    assert 0.945 - 0.01 < held < 0.995


def test_a_percentile_interval_by_hand():
    """Ten samples, the median: between the 2nd and the 9th lies 97.85 % (tables of the sign test)."""
    interval = percentile_interval(np.arange(1.0, 11.0)[::-1], 50)
    assert (interval.low, interval.estimate, interval.high) == (2.0, 5.5, 9.0)
    assert stats.binom.cdf(8, 10, 0.5) - stats.binom.cdf(1, 10, 0.5) == pytest.approx(0.97852, abs=1e-5)


def test_the_mean_interval_is_students():
    samples = np.random.default_rng(1).normal(size=25)
    low, high = stats.t.interval(0.9, 24, samples.mean(), stats.sem(samples))
    interval = mean_interval(samples, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((low, high))


@pytest.fixture(scope="module")
def waits():
    """Response times of 200 runs of an M/M/1 queue at 80 %, the beginnings left out. Exact: mean 5, p90 11.51."""
    runs = []
    for seed in range(200):
        t, s = sim.poisson(0.8, count=44_000, seed=seed), sim.exponential(1.0, 44_000, 1_000 + seed)
        runs.append(sim.queue(t, s).response[4_000:])
    return runs


def test_correlation_ruins_students_interval_and_batches_mend_it(waits):
    assert np.mean([5.0 in mean_interval(run) for run in waits]) < 0.3
    assert 0.88 < np.mean([5.0 in batch_means(run) for run in waits]) <= 0.99


def test_sectioning_holds_for_a_percentile(waits):
    exact = sim.response_percentile(0.8, 1.0, 90)
    assert np.mean([exact in percentile_interval(run, 90) for run in waits]) < 0.4
    assert 0.86 < np.mean([exact in batch_percentile(run, 90) for run in waits]) <= 0.99


def test_a_high_percentile_needs_long_batches():
    """Percentiles of short batches are too low; their distance from the estimate counts as spread, and still: 74 %."""
    exact = sim.response_percentile(0.8, 1.0, 99)
    few = many = 0
    for seed in range(100):
        t, s = sim.poisson(0.8, count=44_000, seed=seed), sim.exponential(1.0, 44_000, 9_000 + seed)
        run = sim.queue(t, s).response[4_000:]
        few += exact in batch_percentile(run, 99)
        many += exact in batch_percentile(run, 99, batches=30)
    assert 60 <= many < 82 <= few <= 97


def test_the_spread_of_a_percentile_is_around_the_estimate():
    samples = np.array([0.0, 0.0, 0.0, 8.0, 4.0, 4.0])
    interval = batch_percentile(samples, 50, batches=3, confidence=0.9)
    found, estimate = np.array([0.0, 4.0, 4.0]), 2.0
    spread = math.sqrt(((found - estimate) ** 2).sum() / 2)
    assert interval.estimate == estimate
    assert interval.half_width == pytest.approx(stats.t.ppf(0.95, 2) * spread / math.sqrt(3))


def test_batches_leave_out_the_first_samples():
    samples = np.concatenate([[1e9], np.tile([1.0, 3.0], 3)])
    interval = batch_means(samples, batches=3)
    assert (interval.estimate, interval.half_width) == (2.0, 0.0)
    assert batch_percentile(samples, 50, batches=3).estimate == 2.0


def test_warm_up_is_found():
    rng = np.random.default_rng(2)
    samples = rng.normal(size=2_000) + np.concatenate([np.linspace(20, 0, 300), np.zeros(1_700)])
    length = warm_up_length(samples)
    assert 200 <= length <= 400 and length % 5 == 0
    assert np.array_equal(without_warm_up(samples), samples[length:])
    assert warm_up_length(rng.normal(size=2_000)) < 300
    assert warm_up_length(np.linspace(0, 1, 1_000)) == 500, "never at rest: the cut is at the half"


def test_warm_up_against_its_definition():
    samples = np.random.default_rng(3).exponential(size=400) + 10 * np.exp(-np.arange(400) / 20)
    means = samples.reshape(-1, 5).mean(axis=1)
    errors = [means[cut:].var() / (means.size - cut) for cut in range(means.size // 2 + 1)]
    assert warm_up_length(samples) == 5 * int(np.argmin(errors))


@pytest.mark.parametrize("first", [1e3, 1e9, 1e12, -1e12])
def test_a_huge_first_value_costs_no_digits(first):
    samples = np.random.default_rng(4).normal(size=2_000)
    samples[0] = first
    assert warm_up_length(samples) == 5


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 7, 1e6 + 0.1])
def test_a_constant_needs_no_warm_up(value):
    assert warm_up_length(np.full(1_003, value)) == 0


def by_definition(latencies, interval):
    """HdrHistogram, recordValueWithExpectedInterval, for each value."""
    recorded = list(latencies)
    for value in latencies:
        missing = value - interval
        while missing >= interval:
            recorded.append(missing)
            missing -= interval
    return recorded


@settings(max_examples=200, derandomize=True)
@given(st.lists(st.integers(0, 5_000), max_size=30), st.integers(1, 400))
def test_correction_against_its_definition(latencies, interval):
    corrected = correct_omission(np.array(latencies, float), interval)
    assert sorted(corrected) == sorted(by_definition(latencies, interval))
    assert corrected[: len(latencies)].tolist() == latencies


def test_correction_restores_what_a_stall_hid():
    """Ten seconds of one answer a 10 ms, then a stall of 10 s: half of all the time is in the stall."""
    careless = np.array([1.0] * 1_000 + [10_000.0])
    corrected = correct_omission(careless, 10.0)
    assert corrected.size == 2_000
    assert np.percentile(careless, 99) == 1.0 and np.percentile(corrected, 75) == pytest.approx(5_000, rel=0.01)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: percentile_interval([1.0] * 10, 99), "10 are too few for an interval of p99"),
        (lambda: percentile_interval([1.0] * 10, 100), "percentile=100: must be between 0 and 100"),
        (lambda: percentile_interval([], 50), "at least 1 numbers, got 0"),
        (lambda: mean_interval([1.0]), "at least 2 numbers, got 1"),
        (lambda: mean_interval([1.0, math.nan]), r"samples\[1\]=nan"),
        (lambda: mean_interval([1.0, -1e308]), r"samples\[1\]=-1e\+308: must be finite, and at most 1e\+140"),
        (lambda: warm_up_length([math.inf] * 20), r"samples\[0\]=inf"),
        (lambda: percentile_interval([1.0] * 99, "50"), "percentile='50'"),
        (lambda: mean_interval([1.0, 2.0], confidence=1.0), "confidence=1.0"),
        (lambda: batch_means([1.0] * 10, batches=11), "at least 11 numbers, got 10"),
        (lambda: batch_means([1.0] * 10, batches=1), "batches=1"),
        (lambda: warm_up_length([1.0] * 19), "at least 20 numbers, got 19"),
        (lambda: correct_omission([1.0], 0.0), "expected_interval=0.0"),
        (lambda: correct_omission([-1.0], 1.0), r"latencies\[0\]=-1.0"),
        (lambda: correct_omission([1.0, 1e10], 1.0), r"expected_interval=1.0: must be larger, 1e\+10 latencies"),
        (lambda: correct_omission([1e300], 1e-300), "expected_interval=1e-300: must be larger, inf latencies"),
        (lambda: batch_percentile([1.0] * 20, 0), "percentile=0: must be between 0 and 100"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
