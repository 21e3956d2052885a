"""The simulator: against closed forms, against the autoscaler that is held to Knative's tables, against itself."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.knative import kpa, model
from beyondlab.knative.aggregation import WindowAverage

DEFAULT = kpa.Settings()


@pytest.mark.parametrize(("rate", "seed"), [(1 / 60, 1), (1 / 200, 2), (1 / 20, 3)])
@pytest.mark.parametrize("grace", [0.0, 40.0])
def test_a_rare_function_is_cold_after_a_gap(rate, seed, grace):
    arrivals = sim.poisson(rate, count=20_000, seed=seed)
    got = model.simulate(arrivals, np.full(arrivals.size, 1e-3), start=0.01, grace=grace).cold_share
    least, most = model.zero_after(DEFAULT, grace)
    noise = 4 * math.sqrt(0.25 / arrivals.size)
    assert model.cold_share(rate, most) - noise < got < model.cold_share(rate, least) + noise


def test_a_fixed_fleet_is_erlangs_queue():
    waits = [
        model.simulate(sim.poisson(6, count=200_000, seed=seed), sim.exponential(1.0, count=200_000, seed=seed + 50),
                       concurrency=1, policy="fixed", initial=10).waits.mean()
        for seed in range(100, 112)
    ]  # fmt: skip
    assert np.mean(waits) == pytest.approx(sim.erlang_c_wait(10, 6.0, 1.0), rel=0.06)


def test_a_pod_with_room_for_all_never_makes_wait():
    arrivals = sim.poisson(5, count=5_000, seed=4)
    got = model.simulate(arrivals, sim.exponential(0.2, count=5_000, seed=5), policy="fixed", initial=1)
    assert got.waits.max() == 0 and got.cold == 0 and got.pod_seconds == pytest.approx(got.seconds)


@pytest.mark.parametrize("policy", ["kpa", "hpa"])
def test_both_engines_give_the_same_bits(policy):
    arrivals, service = sim.poisson(4, count=3_000, seed=6), sim.exponential(0.5, count=3_000, seed=7)
    one, two = (
        model.simulate(arrivals, service, concurrency=2, policy=policy, engine=engine, keep_ticks=2_000, start=1.5, grace=3)
        for engine in ("numba", "python")
    )
    assert np.array_equal(one.waits, two.waits) and np.array_equal(one.ticks, two.ticks)
    assert (one.pod_seconds, one.started, one.peak) == (two.pod_seconds, two.started, two.peak)


@pytest.mark.parametrize(("changes", "rate", "swing"), [
    ({}, 3.0, 1), ({"scale_down_delay": 20.0}, 3.0, 6), ({"activation_scale": 3}, 0.02, 1), ({"stable_window": 12.0, "panic_window_percentage": 50.0}, 2.0, 8),
])  # fmt: skip
def test_the_kernel_decides_as_the_autoscaler_that_is_held_to_knatives_tables(changes, rate, swing):
    own = replace(DEFAULT, **changes)
    quiet, loud = sim.poisson(rate, horizon=400, seed=8), sim.poisson(rate * swing, horizon=60, seed=9) + 150
    arrivals = np.sort(np.concatenate([quiet, loud]))
    service = sim.exponential(1.5, count=arrivals.size, seed=10)
    got = model.simulate(arrivals, service, settings=own, concurrency=4, start=1.0, keep_ticks=5_000)
    scaler = kpa.Autoscaler(kpa.Spec.of(own, container_concurrency=4))
    zeros = 0
    for now, ready, alive, stable, panic, desired in got.ticks:
        wanted = scaler.scale(now, int(ready), stable, panic).desired
        held = wanted == 0 and alive > 0 and desired == 1
        zeros += wanted == 0
        assert desired == wanted or held
    assert len(got.ticks) > 100 and got.ticks[:, 5].max() > 1 and (rate > 1 or zeros)


def test_the_kernels_windows_are_those_of_the_autoscaler():
    arrivals, service = sim.poisson(2.0, horizon=300, seed=11), None
    service = sim.exponential(2.0, count=arrivals.size, seed=12)
    got = model.simulate(arrivals, service, concurrency=4, policy="fixed", initial=3, keep_ticks=1_000, horizon=320)
    begins = arrivals + got.waits
    edges = np.arange(0, math.ceil(got.seconds) + 1)
    held = [np.clip(np.minimum(begins + service, edge + 1) - np.maximum(arrivals, edge), 0, None).sum() for edge in edges]
    stable, panic = WindowAverage(60), WindowAverage(6)
    second = 0
    for now, _, _, wide, narrow, _ in got.ticks:
        while second < now:
            stable.record(float(second), held[second])
            panic.record(float(second), held[second])
            second += 1
        assert wide == pytest.approx(stable.average(now - 1), abs=3e-6)
        assert narrow == pytest.approx(panic.average(now - 1), abs=3e-6)


def test_a_burst_from_zero_by_hand():
    """One poke, one pod; the next tick sees twelve waiting and asks for the most there may be."""
    own = model.with_settings(max_scale=3)
    got = model.simulate(np.full(12, 10.5), np.full(12, 0.3), settings=own, concurrency=2, start=1.0, keep_ticks=50)
    assert got.cold == 12 and got.peak == 3
    assert sorted(got.waits)[:2] == pytest.approx([1.0, 1.0])  # the poke's pod, ready at 11.5
    assert got.waits.max() == pytest.approx(1.0 + 5 * 0.3)  # five more pairs before the others are ready at 13


def test_knobs_move_what_they_should():
    load = model.traffic(20, hours=2)
    run = {
        name: model.fleet(name, load, concurrency=10, **options)
        for name, options in {
            "default": {}, "window": {"settings": model.with_settings(stable_window=600)},
            "retention": {"settings": model.with_settings(scale_to_zero_pod_retention_period=540)}, "grace": {"grace": 60.0},
            "always": {"settings": model.with_settings(min_scale=1)}, "hpa": {"policy": "hpa"},
        }.items()
    }  # fmt: skip
    default = run["default"]
    assert all(run[name].cold_share < default.cold_share for name in ("window", "retention", "grace"))
    assert all(run[name].pod_hours > default.pod_hours for name in ("window", "retention", "grace", "always", "hpa"))
    assert run["always"].cold_share == 0 and run["hpa"].cold_share == 0
    assert run["retention"].p99 <= run["window"].p99
    assert "pod" in str(model.fleets([default]).header).lower()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from(["kpa", "hpa"]))
def test_every_request_is_served_once(seed, concurrency, policy):
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, 400, 60))
    service = rng.exponential(3.0, 60)
    got = model.simulate(arrivals, service, concurrency=concurrency, policy=policy, start=1.0, engine="python")
    assert np.all(got.waits >= 0) and np.all(np.isfinite(got.waits))
    assert got.pod_seconds >= service.sum() / max(1, concurrency or 60) - 1e-6
    begins = np.sort(arrivals + got.waits)
    if concurrency:
        in_work = [(np.count_nonzero(begins <= t) - np.count_nonzero(arrivals + got.waits + service <= t)) for t in begins]
        assert max(in_work) <= concurrency * max(1, got.started)


@pytest.mark.parametrize(("arguments", "says"), [
    (dict(arrivals=[2.0, 1.0], service=[1.0, 1.0]), "must be sorted"), (dict(arrivals=[1.0], service=[1.0, 2.0]), "one entry for each"),
    (dict(arrivals=[1.0], service=[-1.0]), "service"), (dict(arrivals=[1.0], service=[1.0], start=-1), "start=-1"),
    (dict(arrivals=[1.0], service=[1.0], policy="magic"), "policy="), (dict(arrivals=[1.0], service=[1.0], policy="fixed"), "at least 1"),
    (dict(arrivals=[1.0], service=[1.0], concurrency=-1), "concurrency=-1"), (dict(arrivals=[1.0], service=[1.0], grace=math.nan), "grace"),
])  # fmt: skip
def test_bad_input(arguments, says):
    with pytest.raises(ValueError, match=says):
        model.simulate(**arguments)


def test_the_price_of_a_move():
    move = model.Move((model.Part("code", 0.75, 8.0), model.Part("rest", 0.0, 2.0)), functions=10, usd_hour=100.0, usd_month=500.0)
    assert move.hours == pytest.approx(40) and move.usd == pytest.approx(4_500) and move.lock_in == pytest.approx(9)
    assert move.pays_after(0.5) == pytest.approx(18) and move.pays_after(0.0) == math.inf
    assert replace(move, egress_gb=1000.0).usd > move.usd
    assert "code" in repr(move.table())
    with pytest.raises(ValueError, match="share"):
        model.Move((model.Part("code", 1.5, 1.0),))
    with pytest.raises(ValueError, match="functions"):
        model.Move((), functions=0)
    with pytest.raises(ValueError, match="saving"):
        move.pays_after(2.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_moves_costs_nothing(code, identity):
    assert model.move(code, 1, 1, identity, 1).hours == pytest.approx(20 * ((1 - code) * 16 + (1 - identity) * 4))


def test_too_many_functions():
    with pytest.raises(ValueError, match="functions="):
        model.traffic(400, hours=0.001)
