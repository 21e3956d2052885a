"""Closed forms against published digits, against each other and against a direct computation."""

from __future__ import annotations

import math
from heapq import heappop, heappush

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import poisson

from beyondlab import sim
from beyondlab.sim import KeepAliveExact, erlang_b, erlang_c, idle_expiry_share, keep_alive_exact


@pytest.mark.parametrize(
    ("rate", "cold_share", "instances"),
    [
        (1 / 600, "0.36996", "0.6367"),
        (0.01, "0.019762", "1.10794"),
        (0.1, "7.1128e-3", "2.65049"),
        (1.0, "1.23983e-3", "8.17750"),
        (10.0, "2.88581e-4", "37.32427"),
        (100.0, "7.93228e-5", "252.16901"),
    ],
)
def test_keep_alive_table(rate: float, cold_share: str, instances: str) -> None:
    exact = keep_alive_exact(rate, 2.0, 600.0)
    for value, digits in ((exact.cold_share, cold_share), (exact.instances, instances)):
        mantissa, _, power = digits.partition("e")
        half_a_unit = 0.5 * 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
        assert abs(value - float(digits)) <= half_a_unit


@pytest.mark.parametrize(("rate", "mean_service", "keep_alive"), [(0.5, 2.0, 3.0), (3.0, 4.0, 1.0), (0.2, 1.0, 30.0)])
def test_keep_alive_by_matrix_exponential(rate: float, mean_service: float, keep_alive: float) -> None:
    """The first-passage times from the generator itself, without eigenvalues."""
    load, cold, instances = rate * mean_service, 0.0, 0.0
    for level in range(1, 60):
        states = np.arange(level)
        generator = np.diag(-(rate + states / mean_service))
        generator += np.diag(np.full(level - 1, rate), 1) + np.diag(states[1:] / mean_service, -1)
        # The integral of exp(A t) 1 over [0, keep_alive] is a block of the exponential of a larger matrix.
        larger = np.zeros((level + 1, level + 1))
        larger[:level, :level], larger[:level, level] = generator, 1.0
        block = expm(larger * keep_alive)
        found = poisson.pmf(level - 1, load)
        cold += found * block[level - 1, :level].sum()
        instances += poisson.sf(level - 1, load) + rate * found * block[level - 1, level]
    exact = keep_alive_exact(rate, mean_service, keep_alive)
    assert exact.cold_share == pytest.approx(cold, rel=1e-9)
    assert exact.instances == pytest.approx(instances, rel=1e-9)


@pytest.mark.parametrize("provisioned", [0, 1, 3])
def test_keep_alive_with_provisioned_environments(provisioned: int) -> None:
    """A pool that never shrinks under a minimum, simulated request by request."""
    rate, keep_alive = 1.0, 15.0
    rng = np.random.default_rng(6)
    cold = []
    for _ in range(10):
        arrivals = np.cumsum(rng.exponential(1 / rate, 30_000)).tolist()
        ends, idle, count = [], [], 0
        for now, service in zip(arrivals, rng.exponential(2.0, 30_000).tolist(), strict=True):
            while ends and ends[0] <= now:
                idle.append(heappop(ends))
            if len(ends) >= provisioned and not (idle and now - idle[-1] <= keep_alive):
                idle.clear()
                count += 1
            elif idle:
                idle.pop()
            heappush(ends, now + service)
        cold.append(count / 30_000)
    exact = keep_alive_exact(rate, 2.0, keep_alive, provisioned=provisioned)
    error = np.std(cold, ddof=1) / math.sqrt(10)
    assert error < 0.02 * exact.cold_share
    assert abs(np.mean(cold) - exact.cold_share) < 3.5 * error


def test_provisioned_environments_always_exist() -> None:
    by_number = [keep_alive_exact(5.0, 2.0, 60.0, provisioned=number) for number in range(60)]
    assert all(a.cold_share >= b.cold_share for a, b in zip(by_number, by_number[1:], strict=False))
    assert all(a.instances <= b.instances for a, b in zip(by_number, by_number[1:], strict=False))
    assert by_number[-1].cold_share < 1e-12
    assert by_number[-1].instances == pytest.approx(59.0, abs=1e-9)
    assert by_number[0] == keep_alive_exact(5.0, 2.0, 60.0)
    assert keep_alive_exact(0.2, 2.0, 30.0, provisioned=60) == KeepAliveExact(0.0, 60.0)


def test_keep_alive_limits() -> None:
    # Hardly ever: environments are only found by the request right after.
    assert keep_alive_exact(1e-5, 2.0, 600.0).cold_share == pytest.approx(idle_expiry_share(1e-5, 600.0), rel=1e-3)
    # No keep-alive to speak of: every request is cold and only busy environments exist.
    brief = keep_alive_exact(3.0, 2.0, 1e-9)
    assert brief.cold_share == pytest.approx(1.0, abs=1e-6)
    assert brief.instances == pytest.approx(6.0, abs=1e-6)
    # Only products with time matter.
    assert keep_alive_exact(10.0, 2.0, 600.0).cold_share == pytest.approx(
        keep_alive_exact(1.0, 20.0, 6000.0).cold_share, rel=1e-9
    )


def test_keep_alive_falls_with_keep_alive_but_not_always_with_rate() -> None:
    # Where requests start to overlap, a second environment is needed that then expires: the share rises again.
    first_enough, second_needed = (keep_alive_exact(rate, 2.0, 600.0).cold_share for rate in (0.0085, 0.02))
    assert second_needed > 1.1 * first_enough
    by_time = [keep_alive_exact(1.0, 2.0, seconds) for seconds in np.geomspace(1.0, 1e5, 15)]
    assert (np.diff([exact.cold_share for exact in by_time]) < 0).all()
    assert (np.diff([exact.instances for exact in by_time]) > 0).all()


@pytest.mark.parametrize(("servers", "load", "share"), [(4, 2.0, 0.173913), (10, 8.0, 0.409180), (25, 20.0, 0.209103)])
def test_erlang_c(servers: int, load: float, share: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(share, abs=5e-7)


def test_erlang_b() -> None:
    # By definition: the probability of the last state of M/M/c/c.
    for servers, load in ((0, 1.0), (1, 1.0), (5, 3.0), (30, 40.0)):
        weights = [load**k / math.factorial(k) for k in range(servers + 1)]
        assert erlang_b(servers, load) == pytest.approx(weights[-1] / sum(weights), rel=1e-12)
    assert erlang_b(1_000, 1e-5) == 0.0
    assert erlang_c(1, 0.8) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: keep_alive_exact(0.0, 2.0, 600.0), "rate=0.0"),
        (lambda: keep_alive_exact(1.0, -2.0, 600.0), "mean_service=-2.0"),
        (lambda: keep_alive_exact(1.0, 2.0, math.nan), "keep_alive=nan"),
        (lambda: keep_alive_exact(1.0, 2.0, 600.0, provisioned=-1), "provisioned=-1"),
        (lambda: keep_alive_exact(5_000.0, 2.0, 600.0), r"rate \* mean_service = 10000.0: must be at most 2,000"),
        (lambda: idle_expiry_share(math.inf, 1.0), "rate=inf"),
        (lambda: erlang_b(-1, 1.0), "servers=-1"),
        (lambda: erlang_b(2, 0.0), "load=0.0"),
        (lambda: erlang_c(4, 4.0), "load=4.0: must be less than servers=4"),
    ],
)
def test_refused(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()


@pytest.mark.parametrize(("servers", "load", "digits"), [(4, 2.0, 0.173913), (10, 8.0, 0.409180), (25, 20.0, 0.209103)])
def test_erlang_c_digits_and_the_wait_that_follows(servers: int, load: float, digits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(digits, abs=5e-7)
    assert sim.erlang_c_wait(servers, load / 3, 3.0) == pytest.approx(digits * 3 / (servers - load), rel=1e-5)
    assert sim.wait_exceeds(servers, load / 3, 3.0, 0.0) == pytest.approx(digits, abs=5e-7)


def test_the_tail_of_the_wait_gives_its_mean() -> None:
    from scipy.integrate import quad

    area, _ = quad(lambda seconds: sim.wait_exceeds(5, 2.0, 2.0, seconds), 0, np.inf)
    assert area == pytest.approx(sim.erlang_c_wait(5, 2.0, 2.0))


def test_pollaczek_khinchine_digits() -> None:
    assert sim.pollaczek_khinchine(0.8, 1.0, 1.0) == pytest.approx(4.0)
    assert sim.pollaczek_khinchine(0.8, 1.0, 0.0) == pytest.approx(2.0)
    assert sim.pollaczek_khinchine(0.4, 2.0, 1.0) == pytest.approx(sim.erlang_c_wait(1, 0.4, 2.0))


def test_allen_cunneen_is_exact_where_it_must_be() -> None:
    assert sim.allen_cunneen(1, 0.7, 1.0, 1.0, 2.0) == pytest.approx(sim.pollaczek_khinchine(0.7, 1.0, 2.0))
    assert sim.allen_cunneen(6, 4.0, 1.0, 1.0, 1.0) == pytest.approx(sim.erlang_c_wait(6, 4.0, 1.0))


def test_response_percentiles_of_mm1() -> None:
    assert sim.response_percentile(0.8, 1.0, 99) == pytest.approx(23.0259, abs=5e-5)
    assert sim.response_percentile(0.8, 1.0, 50) == pytest.approx(5 * np.log(2))


def test_little() -> None:
    assert sim.littles_law(250.0, 0.08) == pytest.approx(20.0)


def test_fan_out() -> None:
    assert sim.fan_out_slow(0.01, 100) == pytest.approx(0.634, abs=5e-4)
    assert sim.fan_out_slow(0.0, 5) == 0.0 and sim.fan_out_slow(1.0, 5) == 1.0
    assert sim.leaf_percentile(95, 50) == pytest.approx(100 * 0.95 ** (1 / 50))
    slow = 1 - sim.leaf_percentile(95, 50) / 100
    assert sim.fan_out_slow(slow, 50) == pytest.approx(0.05)
    assert [sim.largest_of(count) for count in (1, 2, 4)] == pytest.approx([1.0, 1.5, 25 / 12])
    drawn = np.random.default_rng(1).standard_exponential((100_000, 20)).max(axis=1)
    assert drawn.mean() == pytest.approx(sim.largest_of(20), rel=0.01)


@pytest.mark.parametrize(
    ("function", "arguments", "complaint"),
    [
        (sim.erlang_c_wait, (2, 2.0, 1.0), r"rate \* mean_service = 2.0: must be less than servers=2"),
        (sim.pollaczek_khinchine, (0.5, 1.0, -1.0), "cv=-1.0"),
        (sim.pollaczek_khinchine, (1.0, 1.0, 1.0), "must be less than servers=1"),
        (sim.allen_cunneen, (1, 0.5, 1.0, -1.0, 1.0), "arrival_cv=-1.0"),
        (sim.wait_exceeds, (1, 0.5, 1.0, -1.0), "seconds=-1.0"),
        (sim.response_percentile, (0.5, 1.0, 100), "percentile=100"),
        (sim.littles_law, (-1.0, 1.0), "rate=-1.0"),
        (sim.fan_out_slow, (1.5, 2), "slow=1.5: must be a number from 0 to 1"),
        (sim.fan_out_slow, (0.5, 0), "calls=0"),
        (sim.leaf_percentile, (0, 2), "percentile=0"),
        (sim.largest_of, (0,), "count=0"),
    ],
)
def test_bad_arguments_are_named(function, arguments, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        function(*arguments)
