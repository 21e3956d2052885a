"""Load balancing against closed forms, and against a version that keeps every request in a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.sim import POLICIES, balance, queue


def slow_balance(arrivals, service, servers, policy, draw, speeds):
    """Each server keeps all its requests: who is there is found by looking at every one."""
    kept = [[] for _ in range(servers)]
    chosen, starts = [], []
    for index, now in enumerate(arrivals):
        present = [sum(departure > now for departure in requests) for requests in kept]
        first = int(draw[index, 0] * servers)
        if policy == "random" or servers == 1:
            one = first
        elif policy == "round robin":
            one = index % servers
        elif policy == "two choices":
            others = [server for server in range(servers) if server != first]
            other = others[int(draw[index, 1] * (servers - 1))]
            one = other if present[other] < present[first] else first
        else:
            least = [server for server in range(servers) if present[server] == min(present)]
            one = least[int(draw[index, 0] * len(least))]
        start = max([now, *kept[one]])
        kept[one].append(start + service[index] / speeds[one])
        chosen.append(one)
        starts.append(start)
    return chosen, starts


@settings(max_examples=120, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), max_size=40), st.integers(1, 5),
    st.sampled_from(sorted(POLICIES)), st.integers(0, 5), st.booleans(), st.sampled_from(["numba", "python"]),
)  # fmt: skip
def test_agrees_with_the_slow_version(pairs, servers, policy, seed, uneven, engine):
    gaps, service = (np.array(pairs, float).reshape(-1, 2) / 2).T
    arrivals = np.cumsum(gaps)
    speeds = np.linspace(0.5, 2.0, servers) if uneven else np.ones(servers)
    result = balance(arrivals, service, servers, policy, seed, speeds=speeds, engine=engine)
    draw = np.random.default_rng(seed).random((arrivals.size, 2))
    chosen, starts = slow_balance(arrivals, service, servers, policy, draw, speeds)
    assert result.server.tolist() == chosen and result.start.tolist() == starts
    assert result.requests.sum() == arrivals.size
    assert result.service.tolist() == [seconds / speeds[one] for seconds, one in zip(service, chosen)]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_engines_agree_bit_for_bit(policy):
    t, s, speeds = sim.poisson(4.0, count=4_000, seed=16), sim.lognormal(-0.5, 1.0, 4_000, 17), np.linspace(0.5, 1.5, 5)
    one, other = (balance(t, s, 5, policy, 18, speeds=speeds, engine=engine) for engine in ("numba", "python"))
    assert one.server.tolist() == other.server.tolist() and one.start.tobytes() == other.start.tobytes()
    assert np.array_equal(one.wait + one.service, one.response) and one.wait.min() >= 0.0


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_one_server_is_a_queue(policy):
    t, s = sim.poisson(0.8, count=20_000, seed=1), sim.exponential(1.0, 20_000, 2)
    assert np.array_equal(balance(t, s, 1, policy, 3).start, queue(t, s).start)


def test_random_gives_each_server_an_mm1():
    t, s = sim.poisson(8.0, count=2_000_000, seed=4), sim.exponential(1.0, 2_000_000, 5)
    wait = balance(t, s, 10, "random", 6).wait[100_000:]
    assert sim.erlang_c_wait(1, 0.8, 1.0) in sim.batch_means(wait, confidence=0.999)


def test_round_robin_gives_each_server_erlang_gaps():
    """Gaps at one of c servers are Erlang-c; G/M/1: the wait is sigma / (1 - sigma), sigma = E[exp(-(1 - sigma) gap)]."""
    servers, load = 4, 0.8
    sigma = 0.5
    for _ in range(200):
        sigma = (servers * load / (servers * load + 1 - sigma)) ** servers
    t, s = sim.poisson(servers * load, count=2_000_000, seed=7), sim.exponential(1.0, 2_000_000, 8)
    wait = balance(t, s, servers, "round robin", 9).wait[100_000:]
    assert sigma / (1 - sigma) in sim.batch_means(wait, confidence=0.999)


def test_two_choices_follow_mitzenmachers_fixed_point():
    """With many servers the share with at least k requests is load**(2**k - 1); the mean response: its sum over load."""
    servers, load = 200, 0.9
    exact = sum(load ** (2**k - 1) for k in range(1, 12)) / load
    t, s = sim.poisson(servers * load, count=1_500_000, seed=10), sim.exponential(1.0, 1_500_000, 11)
    response = balance(t, s, servers, "two choices", 12).response[300_000:]
    assert response.mean() == pytest.approx(exact, rel=0.02)


def test_two_choices_have_mitzenmachers_queues():
    """Shares of servers with at least k requests, looked at 300 times after the beginning."""
    servers, load, count = 500, 0.9, 600_000
    t, s = sim.poisson(servers * load, count=count, seed=19), sim.exponential(1.0, count, 20)
    result = balance(t, s, servers, "two choices", 21)
    shares = np.zeros(7)
    moments = np.linspace(t[-1] / 4, t[-1], 300)
    for now in moments:
        there = (result.arrival <= now) & (result.arrival + result.response > now)
        present = np.bincount(result.server[there], minlength=servers)
        shares += (present[:, None] >= np.arange(7)).mean(axis=0) / moments.size
    assert shares == pytest.approx([load ** (2**k - 1) for k in range(7)], abs=0.015)


def test_the_order_of_the_policies():
    t, s = sim.poisson(8.5, count=300_000, seed=13), sim.exponential(1.0, 300_000, 14)
    mean = {policy: balance(t, s, 10, policy, 15).wait.mean() for policy in POLICIES}
    shared = queue(t, s, 10).wait.mean()
    assert shared < mean["least connections"] < mean["two choices"] < mean["round robin"] < mean["random"]


@pytest.mark.parametrize(
    ("arguments", "options", "complaint"),
    [
        (([0.0], 1.0, 0, "random", 0), {}, "servers=0"),
        (([0.0], 1.0, 2, "fastest", 0), {}, "policy='fastest': must be one of 'random'"),
        (([0.0], 1.0, 2, "random", 0), {"speeds": [1.0]}, "speeds: must have one entry"),
        (([0.0], 1.0, 2, "random", 0), {"speeds": [1.0, 0.0]}, r"speeds\[1\]=0.0"),
        (([0.0], 1.0, 2, "random", -1), {}, "seed=-1"),
        (([0.0], 1.0, 2, ["random"], 0), {}, r"policy=\['random'\]: must be one of"),
        (([0.0], 1.0, 10**12, "random", 0), {}, "servers=1000000000000: must be at most 1,000,000"),
    ],
)
def test_bad_input_is_named(arguments, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        balance(*arguments, **options)
