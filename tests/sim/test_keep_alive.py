"""The keep-alive simulator against itself (engines, chunks), an independent slow one, and conservation laws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.sim import COLD, THROTTLED, WARM, KeepAlive, simulate

examples = settings(derandomize=True, deadline=None, max_examples=150)


@dataclass
class Case:
    arrivals: np.ndarray
    service: np.ndarray
    cold_service: np.ndarray
    keep_alive: float
    limit: int | None
    warm_up: float
    horizon: float


@st.composite
def cases(draw: st.DrawFn, most: int = 60) -> Case:
    """Small runs; half of them on a grid of 1/4 s, where arrivals, departures and expiries coincide."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(0, most))
    span, mean = draw(st.sampled_from([1.0, 10.0, 100.0])), draw(st.sampled_from([0.1, 1.0, 5.0, 40.0]))
    arrivals = np.sort(rng.random(count) * span)
    service, cold = rng.exponential(mean, (2, count))
    keep_alive, warm_up = draw(st.floats(0.05, 20.0)), draw(st.sampled_from([0.0, 0.3, 0.7])) * span
    horizon = draw(st.sampled_from([0.0, 0.5, 30.0]))
    if draw(st.booleans()):
        arrivals, service, cold = (np.round(4 * column) / 4 for column in (arrivals, service, cold))
        keep_alive, warm_up = max(0.25, round(4 * keep_alive) / 4), round(4 * warm_up) / 4
    end = max(arrivals[-1] if count else 0.0, warm_up) + horizon
    return Case(arrivals, service, cold, keep_alive, draw(st.none() | st.integers(1, 6)), warm_up, end)


def run(case: Case, engine: str = "numba"):
    return simulate(
        case.arrivals,
        case.service,
        case.keep_alive,
        cold_service=case.cold_service,
        limit=case.limit,
        warm_up=case.warm_up,
        horizon=case.horizon,
        outcomes=True,
        engine=engine,
    )


@dataclass
class Environment:
    busy_from: float
    busy_until: float


def slow(case: Case) -> tuple[list[int], int, float, float]:
    """One object an environment, all looked at for every request; outcomes, peak, busy and idle seconds."""

    def counted(begin: float, end: float) -> float:
        return max(0.0, min(end, case.horizon) - max(begin, case.warm_up))

    environments: list[Environment] = []
    intervals: list[tuple[float, float]] = []
    outcomes, idle, peak = [], 0.0, 0
    for now, warm_seconds, cold_seconds in zip(case.arrivals, case.service, case.cold_service, strict=True):
        in_flight = [one for one in environments if one.busy_until > now]
        usable = [one for one in environments if one.busy_until <= now and now - one.busy_until <= case.keep_alive]
        if case.limit is not None and len(in_flight) >= case.limit:
            outcomes.append(THROTTLED)
            continue
        if usable:
            chosen = max(usable, key=lambda one: one.busy_until)
            idle += counted(chosen.busy_until, now)
            chosen.busy_from, chosen.busy_until = now, now + warm_seconds
            outcomes.append(WARM)
        else:
            chosen = Environment(now, now + cold_seconds)
            environments.append(chosen)
            outcomes.append(COLD)
        intervals.append((chosen.busy_from, chosen.busy_until))
        if now >= case.warm_up:
            peak = max(peak, len(in_flight) + 1)
    idle += sum(counted(one.busy_until, one.busy_until + case.keep_alive) for one in environments)
    busy = sum(counted(*interval) for interval in intervals)
    at_first = sum(begin < case.warm_up < end for begin, end in intervals)
    return outcomes, max(peak, at_first), busy, idle


@examples
@given(cases())
def test_engines_agree_bit_for_bit(case: Case) -> None:
    compiled, reference = run(case, "numba"), run(case, "python")
    assert compiled == reference
    assert compiled.outcome.tolist() == reference.outcome.tolist()


@pytest.mark.parametrize("limit", [None, 60])
@pytest.mark.parametrize("rate", [0.5, 20.0, 400.0])
def test_engines_agree_on_long_runs(rate: float, limit: int | None) -> None:
    """Long enough for several internal chunks, and for both levels of the compiled engine's queue."""
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(1 / rate, 150_000))
    service, cold = rng.lognormal(-0.4, 1.5, 150_000), rng.exponential(3.0, 150_000)
    results = [
        simulate(arrivals, service, 30.0, cold_service=cold, limit=limit, warm_up=40.0, outcomes=True, engine=engine)
        for engine in ("numba", "python")
    ]
    assert results[0] == results[1]
    assert np.array_equal(results[0].outcome, results[1].outcome)
    assert results[0].cold > 0 or limit is not None
    assert (results[0].throttled > 0) == (limit is not None and rate > 0.5)


@examples
@given(cases(), st.lists(st.integers(0, 60), max_size=5), st.sampled_from(["numba", "python"]))
def test_chunks_make_no_difference(case: Case, cuts: list[int], engine: str) -> None:
    stream = KeepAlive(case.keep_alive, limit=case.limit, warm_up=case.warm_up, outcomes=True, engine=engine)
    edges = [0, *sorted(min(cut, case.arrivals.size) for cut in cuts), case.arrivals.size]
    for begin, end in zip(edges, edges[1:], strict=False):
        stream.feed(case.arrivals[begin:end], case.service[begin:end], case.cold_service[begin:end])
    streamed, whole = stream.finish(case.horizon), run(case, engine)
    assert streamed == whole
    assert streamed.outcome.tolist() == whole.outcome.tolist()


@examples
@given(cases())
def test_agrees_with_an_independent_simulator(case: Case) -> None:
    result = run(case)
    outcomes, peak, busy, idle = slow(case)
    assert result.outcome.tolist() == outcomes
    counted = [outcome for outcome, now in zip(outcomes, case.arrivals, strict=True) if now >= case.warm_up]
    assert (result.requests, result.cold, result.throttled) == (
        len(counted),
        counted.count(COLD),
        counted.count(THROTTLED),
    )
    assert result.peak_in_flight == peak
    assert result.busy_seconds == pytest.approx(busy, rel=1e-9, abs=1e-9)
    assert result.idle_seconds == pytest.approx(idle, rel=1e-9, abs=1e-9)
    assert result.observed_seconds == case.horizon - case.warm_up


@examples
@given(cases())
def test_conservation(case: Case) -> None:
    result = run(case)
    assert result.requests == result.warm + result.cold + result.throttled
    assert result.instance_seconds == result.busy_seconds + result.idle_seconds
    assert result.busy_seconds >= 0 and result.idle_seconds >= 0
    if case.warm_up == 0:
        served = result.outcome != THROTTLED
        seconds = np.where(result.outcome == COLD, case.cold_service, case.service)[served]
        ends = np.minimum(case.arrivals[served] + seconds, case.horizon)
        assert result.busy_seconds == pytest.approx((ends - case.arrivals[served]).sum(), rel=1e-9, abs=1e-9)
        assert result.idle_seconds <= case.keep_alive * served.sum() + 1e-9


@examples
@given(cases(), st.floats(0.1, 50.0))
def test_keeping_longer_never_costs_a_cold_start(case: Case, longer: float) -> None:
    """With equal service times warm and cold, more keep-alive means no more cold starts and no less idle time."""
    case.cold_service = case.service
    short = run(case)
    case.keep_alive += longer
    long = run(case)
    assert long.cold <= short.cold
    assert long.idle_seconds >= short.idle_seconds - 1e-9


def test_the_rules_at_the_edges() -> None:
    # Exactly keep_alive after the end of the last use: still warm. Any later: cold.
    assert simulate([0.0, 611.0], 1.0, 610.0).cold == 1
    assert simulate([0.0, np.nextafter(611.0, 612.0)], 1.0, 610.0).cold == 2
    # A request that comes when another ends finds its environment, also at the limit.
    result = simulate([0.0, 1.0, 1.5], 1.0, 10.0, limit=1, outcomes=True)
    assert result.outcome.tolist() == [COLD, WARM, THROTTLED]
    # Most recently used first: the environment left idle at 0.5 is used last and expires.
    result = simulate([0.0, 0.0, 3.0, 6.0], [0.5, 1.0, 0.1, 0.1], 4.0, outcomes=True)
    assert result.outcome.tolist() == [COLD, COLD, WARM, WARM]
    assert result.idle_seconds == pytest.approx(2.0 + 2.9 + 4.0)
    # What is in flight at the horizon is busy until it, idle environments are paid for until it.
    result = simulate([0.0, 2.0], [1.0, 100.0], 10.0, horizon=5.0)
    assert (result.busy_seconds, result.idle_seconds) == (4.0, 1.0)


def test_cold_service_replaces_service() -> None:
    result = simulate([0.0, 10.0], 1.0, 60.0, cold_service=4.0, horizon=20.0)
    assert (result.busy_seconds, result.idle_seconds) == (5.0, 15.0)


def test_shares_of_nothing() -> None:
    nothing = simulate([], [], 10.0)
    assert nothing.requests == 0 and nothing.instance_seconds == 0
    assert np.isnan([nothing.cold_share, nothing.mean_instances, nothing.utilisation]).all()
    idle = simulate([], 1.0, 10.0, horizon=60.0)
    assert idle.mean_instances == 0


def test_shares() -> None:
    result = simulate([0.0, 1.0, 2.0, 8.0], 2.0, 3.0, limit=1, horizon=10.0)
    assert (result.requests, result.cold, result.throttled, result.warm) == (4, 2, 1, 1)
    assert result.cold_share == 2 / 3
    assert (result.busy_seconds, result.idle_seconds) == (6.0, 3.0)
    assert result.mean_instances == pytest.approx(0.9)
    assert result.utilisation == pytest.approx(2 / 3)


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_inputs_of_other_types(engine: str) -> None:
    arrivals = np.arange(0.0, 100.0)
    expected = simulate(arrivals, np.full(100, 2.0), 3.0, engine=engine)
    frozen = arrivals.copy()
    frozen.flags.writeable = False
    for given_arrivals in (arrivals.tolist(), arrivals.astype(np.int32), np.repeat(arrivals, 2)[::2], frozen):
        assert simulate(given_arrivals, 2, 3, engine=engine) == expected
        assert simulate(given_arrivals, 2.0, 3.0, cold_service=np.full(100, 2), engine=engine) == expected
    assert (arrivals == np.arange(100)).all()
