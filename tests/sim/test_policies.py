"""Policies against a version that looks at every environment at every event, against the keep-alive kernel, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.sim import FixedKeepAlive, GreedyDual, HybridHistogram, LeastRecentlyUsed, simulate_policy


class Slow:
    """Environments are dicts in one list; the next event is found by looking at all of them."""

    def __init__(self, policy, memory, start_up):
        self.policy, self.memory, self.start_up = policy, memory, start_up
        self.there, self.back, self.idle_times = [], {}, {f: [] for f in range(len(memory))}
        self.idle_from, self.priority, self.clock, self.stamp = {}, {}, 0.0, 0
        self.idle, self.busy, self.peak = [0.0] * len(memory), [0.0] * len(memory), 0.0
        self.prewarmed, self.evicted = [0] * len(memory), [0] * len(memory)
        self.limit = getattr(policy, "memory_mb", math.inf)

    def held(self, busy_only=False):
        return sum(self.memory[e["function"]] for e in self.there if e["busy"] or not busy_only)

    def of(self, function, busy):
        return [e for e in self.there if e["function"] == function and e["busy"] == busy]

    def windows(self, function):
        policy = self.policy
        minutes = [int(seconds // 60) for seconds in self.idle_times[function]]
        near = sorted(minute for minute in minutes if minute < policy.range_minutes)
        if not near or len(minutes) - len(near) > len(near):
            return 0.0, policy.standard
        counts = np.bincount(near, minlength=policy.range_minutes)
        if counts.std() / counts.mean() < policy.least_cv - 1e-9:
            return 0.0, policy.standard
        first = near[max(1, math.ceil(policy.head / 100 * len(near) - 1e-9)) - 1]
        last = near[max(1, math.ceil(policy.tail / 100 * len(near) - 1e-9)) - 1]
        return first * 60 * (1 - policy.margin), (last + 1) * 60 * (1 + policy.margin)

    def leave(self, environment, now):
        self.idle[environment["function"]] += (now - environment["since"]) * self.memory[environment["function"]]
        self.there.remove(environment)

    def rest(self, environment, now, until):
        self.stamp += 1
        environment.update(busy=False, since=now, until=until, stamp=self.stamp)

    def depart(self, environment, now):
        function = environment["function"]
        environment["busy"] = False
        self.busy[function] += (now - environment["since"]) * self.memory[function]
        if isinstance(self.policy, FixedKeepAlive):
            return self.rest(environment, now, now + self.policy.seconds)
        if not isinstance(self.policy, HybridHistogram):
            return self.rest(environment, now, math.inf)
        prewarm, keep = self.windows(function)
        self.rest(environment, now, now + keep)
        if not self.of(function, True):
            self.idle_from[function] = now
            if prewarm > 0:
                for idle in self.of(function, False):
                    self.leave(idle, now)
                self.back[function] = (now + prewarm, now + keep)

    def events(self):
        for environment in self.there:
            if environment["busy"]:
                yield environment["end"], 0, "depart", environment
            elif environment["until"] < math.inf:
                yield environment["until"], 2, "expire", environment
        for function, (moment, _) in self.back.items():
            yield moment, 1, "prewarm", function

    def advance(self, now, to_the_end=False):
        while found := min(self.events(), key=lambda event: event[:2], default=None):
            moment, order, kind, what = found
            if moment > now or (moment == now and order == 2 and not to_the_end):
                return
            if kind == "depart":
                self.depart(what, moment)
            elif kind == "expire":
                self.leave(what, moment)
            else:
                _, until = self.back.pop(what)
                self.prewarmed[what] += 1
                environment = {"function": what, "uses": 0}
                self.there.append(environment)
                self.rest(environment, moment, until)
                self.peak = max(self.peak, self.held())

    def request(self, function, now, service):
        self.advance(now)
        self.back.pop(function, None)
        if not self.of(function, True) and function in self.idle_from:
            self.idle_times[function].append(now - self.idle_from[function])
        idle = self.of(function, False)
        if idle:
            environment = max(idle, key=lambda e: e["stamp"])
            self.idle[function] += (now - environment["since"]) * self.memory[function]
            outcome, end = 0, now + service
        else:
            if self.held(busy_only=True) + self.memory[function] > self.limit:
                return 2
            while self.held() + self.memory[function] > self.limit:
                victims = [e for e in self.there if not e["busy"]]
                greedy = isinstance(self.policy, GreedyDual)
                victim = min(victims, key=lambda e: (self.priority[e["function"]] if greedy else 0, e["since"], e["stamp"]))
                self.clock = self.priority.get(victim["function"], 0.0)
                self.evicted[victim["function"]] += 1
                self.leave(victim, now)
            environment = {"function": function, "uses": 0}
            self.there.append(environment)
            outcome, end = 1, now + self.start_up[function] + service
        environment.update(busy=True, end=end, since=now)
        self.peak = max(self.peak, self.held())
        environment["uses"] += 1
        uses = sum(e["uses"] for e in self.there if e["function"] == function)
        self.priority[function] = self.clock + uses * self.start_up[function] / self.memory[function]
        return outcome

    def finish(self, horizon):
        self.advance(horizon, to_the_end=True)
        for environment in list(self.there):
            if environment["busy"]:
                function = environment["function"]
                self.busy[function] += (horizon - environment["since"]) * self.memory[function]
            else:
                self.leave(environment, horizon)


MEMORY, START_UP = np.array([100.0, 250.0, 64.0, 512.0]), np.array([1.0, 0.5, 3.0, 2.0])
SOME = st.sampled_from([
    FixedKeepAlive(90.0), FixedKeepAlive(600.0), HybridHistogram(), HybridHistogram(range_minutes=10, standard=120.0),
    HybridHistogram(least_cv=8.0, head=20.0, tail=80.0, standard=300.0), HybridHistogram(margin=0.0), GreedyDual(600.0),
    GreedyDual(1_000.0), LeastRecentlyUsed(600.0), LeastRecentlyUsed(1_000.0),
])  # fmt: skip


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.125, 900), st.integers(0, 3), st.floats(0.0625, 100)), max_size=60), SOME,
    st.sampled_from(["numba", "python"]), st.floats(0, 2_000),
)  # fmt: skip
def test_agrees_with_the_slow_version(requests, policy, engine, after):
    gaps, function, service = (np.array(column) for column in zip(*requests)) if requests else ([], np.empty(0, int), [])
    arrivals = np.cumsum(gaps)
    horizon = float(arrivals[-1]) + after if requests else after
    slow = Slow(policy, MEMORY, START_UP)
    outcomes = [slow.request(int(f), float(now), float(seconds)) for now, f, seconds in zip(arrivals, function, service)]
    slow.finish(horizon)
    result = simulate_policy(
        arrivals, function, service, policy, memory_mb=MEMORY, start_up=START_UP, horizon=horizon, engine=engine
    )
    assert result.outcome.tolist() == outcomes
    assert result.prewarmed.tolist() == slow.prewarmed and result.evicted.tolist() == slow.evicted
    assert result.idle_mb_seconds == pytest.approx(slow.idle, rel=1e-9, abs=1e-6)
    assert result.busy_mb_seconds == pytest.approx(slow.busy, rel=1e-9, abs=1e-6) and result.peak_mb == slow.peak
    for kind, counted in ((0, result.warm), (1, result.cold), (2, result.dropped)):
        here = np.asarray(function, int)[np.array(outcomes, int) == kind]
        assert counted.tolist() == np.bincount(here, minlength=4).tolist()


def population(seed, functions=8, horizon=40_000.0):
    """Requests of several functions, merged: times, function, service."""
    rng = np.random.default_rng(seed)
    times = [sim.poisson(rate, horizon=horizon, seed=rng) for rate in np.geomspace(0.0005, 0.2, functions)]
    function = np.repeat(np.arange(functions), [part.size for part in times])
    merged = np.concatenate(times)
    order = np.argsort(merged, kind="stable")
    return merged[order], function[order], rng.exponential(3.0, merged.size)


def test_the_fixed_policy_is_the_keep_alive_kernel():
    times, function, service = population(1)
    memory, extra = np.linspace(64, 512, 8), np.linspace(0.1, 2.0, 8)
    result = simulate_policy(
        times, function, service, FixedKeepAlive(300.0), memory_mb=memory, start_up=extra, horizon=50_000.0
    )
    for one in range(8):
        here = function == one
        alone = sim.simulate(
            times[here], service[here], 300.0, cold_service=service[here] + extra[one], horizon=50_000.0, outcomes=True
        )
        assert np.array_equal(result.outcome[here], alone.outcome)
        assert result.idle_mb_seconds[one] == pytest.approx(alone.idle_seconds * memory[one])
        assert result.busy_mb_seconds[one] == pytest.approx(alone.busy_seconds * memory[one])


def test_engines_agree_bit_for_bit():
    times, function, service = population(2)
    memory = np.linspace(64, 512, 8)
    for policy in (FixedKeepAlive(), HybridHistogram(), GreedyDual(1_500.0), LeastRecentlyUsed(1_500.0)):
        both = [
            simulate_policy(times, function, service, policy, memory_mb=memory, start_up=1.0, engine=engine)
            for engine in ("numba", "python")
        ]
        for name in ("outcome", "idle_mb_seconds", "busy_mb_seconds", "evicted", "prewarmed", "peak_mb"):
            assert np.array_equal(*(getattr(result, name) for result in both))


def test_a_histogram_learns_a_timer_and_saves_memory():
    """One call every 30 minutes: ten minutes of keep-alive never help, the histogram comes back in time."""
    arrivals = np.arange(200) * 1_800.0
    fixed = simulate_policy(arrivals, np.zeros(200, int), 1.0, FixedKeepAlive(600.0), memory_mb=[100.0])
    hybrid = simulate_policy(arrivals, np.zeros(200, int), 1.0, HybridHistogram(), memory_mb=[100.0])
    assert fixed.cold_share == 1.0 and hybrid.cold.sum() == 1
    assert hybrid.prewarmed.sum() == 198
    # The first idle time is kept whole; then, of 1,799 s, unloaded for 29 minutes less 10 %.
    per_call = 1_799.0 - 29 * 60 * 0.9
    assert hybrid.idle_mb_seconds[0] == pytest.approx(100.0 * (1_799.0 + 198 * per_call))
    assert hybrid.idle_mb_seconds[0] < 0.41 * fixed.idle_mb_seconds[0]


def test_greedy_dual_by_hand():
    """Memory for two. The dear function (start-up 9 s) is kept, the cheap one goes, though it was used later."""
    result = simulate_policy(
        [0.0, 20.0, 40.0, 60.0, 80.0], [0, 1, 2, 0, 1], 1.0, GreedyDual(200.0), memory_mb=[100.0] * 3,
        start_up=[9.0, 1.0, 1.0],
    )  # fmt: skip
    assert result.outcome.tolist() == [1, 1, 1, 0, 1] and result.evicted.tolist() == [0, 1, 1]
    recent = simulate_policy(
        [0.0, 20.0, 40.0, 60.0, 80.0], [0, 1, 2, 0, 1], 1.0, LeastRecentlyUsed(200.0), memory_mb=[100.0] * 3
    )
    assert recent.outcome.tolist() == [1, 1, 1, 1, 1] and recent.evicted.tolist() == [1, 1, 1]


def test_the_clock_lets_old_favourites_go():
    """A function used 5 times long ago is dear at first; each eviction raises the clock, until newcomers outrank it."""
    arrivals = np.concatenate([np.arange(5) * 10.0, 100.0 + 10.0 * np.arange(12)])
    function = np.concatenate([np.zeros(5, int), 1 + np.arange(12)])
    result = simulate_policy(arrivals, function, 1.0, GreedyDual(200.0), memory_mb=[100.0] * 13, start_up=1.0)
    assert result.evicted[0] == 1 and result.evicted[1] == 1


def test_a_request_too_large_is_dropped_and_evicts_nothing():
    result = simulate_policy([0.0, 5.0, 9.0], [0, 1, 0], 1.0, LeastRecentlyUsed(150.0), memory_mb=[100.0, 200.0])
    assert result.outcome.tolist() == [1, 2, 0] and result.evicted.sum() == 0
    busy = simulate_policy([0.0, 1.0], [0, 0], 5.0, GreedyDual(150.0), memory_mb=[100.0])
    assert busy.outcome.tolist() == [1, 2] and busy.cold_share == 1.0


def test_more_memory_never_holds_more_than_allowed_and_means_fewer_cold_starts():
    times, function, service = population(3)
    memory = np.linspace(64, 512, 8)
    shares = []
    for limit in (1_200.0, 2_400.0, 6_000.0):
        result = simulate_policy(times, function, service, GreedyDual(limit), memory_mb=memory, start_up=1.0)
        assert result.peak_mb <= limit
        shares.append(result.cold_share)
    assert shares[0] > shares[1] >= shares[2]


def test_nothing():
    assert math.isnan(simulate_policy([], [], 1.0, FixedKeepAlive(), memory_mb=[1.0]).cold_share)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"memory_mb": []}, "memory_mb: must have at least one entry"),
        ({"memory_mb": [0.0]}, "memory_mb: must have at least one entry, all finite and greater than 0"),
        ({"function": [1]}, r"function\[0\]=1: must be from 0 to 0"),
        ({"function": [0, 0]}, "function: must have one integer for each of the 1 arrivals"),
        ({"function": [0.5]}, "function: must have one integer"),
        ({"function": [[0], [1, 2]]}, "function: must have one integer for each arrival, got a ragged list"),
        ({"memory_mb": [math.nan]}, "memory_mb: must have at least one entry, all finite"),
        ({"horizon": math.nan}, "horizon=nan"),
        ({"start_up": [1.0, 2.0]}, "start_up: must have one entry for each of the 1 functions, got 2"),
        ({"start_up": -1.0}, "start_up=-1.0"),
        ({"horizon": 0.5}, "horizon=0.5: must not be before the last arrival, 1.0"),
        ({"policy": "lru"}, "policy='lru': must be FixedKeepAlive"),
    ],
)
def test_bad_input_is_named(options, complaint):
    given_options = {"arrivals": [1.0], "function": [0], "service": 1.0, "policy": FixedKeepAlive(), "memory_mb": [1.0]}
    with pytest.raises(ValueError, match=complaint):
        simulate_policy(**(given_options | options))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: FixedKeepAlive(0.0), "seconds=0.0"),
        (lambda: GreedyDual(-1.0), "memory_mb=-1.0"),
        (lambda: LeastRecentlyUsed(math.inf), "memory_mb=inf"),
        (lambda: HybridHistogram(range_minutes=0), "range_minutes=0"),
        (lambda: HybridHistogram(range_minutes=10**13), "range_minutes=10000000000000: must be at most 10080"),
        (lambda: FixedKeepAlive("60"), "seconds='60'"),
        (lambda: HybridHistogram(head=0.0), "head=0.0"),
        (lambda: HybridHistogram(head=50.0, tail=40.0), "head=50.0: must not be over tail"),
        (lambda: HybridHistogram(margin=1.0), "margin=1.0"),
        (lambda: HybridHistogram(standard=0.0), "standard=0.0"),
    ],
)
def test_bad_policies_are_named(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()
