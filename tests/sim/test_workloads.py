"""The generated workload against every published percentage, and against its own promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from beyondlab.sim import workloads
from beyondlab.sim.workloads import DAY, workload

APPS = 4_000
# Written out again from M. Shahrad et al., USENIX ATC 2020, and not taken from the module that is tested.
FUNCTIONS_PER_APP = [(1, 1, 0.54), (2, 2, 0.16), (3, 3, 0.10), (4, 5, 0.08), (6, 10, 0.07), (11, 100, 0.0496)]
TRIGGERS = {
    "http": (0.55, 0.36), "queue": (0.152, 0.335), "event": (0.022, 0.247), "orchestration": (0.07, 0.02),
    "timer": (0.156, 0.02), "others": (0.05, 0.01),
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return workload(APPS, 1)


def test_functions_of_an_application(made):
    counts = np.bincount(made.app)
    assert counts.size == made.apps == APPS and np.all(np.diff(made.app) >= 0)
    assert np.mean(counts == 1) == pytest.approx(0.54, abs=0.001)
    assert np.mean(counts <= 10) == pytest.approx(0.95, abs=0.001)
    assert np.mean(counts > 100) == pytest.approx(0.0004, abs=0.0003)
    for least, most, share in FUNCTIONS_PER_APP:
        assert np.mean((counts >= least) & (counts <= most)) == pytest.approx(share, abs=0.001)


def test_rates_of_applications(made):
    rates = np.sort(made.app_rate)[::-1]
    assert np.mean(rates <= 1 / 3_600) == pytest.approx(0.45, abs=0.002)
    assert np.mean(rates <= 1 / 60) == pytest.approx(0.814, abs=0.002)
    assert rates[: round(0.186 * APPS)].sum() / rates.sum() == pytest.approx(0.996, abs=0.001)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_triggers_by_functions_and_by_invocations(made, trigger):
    functions, invocations = TRIGGERS[trigger]
    here = made.trigger == trigger
    assert here.mean() == pytest.approx(functions, abs=0.003)
    assert made.rate[here].sum() / made.rate.sum() == pytest.approx(invocations, abs=0.015)


def test_execution_times_are_log_normal(made):
    logs = np.log(made.execution_seconds)
    assert logs.mean() == pytest.approx(-0.38, abs=0.05) and logs.std() == pytest.approx(2.36, abs=0.05)
    assert stats.kstest(logs[:2_000], "norm", (-0.38, 2.36)).pvalue > 0.01


def test_memory_is_burr():
    drawn = workloads.memory_mb(20_000, 2)
    law = stats.burr12(11.652, 0.221, scale=107.083)
    assert stats.kstest(drawn, law.cdf).pvalue > 0.01
    for percentile in (10, 50, 90, 99):
        assert np.percentile(drawn, percentile) == pytest.approx(law.ppf(percentile / 100), rel=0.04)


def test_memory_belongs_to_the_application(made):
    assert all(np.unique(made.memory_mb[made.app == app]).size == 1 for app in range(50))


def measured_cv(made, app):
    """CV of the inter-arrival times of an application, from a day to two weeks; None if it has under 100."""
    rate = made.app_rate[app]
    horizon = min(14 * DAY, max(DAY, 1_500 / rate))
    if rate * horizon < 100:
        return None
    gaps = np.diff(np.sort(np.concatenate([made.arrivals(f, horizon) for f in np.flatnonzero(made.app == app)])))
    return gaps.std() / gaps.mean() if gaps.size > 50 else None


def test_bursty_applications():
    made = workload(1_000, 3)
    found = [cv for app in range(made.apps) if (cv := measured_cv(made, app)) is not None]
    assert len(found) > 550
    assert np.mean(np.array(found) > 1) == pytest.approx(0.40, abs=0.05)


def test_a_day_of_arrivals_has_the_published_shares():
    """Not the rates, but what is called in a day. Of 400 applications, one alone makes some 3 % of the invocations."""
    made = workload(400, 8)
    calls = np.array([sum(part.size for part in made.arrival_chunks(f)) for f in range(len(made))])
    for trigger, (_, invocations) in TRIGGERS.items():
        assert calls[made.trigger == trigger].sum() / calls.sum() == pytest.approx(invocations, abs=0.06)
    by_app = np.sort(np.bincount(made.app, calls))[::-1]
    assert by_app[: round(0.186 * 400)].sum() / calls.sum() == pytest.approx(0.996, abs=0.002)
    assert np.mean(by_app <= 24) == pytest.approx(0.45, abs=0.02)
    assert np.mean(by_app <= 1_440) == pytest.approx(0.814, abs=0.02)
    assert calls.sum() == pytest.approx(made.rate.sum() * DAY, rel=0.05)


def one(made, trigger_is_timer, rate):
    """The function of that kind whose rate is nearest."""
    candidates = np.flatnonzero((made.trigger == "timer") == trigger_is_timer)
    return int(candidates[np.argmin(np.abs(np.log(made.rate[candidates] / rate)))])


def test_timers_are_regular(made):
    gaps = np.diff(made.arrivals(one(made, True, 1 / 60), DAY))
    assert gaps.size > 500 and np.ptp(gaps) < 1e-6


def test_counts_cv_and_cycle_of_a_function():
    made = workload(400, 4, daily_swing=0.5)
    busy = [f for f in range(len(made)) if 0.05 < made.rate[f] < 0.2 and 0 < made.cv[f] < 0.8][:6]
    assert busy
    for function in busy:
        times = made.arrivals(function, 4 * DAY)
        assert np.all(np.diff(times) >= 0) and 0 <= times[0] and times[-1] < 4 * DAY
        assert times.size == pytest.approx(made.rate[function] * 4 * DAY, rel=0.03)
        hours = np.bincount((times % DAY // 3_600).astype(int), minlength=24) / times.size * 24
        assert hours[11:13].mean() == pytest.approx(1.5, abs=0.1) and hours[[0, 23]].mean() == pytest.approx(0.5, abs=0.1)


def test_without_a_cycle_the_cv_is_the_one_given():
    made = workload(400, 5, daily_swing=0.0)
    checked = 0
    for function in np.flatnonzero((made.rate > 0.1) & (made.cv > 0) & (made.cv < 2))[:8]:
        gaps = np.diff(made.arrivals(int(function), 4 * DAY))
        assert gaps.std() / gaps.mean() == pytest.approx(made.cv[function], rel=0.1)
        checked += 1
    assert checked == 8


def test_renewal_is_stationary():
    """Counts in a short window, over many functions alike, have the mean rate * window from the first second on."""
    made = workload(400, 6, daily_swing=0.0)
    chosen = np.flatnonzero((made.cv > 1.5) & (made.cv < 6) & (made.rate > 1e-5))
    window = 0.5
    counts = np.array([made.arrivals(int(f), window / made.rate[f]).size for f in chosen])
    assert chosen.size > 150 and counts.mean() == pytest.approx(window, abs=4 * counts.std() / np.sqrt(chosen.size))


def test_chunks_and_streams(made):
    function = one(made, False, 0.05)
    whole = made.arrivals(function, DAY)
    for size in (1, 7, 1_000):
        parts = list(made.arrival_chunks(function, DAY, size))
        assert max(part.size for part in parts) <= size and np.allclose(np.concatenate(parts), whole)
    again = workload(APPS, 1)
    assert np.array_equal(again.arrivals(function, DAY), whole) and np.array_equal(again.rate, made.rate)
    assert np.array_equal(made.service(function, 10), made.service(function, 20)[:10])
    drawn = made.service(function, 50_000)
    assert drawn.mean() == pytest.approx(made.execution_seconds[function], rel=0.02)
    assert not np.array_equal(workload(APPS, 2).rate, made.rate)


@pytest.mark.parametrize("seed", range(25))
def test_the_fewest_applications_that_are_allowed_are_enough(seed):
    assert workload(300, seed).apps == 300


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda w: workload(299, 1), "apps=299: must be an integer, at least 300"),
        (lambda w: workload(300, 1, daily_swing=1.0), "daily_swing=1.0: must be between 0 and 0.9"),
        (lambda w: w.arrivals(len(w)), "function=.*: must be less than the number of functions"),
        (lambda w: w.arrivals(0, 0.0), "horizon=0.0"),
        (lambda w: w.arrivals(0, float("nan")), "horizon=nan"),
        (lambda w: w.arrivals(0, 1e9), "horizon=1000000000.0: must be at most 86,400,000 seconds"),
        (lambda w: w.arrival_chunks(one(w, True, 1 / 60), DAY, -1), "size=-1: must be an integer, at least 1"),
        (lambda w: w.arrival_chunks(one(w, False, 1 / 60), DAY, 0), "size=0: must be an integer, at least 1"),
        (lambda w: w.service(0, -1), "count=-1"),
        (lambda w: w.service(-1, 1), "function=-1"),
        (lambda w: workloads.memory_mb(-1, 1), "count=-1"),
    ],
)
def test_bad_input_is_named(made, call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(made)
