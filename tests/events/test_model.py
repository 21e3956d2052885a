"""The models agree with closed forms, with the simulators of the ground floor, and with each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.events import model
from beyondlab.events.keda import Rule


def poisson(rate, count, seed):
    return sim.poisson(rate, count=count, seed=seed)


def test_a_fleet_that_never_changes_is_a_queue():
    arrivals, service = poisson(2.0, 5_000, 1), sim.exponential(0.8, count=5_000, seed=2)
    for consumers in (2, 5):
        rule = Rule(least=consumers, most=consumers)
        fleet = model.scale_on_events(arrivals, service, rule, replicas=consumers, start=0)
        assert np.allclose(fleet.response, sim.queue(arrivals, service, consumers).response)
        assert fleet.consumer_seconds == pytest.approx(consumers * fleet.seconds)


def test_from_zero_every_event_is_served_and_the_fleet_goes_home():
    arrivals = model.bursts(3.0, 0.1, 600, 1_800, seed=3)
    result = model.scale_on_events(arrivals, 0.5, Rule(most=20), start=4.0)
    assert np.isfinite(result.response).all() and (result.response >= 0.5 - 1e-9).all()
    assert result.replicas[0] in (0, 1) and result.replicas[-1] == 0 and result.replicas.max() > 5
    assert result.response[0] >= 4.5, "the first one waits for a start"
    assert result.lag[-1] == 0 and result.consumer_seconds >= result.work_seconds


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 300), max_size=40), st.integers(0, 2), st.floats(0, 20))
def test_no_event_is_left(arrivals, least, start):
    result = model.scale_on_events(sorted(arrivals), 2.0, Rule(threshold=2, least=least, most=6, cooldown=30), start=start)
    assert np.isfinite(result.response).all()
    assert result.replicas[-1] == least and result.replicas.max(initial=0) <= 6
    assert result.consumer_seconds >= 2.0 * len(arrivals) - 1e-6


def test_a_slower_look_makes_older_events_and_a_longer_cooldown_more_seconds():
    arrivals = model.bursts(1.0, 0.2, 900, 3_600, seed=5)
    quick = model.scale_on_events(arrivals, 0.3, Rule(most=10, polling=5))
    slow = model.scale_on_events(arrivals, 0.3, Rule(most=10, polling=60))
    assert np.median(slow.response) > np.median(quick.response)
    short = model.scale_on_events(arrivals, 0.3, Rule(most=10, cooldown=30))
    assert short.consumer_seconds < quick.consumer_seconds


def test_a_bounded_queue_turns_away_what_the_closed_form_says():
    for load, capacity in ((0.9, 10), (1.0, 4), (1.5, 3)):
        arrivals = poisson(load, 60_000, 7)
        result = model.bounded_queue(arrivals, sim.exponential(1.0, count=60_000, seed=8), 1, capacity)
        assert result.refused_share == pytest.approx(model.blocking(load, capacity), abs=0.012)
    assert model.blocking(1.0, 4) == 0.2
    assert model.blocking(1 + 1e-7, 4) == pytest.approx(0.2, abs=1e-5)


def test_a_loss_system_is_erlangs():
    """No waiting room, c servers: M/M/c/c."""
    arrivals = poisson(4.0, 60_000, 1)
    result = model.bounded_queue(arrivals, sim.exponential(1.0, count=60_000, seed=2), 5, 5)
    assert result.refused_share == pytest.approx(sim.erlang_b(5, 4.0), abs=0.01)


def test_room_for_all_is_no_bound():
    arrivals, service = poisson(0.8, 2_000, 1), sim.exponential(1.0, count=2_000, seed=2)
    result = model.bounded_queue(arrivals, service, 1, 10_000)
    assert result.accepted.all() and np.allclose(result.response, sim.queue(arrivals, service).response)


def test_the_wait_after_an_overload_is_the_fluids():
    waits = []
    for seed in range(0, 60, 10):
        times = model.surge(80, 120, 600, 1_200, 1_300, seed)
        queue = sim.queue(times, sim.exponential(0.01, count=times.size, seed=seed + 5))
        waits.append(queue.wait[np.searchsorted(times, 1_200) - 1])
    assert np.mean(waits) == pytest.approx(120, rel=0.05)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.floats(0.1, 20), st.integers(1, 10))
def test_a_token_bucket_keeps_its_rate(times, rate, burst):
    times = np.sort(times)
    passed = times[model.limited(times, rate, burst)]
    for first in range(passed.size):
        for last in range(first, passed.size):
            assert last - first + 1 <= burst + rate * (passed[last] - passed[first]) + 1e-6


def test_a_token_bucket_lets_the_rate_pass():
    assert model.limited(np.arange(0, 100, 0.1), 5.0, 1).sum() == pytest.approx(500, abs=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 3), st.sampled_from("abcd")), min_size=1, max_size=50), st.integers(1, 4))
def test_keys_keep_their_order(events, consumers):
    events = sorted(events)
    times, service, keys = (list(column) for column in zip(*events))
    for how in ("partition", "key"):
        result = model.by_key(times, service, keys, consumers, how)
        assert result.overtaken == 0 and np.isfinite(result.response).all()
        assert (result.response >= np.array(service) - 1e-9).all()
    free = model.by_key(times, service, keys, consumers, "none")
    assert np.allclose(free.response, sim.queue(times, service, consumers).response)
    one = model.by_key(times, service, keys, 1, "key")
    assert one.response.sum() == pytest.approx(sim.queue(times, service, 1).response.sum()) or len(set(keys)) > 1


def test_a_lock_for_each_key_never_works_one_key_twice_at_once():
    times, service = poisson(5.0, 2_000, 1), sim.exponential(0.5, count=2_000, seed=2)
    keys = [f"k{n % 3}" for n in range(2_000)]
    result = model.by_key(times, service, keys, 8, "key")
    ends = result.response + times
    for key in set(keys):
        own = np.array([k == key for k in keys])
        begins = (ends - service)[own]
        assert (begins[1:] >= ends[own][:-1] - 1e-9).all()


def test_mean_batch_is_the_simulated_one():
    for rate, size, window in ((5.0, 10, 1.0), (0.1, 10, 1.0), (100.0, 10, 1.0), (2.0, 3, 2.0)):
        sizes, waits = model.batches(poisson(rate, 40_000, 3), size, window)
        assert sizes.mean() == pytest.approx(model.mean_batch(rate, size, window), rel=0.02)
        assert sizes.sum() == 40_000 and sizes.max() <= size
        assert (waits >= -1e-9).all() and (waits <= window + 1e-9).all()
    assert model.mean_batch(3.0, 1, 5.0) == 1
    assert model.mean_batch(1.0, 10_000, 5.0) == pytest.approx(6.0)


def test_credits_have_a_cliff():
    useful = {work: model.in_hand(work, 100, 30, 200).useful for work in (0.1, 0.3, 0.31)}
    assert useful[0.1] == useful[0.3] == 1 and useful[0.31] < 0.2
    assert model.in_hand(0.31, 100, 30, 200, check=True).useful == 1
    assert model.in_hand(0.31, 96, 30, 200).useful == 1, "fewer credits cure it too"


def test_attempts_of_a_schedule():
    assert model.attempts_within((), 3_600, 86_400) == 25
    assert model.attempts_within(model.EVENT_GRID, 43_200, 86_400) == 11
    old = (10, 30, 60, 300, 600, 1_800, 3_600)  # Event Grid's schedule before: hourly at the end
    assert model.attempts_within(old, 3_600, 86_400) == 30


def test_channels():
    ways = {way.name: way for way in model.channels(1.0)}
    short, long, push, batched = ways.values()
    assert short.wait == 0.5 and long.wait == push.wait == 0
    assert push.requests == pytest.approx(3 * model.MONTH)
    assert batched.requests < push.requests < short.requests
    assert all(way.usd == pytest.approx(way.requests * 0.4 / 1e6) for way in ways.values())
    assert model.channels(1_000.0)[1].requests == pytest.approx(3_000 * model.MONTH)


@pytest.mark.parametrize(
    ("need", "wanted"),
    [(model.Need(answer=True, replay=True), "direct call"), (model.Need(replay=True), "log"), (model.Need(rules=True), "bus"),
     (model.Need(readers=5), "bus"), (model.Need(readers=2), "log"), (model.Need(order=True), "queue"), (model.Need(), "queue")],
)  # fmt: skip
def test_the_choice(need, wanted):
    assert model.choose(need)[0] == wanted


def test_decide_shows_three_ways_and_more_burstiness_saves_more():
    rows = model.decide(2.0, 0.5, 1 / 12).rows
    assert len(rows) == 3
    scaled, peak, _ = (float(row[-1].replace(",", "")) for row in rows)
    assert scaled < peak / 5


def test_surges_and_bursts():
    times = model.surge(10, 30, 100, 200, 300, seed=1)
    assert (np.diff(times) >= 0).all()
    counts = [((times >= a) & (times < a + 100)).sum() for a in (0, 100, 200)]
    assert counts[1] == pytest.approx(3_000, rel=0.1) and counts[0] == pytest.approx(1_000, rel=0.15)
    times = model.bursts(2.0, 0.25, 100, 2_000, seed=1)
    assert (times % 100 < 25 + 1e-9).all() and times.size == pytest.approx(4_000, rel=0.1)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [(lambda: model.surge(5, 4, 0, 1, 2, 1), "peak - base=-1"), (lambda: model.bursts(1, 2, 1, 1, 1), "share=2"),
     (lambda: model.blocking(0, 3), "load=0"), (lambda: model.bounded_queue([0.0], 1.0, 2, 1), "capacity=1"),
     (lambda: model.TokenBucket(0, 1), "rate=0"), (lambda: model.by_key([0.0], 1.0, [], 1, "key"), "keys: must have one entry"),
     (lambda: model.by_key([0.0], 1.0, ["a"], 1, "some"), "order='some'"), (lambda: model.mean_batch(1, 0, 1), "size=0"),
     (lambda: model.mean_batch(1, 2, -1), "window=-1"), (lambda: model.in_hand(1, 0, 1, 1), "credits=0"),
     (lambda: model.scale_on_events([], [], Rule(), start=-1), "start=-1"), (lambda: model.channels(0), "rate=0"),
     (lambda: model.TokenBucket(1, 1).take(-1), "now=-1")],
)  # fmt: skip
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_blocking_is_a_share():
    assert all(0 < model.blocking(load, k) < 1 for load in (0.1, 0.99, 1, 1.01, 5) for k in (1, 5, 50))
    assert math.isclose(model.blocking(0.5, 1), 1 / 3)
