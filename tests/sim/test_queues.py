"""Queues against closed forms, against an event list that is slow and obvious, and engine against engine."""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.sim import Backoff, queue, queue_with_retries

GAPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40)


def given_requests(pairs):
    gaps, service = (np.array(pairs, float).reshape(-1, 2) / 2).T
    return np.cumsum(gaps), service


def slow_queue(arrivals, service, servers):
    """An event list: arrivals and departures in order of time, departures first; a list of who waits."""
    events = [(now, 1, request) for request, now in enumerate(arrivals)]
    heapq.heapify(events)
    waiting, busy, start = [], 0, [math.nan] * len(arrivals)
    while events:
        now, kind, request = heapq.heappop(events)
        if kind == 1:
            waiting.append(request)
        else:
            busy -= 1
        while waiting and busy < servers:
            following = waiting.pop(0)
            busy += 1
            start[following] = now
            heapq.heappush(events, (now + service[following], 0, following))
    return start


@settings(max_examples=150, derandomize=True, deadline=None)
@given(GAPS, st.integers(1, 5), st.sampled_from(["numba", "python"]))
def test_queue_agrees_with_an_event_list(pairs, servers, engine):
    arrivals, service = given_requests(pairs)
    result = queue(arrivals, service, servers, engine=engine)
    assert result.start.tolist() == slow_queue(arrivals, service, servers)
    area = sum(result.response)
    assert result.mean_in_system * result.observed_seconds == pytest.approx(area) or not result.observed_seconds
    moments = result.arrival
    waiting = [int(((moments <= now) & (result.start > now)).sum()) for now in moments]
    assert result.most_waiting == max(waiting, default=0)


def test_engines_agree_bit_for_bit():
    t, s = sim.poisson(3.0, count=5_000, seed=1), sim.lognormal(-1.0, 1.5, 5_000, 2)
    for servers in (1, 3, 8):
        assert np.array_equal(queue(t, s, servers).start, queue(t, s, servers, engine="python").start)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.8), (4, 2.0), (10, 8.0), (25, 20.0)])
def test_mm_c_waits_as_erlang_says(servers, load):
    count = 1_500_000
    t, s = sim.poisson(load, count=count, seed=servers), sim.exponential(1.0, count, 100 + servers)
    wait = queue(t, s, servers).wait[count // 20 :]
    exact = sim.erlang_c_wait(servers, load, 1.0)
    mean = sim.batch_means(wait, confidence=0.999)
    assert exact in mean and mean.half_width < 0.12 * exact
    for seconds in np.array([0.0, 0.5, 1.0, 2.0]) / (servers - load):
        tail = sim.batch_means((wait > seconds).astype(float), confidence=0.999)
        assert sim.wait_exceeds(servers, load, 1.0, seconds) in tail


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.5, 6.0])
def test_m_d_1_waits_are_distributed_as_erlang_says(seconds):
    """A. K. Erlang, 1909: P(wait <= t) = (1 - load) * sum over k <= t of (-x)**k / k! * exp(x), x = load * (t - k)."""
    load, count = 0.8, 1_500_000
    parts = [(load * (seconds - k), k) for k in range(math.floor(seconds) + 1)]
    within = (1 - load) * math.fsum((-x) ** k / math.factorial(k) * math.exp(x) for x, k in parts)
    wait = queue(sim.poisson(load, count=count, seed=21), 1.0).wait[count // 20 :]
    # The clock has reached 2 million seconds: sums of service times are rounded in their last digits.
    assert within in sim.batch_means((wait <= seconds + 1e-6).astype(float), confidence=0.999)


@pytest.mark.parametrize(("cv", "servers_busy_on_arrival"), [(2.0, 0.8), (0.5, 0.8)])
def test_bursty_arrivals_wait_as_g_m_1_says(cv, servers_busy_on_arrival):
    """G/M/1: P(wait > t) = sigma exp(-(1 - sigma) t); gamma gaps of shape a: sigma = (a r / (a r + 1 - sigma))**a."""
    rate, shape, sigma = servers_busy_on_arrival, 1 / cv**2, 0.5
    for _ in range(2_000):
        sigma = (shape * rate / (shape * rate + 1 - sigma)) ** shape
    count = 2_000_000
    wait = queue(sim.renewal(rate, cv, count=count, seed=22), sim.exponential(1.0, count, 23)).wait[count // 20 :]
    for seconds in np.array([0.0, 0.5, 2.0]) / (1 - sigma):
        tail = sim.batch_means((wait > seconds).astype(float), confidence=0.999)
        assert sigma * math.exp(-(1 - sigma) * seconds) in tail
    assert sigma / (1 - sigma) in sim.batch_means(wait, confidence=0.999)


@pytest.mark.parametrize("kind", ["constant", "log-normal", "exponential"])
def test_m_g_1_waits_as_pollaczek_and_khinchine_say(kind):
    count = 2_000_000
    cv = {"constant": 0.0, "log-normal": 2.0, "exponential": 1.0}[kind]
    sigma = math.sqrt(math.log1p(cv**2))
    service = {
        "constant": np.ones(count),
        "log-normal": sim.lognormal(-(sigma**2) / 2, sigma, count, 5),
        "exponential": sim.exponential(1.0, count, 5),
    }[kind]
    wait = queue(sim.poisson(0.7, count=count, seed=4), service).wait[count // 20 :]
    interval = sim.batch_means(wait, confidence=0.999)
    assert sim.pollaczek_khinchine(0.7, 1.0, cv) in interval and interval.half_width < 0.1 * interval.estimate
    assert 0.3 in sim.batch_means((wait == 0).astype(float), confidence=0.999), "arrivals see the server free so often"


def test_g_g_c_is_near_allen_and_cunneen_in_heavy_traffic():
    count = 2_000_000
    t = sim.renewal(3.6, 0.5, count=count, seed=6)
    sigma = math.sqrt(math.log1p(0.5**2))
    s = sim.lognormal(-(sigma**2) / 2, sigma, count, 7)
    found = queue(t, s, 4).wait[count // 20 :].mean()
    assert found == pytest.approx(sim.allen_cunneen(4, 3.6, 1.0, 0.5, 0.5), rel=0.15)


def test_response_percentiles_of_mm1():
    count = 2_000_000
    t, s = sim.poisson(0.5, count=count, seed=8), sim.exponential(1.0, count, 9)
    response = queue(t, s).response[count // 20 :]
    for percentile in (50, 90, 99):
        exact = sim.response_percentile(0.5, 1.0, percentile)
        assert np.percentile(response, percentile) == pytest.approx(exact, rel=0.03)


def test_littles_law_and_utilisation():
    t, s = sim.poisson(1.5, count=200_000, seed=10), sim.exponential(1.0, 200_000, 11)
    result = queue(t, s, 2)
    rate = t.size / result.observed_seconds
    assert result.mean_in_system == pytest.approx(sim.littles_law(rate, result.response.mean()))
    assert result.utilisation == pytest.approx(0.75, rel=0.01)


@pytest.mark.parametrize("engine", ["numba", "python"])
def test_more_servers_than_anybody_needs(engine):
    assert queue([0.0, 0.0, 1.0], 5.0, 10**12, engine=engine).wait.tolist() == [0.0, 0.0, 0.0]
    many = queue_with_retries([0.0, 0.0], 5.0, 10**12, timeout=1.0, retries=1, backoff=Backoff(0.0), engine=engine)
    assert many.attempts.tolist() == [2, 2] and many.work_seconds == 20.0


def test_nothing_and_no_time():
    result = queue([], 1.0)
    assert result.most_waiting == 0 and result.observed_seconds == 0.0
    assert math.isnan(result.utilisation) and math.isnan(result.mean_in_system)


def slow_retries(arrivals, service, servers, timeout, retries, pause, cancel):
    """Queue and servers stepped from event to event; nothing about an attempt is known before it happens."""
    ARRIVE, GIVE_UP, DONE = 2, 1, 0
    events, order = [], 0
    for request, now in enumerate(arrivals):
        events.append((now, ARRIVE, -1, request, 0))
    heapq.heapify(events)
    waiting, serving, answered, given_up = [], {}, {}, set()
    attempts, work = [0] * len(arrivals), 0.0

    def fill(now):
        while waiting and len(serving) < servers:
            attempt = waiting.pop(0)
            serving[attempt] = now
            heapq.heappush(events, (now + service[attempt[0]], DONE, 0, *attempt))

    while events:
        now, kind, _, request, number = heapq.heappop(events)
        attempt = (request, number)
        if kind == ARRIVE:
            attempts[request] += 1
            waiting.append(attempt)
            fill(now)
            heapq.heappush(events, (now + timeout, GIVE_UP, 0, *attempt))
        elif kind == DONE and attempt in serving:
            work += now - serving.pop(attempt)
            if attempt not in given_up:
                answered[attempt] = now
            fill(now)
        elif kind == GIVE_UP and attempt not in answered:
            given_up.add(attempt)
            if cancel:
                if attempt in serving:
                    work += now - serving.pop(attempt)
                else:
                    waiting.remove(attempt)
                fill(now)
            if number < retries:
                order += 1
                heapq.heappush(events, (now + pause[request, number], ARRIVE, order, request, number + 1))
    response = [math.nan] * len(arrivals)
    for (request, _), now in answered.items():
        response[request] = now - arrivals[request]
    return attempts, response, work


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0.01, 3.0)), min_size=1, max_size=30),
    st.integers(1, 3), st.floats(0.2, 3.0), st.integers(0, 3), st.booleans(), st.integers(0, 9),
    st.sampled_from(["numba", "python"]),
)  # fmt: skip
def test_retries_agree_with_an_event_list(pairs, servers, timeout, retries, cancel, seed, engine):
    gaps, service = np.array(pairs).T
    arrivals = np.cumsum(gaps)
    backoff = Backoff(0.3, 1.0)
    pause = backoff.pauses(arrivals.size, retries, seed)
    result = queue_with_retries(
        arrivals, service, servers, timeout=timeout, retries=retries, backoff=backoff, cancel=cancel, seed=seed,
        engine=engine,
    )  # fmt: skip
    attempts, response, work = slow_retries(arrivals, service, servers, timeout, retries, pause, cancel)
    assert result.attempts.tolist() == attempts
    assert np.allclose(result.response, response, equal_nan=True)
    assert result.work_seconds == pytest.approx(work)


@pytest.mark.parametrize("cancel", [True, False])
def test_engines_agree_bit_for_bit_on_retries(cancel):
    t, s = sim.poisson(2.4, count=4_000, seed=17), sim.exponential(1.0, 4_000, 18)
    one, other = (
        queue_with_retries(t, s, 3, timeout=2.0, retries=3, cancel=cancel, seed=19, engine=engine)
        for engine in ("numba", "python")
    )
    assert one.attempts.max() == 4 and one.attempts.tolist() == other.attempts.tolist()
    assert one.response.tobytes() == other.response.tobytes()
    assert (one.work_seconds, one.wanted_seconds) == (other.work_seconds, other.wanted_seconds)


def test_an_answer_at_the_deadline_is_in_time():
    # Both come at 0 and take 2: the second would begin just when it gives up.
    result = queue_with_retries([0.0, 0.0], 2.0, timeout=2.0)
    assert result.response.tolist()[0] == 2.0 and result.succeeded.tolist() == [True, False]
    assert queue_with_retries([0.0, 0.0], 2.0, timeout=2.0, cancel=True).work_seconds == 2.0


def test_a_retry_by_hand():
    result = queue_with_retries([0.0, 1.0], 3.0, timeout=4.0, retries=1, backoff=Backoff(1.0, jitter=False))
    # The second waits from 1 to 3 and would end at 6; it gives up at 5 and is sent again at 6: served from 6 to 9.
    assert result.attempts.tolist() == [1, 2] and result.response.tolist() == [3.0, 8.0]
    assert result.work_seconds == 9.0 and result.wanted_seconds == 6.0 and result.amplification == 1.5
    assert queue_with_retries([0.0, 1.0], 3.0, timeout=4.0, retries=0).success_share == 0.5
    assert queue_with_retries([0.0, 1.0], 3.0, timeout=4.0, cancel=True).work_seconds == 5.0


def test_patience_without_end_is_a_plain_queue():
    t, s = sim.poisson(1.6, count=20_000, seed=12), sim.exponential(1.0, 20_000, 13)
    result = queue_with_retries(t, s, 2, timeout=1e6, retries=3)
    assert np.allclose(result.response, queue(t, s, 2).response) and result.amplification == 1.0


def test_retries_make_an_overload_worse():
    t, s = sim.poisson(2.2, count=20_000, seed=14), sim.exponential(1.0, 20_000, 15)
    once = queue_with_retries(t, s, 2, timeout=3.0, retries=0)
    storm = queue_with_retries(t, s, 2, timeout=3.0, retries=3, seed=16)
    spared = queue_with_retries(t, s, 2, timeout=3.0, retries=3, cancel=True, seed=16)
    assert storm.success_share < once.success_share < spared.success_share < 0.5
    assert storm.amplification > 3.5 and spared.work_seconds < storm.work_seconds / 2


def test_back_off():
    assert Backoff(0.1, 0.5, jitter=False).pauses(1, 4, 0).tolist() == [[0.1, 0.2, 0.4, 0.5]]
    assert (Backoff(0.0).pauses(1, 2_000, 0) == 0.0).all()
    assert (Backoff(1e300, jitter=False).pauses(1, 2_000, 0) == 10.0).all()
    drawn = Backoff(1.0, 100.0).pauses(100_000, 2, 1)
    assert drawn.mean(axis=0) == pytest.approx([0.5, 1.0], rel=0.01) and drawn.max() <= 2.0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([1.0, 0.5], 1.0), r"arrivals\[1\]=0.5: must be sorted"),
        (([-1.0], 1.0), r"arrivals\[0\]=-1.0"),
        (([0.0], [1.0, 2.0]), "one entry for each of the 1 arrivals, got 2"),
        (([0.0], [math.nan]), r"service\[0\]=nan"),
        (([0.0], -1.0), "service=-1.0"),
        (([0.0], 1.0, 0), "servers=0"),
        (([[0.0]], 1.0), "shape"),
        (([0.0], "1"), "service='1'"),
        (([math.inf], 1.0), r"arrivals\[0\]=inf"),
        (([0.0], 1.0, 2.0), "servers=2.0: must be an integer"),
    ],
)
def test_bad_input_is_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        queue(*arguments)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"timeout": 0.0}, "timeout=0.0"),
        ({"timeout": 1.0, "retries": -1}, "retries=-1"),
        ({"timeout": 1.0, "engine": "fast"}, "engine='fast'"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"timeout": 1.0, "retries": 10**9}, "retries=1000000000: must be at most 100000000 for 1 requests"),
        ({"timeout": 1.0, "backoff": 0.1}, "backoff=0.1: must be a Backoff or None"),
    ],
)
def test_bad_retries_are_named(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        queue_with_retries([0.0], 1.0, **options)
    with pytest.raises(ValueError, match="cap=-1"):
        Backoff(cap=-1)
