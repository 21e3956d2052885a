"""The chapter's model against closed forms and by its own rules."""

import math

import numpy as np
import pytest
from beyondlab import sim
from beyondlab.microvms import model
from beyondlab.microvms.rate_limiter import RateLimiter, TokenType
from hypothesis import given
from hypothesis import strategies as st


def test_distinct_pages_by_hand():
    assert model.distinct_pages(0, 128) == 0
    assert model.distinct_pages(1, 128) == pytest.approx(1)
    assert model.distinct_pages(2, 2) == pytest.approx(1.5)
    assert model.distinct_pages(3, 1) == 1
    assert model.distinct_pages([0, 10**9], 64).tolist() == pytest.approx([0, 64])


@given(st.integers(1, 400), st.integers(2, 400))
def test_distinct_pages_are_bounded(writes, pages):
    found = model.distinct_pages(writes, pages)
    assert 1 - 1e-9 <= found <= min(writes, pages) + 1e-9
    assert found == pytest.approx(model.distinct_pages_weighted(writes, np.ones(pages)))


@pytest.mark.parametrize("weights", [np.ones(200), 1 / np.arange(1, 201)])
def test_distinct_pages_against_simulation(weights):
    simulated = model.simulated_distinct(300, weights, repetitions=400, seed=1)
    assert simulated == pytest.approx(model.distinct_pages_weighted(300, weights), rel=0.01)


def test_hot_pages_are_shared_longer():
    assert model.distinct_pages_weighted(300, 1 / np.arange(1, 201)) < model.distinct_pages(300, 200)


def test_start_waits_by_hand():
    assert model.start_waits([0, 0, 0, 1], 0.5, 2).tolist() == [0, 0, 0.5, 0]
    assert model.start_waits([0, 0], [3, 1], 1).tolist() == [0, 3]


def test_start_waits_against_erlang_c():
    means = []
    for seed in range(6):
        arrivals = sim.poisson(8.0, count=60_000, seed=seed)
        means.append(model.start_waits(arrivals, sim.exponential(1.0, count=60_000, seed=seed + 50), 10).mean())
    assert np.mean(means) == pytest.approx(sim.erlang_c(10, 8.0) / 2, rel=0.05)


def test_start_waits_against_pollaczek_khinchine():
    waits = [model.start_waits(sim.poisson(4.0, count=100_000, seed=s), 0.2, 1).mean() for s in range(4)]
    assert np.mean(waits) == pytest.approx(0.8 * 0.2 / (2 * 0.2), rel=0.05)


def test_a_burst_by_hand_and_by_the_queue():
    assert model.burst_time(36, 36) == pytest.approx(0.2)
    assert model.burst_time(37, 36) == pytest.approx(0.4)
    waits = model.start_waits(np.zeros(1_000), 1 / 5, 36)
    assert waits.max() + 0.2 == pytest.approx(model.burst_time(1_000, 36))


@given(st.integers(1, 50), st.integers(100, 2_000), st.integers(0, 20))
def test_transfer_time_against_the_limiter(size_kib, refill_ms, burst_kib):
    size, burst, portion = size_kib * 1024, burst_kib * 1024, 64
    total = 3 * size + burst
    clock = [0]
    document = {"bandwidth": {"size": size, "refill_time": refill_ms, "one_time_burst": burst}}
    limiter = RateLimiter.from_document(document, clock=lambda: clock[0])
    passed = 0
    while passed < total:
        if limiter.consume(portion, TokenType.BYTES):
            passed += portion
        else:
            clock[0] += round(limiter.blocked_for() * 1e9)
            limiter.event()
    wanted = model.transfer_time(total, size, refill_ms, burst)
    assert wanted - 1e-6 <= clock[0] / 1e9 <= wanted + 0.101 + portion * refill_ms / size / 1e3


def test_a_small_bucket_gets_less_than_its_rate():
    mib = 1 << 20
    big, small = {"size": 10 * mib, "refill_time": 100}, {"size": 2 * mib, "refill_time": 20}
    for bucket in (big, small):
        got = model.neighbours({"bandwidth": bucket}, seconds=20, seed=3).loud_rate
        assert got == pytest.approx(model.effective_rate(bucket["size"], bucket["refill_time"]), rel=0.02)
    assert model.effective_rate(**{"size": 2 * mib, "refill_ms": 20}) * 5 == model.effective_rate(10 * mib, 100)


def test_a_limit_spares_the_neighbour():
    free, limited = (model.neighbours(limit, seconds=10, seed=1) for limit in (None, {"bandwidth": {"size": 10 << 20, "refill_time": 100}}))
    assert free.percentile(50) > 60 and limited.percentile(50) < 1
    assert free.loud_rate > 4 * limited.loud_rate
    again = model.neighbours(None, seconds=10, seed=1)
    assert np.array_equal(again.latencies_ms, free.latencies_ms)


WALLS = [
    model.Wall("process", 1, 8, 0, 1, True, ""),
    model.Wall("wasm", 0.1, 10, 0, 3, False, ""),
    model.Wall("vm", 200, 5120, 0, 3, True, ""),
]


def chosen(**changes):
    load = model.Load(**({"threat": "mistakes", "instances": 1024, "starts_per_second": 10.0, "calls": 0.0, "memory_mib": 1.0} | changes))
    return model.options(load, WALLS, usd_per_gib_hour=1.0, usd_per_core_hour=1.0)


def test_options_by_hand():
    process, _, vm = chosen()
    assert process.memory_gib == pytest.approx(1 + 8 / 1024)
    assert vm.memory_gib == pytest.approx(6.0) and vm.cores == pytest.approx(2.0)
    assert vm.usd == pytest.approx(730 * 8)


@pytest.mark.parametrize(
    ("changes", "against"),
    [
        ({}, [None, "needs programs compiled for it", None]),
        ({"threat": "strangers"}, ["not against strangers", "needs programs compiled for it", None]),
        ({"threat": "strangers", "native": False, "wait_ms": 50}, ["not against strangers", None, "starts too slowly"]),
    ],
)
def test_what_speaks_against(changes, against):
    assert [option.against for option in chosen(**changes)] == against


def test_the_cheapest_that_does_is_marked():
    load = model.Load("strangers", 10, 1.0, 0.0, 1.0, native=False)
    rows = model.decide(load, WALLS, usd_per_gib_hour=1.0, usd_per_core_hour=1.0).rows
    assert [row[0] for row in rows if "cheapest" in row[1]] == ["wasm"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model.distinct_pages(-1, 5), "writes=-1"),
        (lambda: model.distinct_pages(1, 0), "pages=0"),
        (lambda: model.distinct_pages_weighted(1, [-1, 2]), "weights"),
        (lambda: model.start_waits([2, 1], 1.0, 1), "arrivals"),
        (lambda: model.start_waits([1], 0.0, 1), "service"),
        (lambda: model.burst_time(0, 1), "starts=0"),
        (lambda: model.transfer_time(1, 0, 1), "size=0"),
        (lambda: model.density(0), "memory_kib=0"),
        (lambda: model.Load("aliens", 1, 1.0, 1.0, 1.0), "threat='aliens'"),
        (lambda: model.Load("colleagues", 0, 1.0, 1.0, 1.0), "instances=0"),
        (lambda: model.Load("colleagues", 1, math.nan, 1.0, 1.0), "starts_per_second=nan"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
