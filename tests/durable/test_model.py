"""The model: simulation against closed form, limits, and the arithmetic of bills and snapshots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.durable import model
from beyondlab.durable.model import ARCHITECTURES, Costs, Month, Request
from beyondlab.durable.replay import Log, Replay, _plain

COSTS, REQUEST = Costs(), Request()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_simulation_agrees_with_the_closed_form(name, share):
    rate = share * min(model.capacity(name, REQUEST, COSTS), 4_000)
    seconds = model.simulate(name, rate, REQUEST, COSTS, requests=12_000, seed=5)
    assert seconds == pytest.approx(model.latency(name, rate, REQUEST, COSTS), rel=0.06)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_idle_system_costs_the_sum_of_its_operations(name):
    wanted = {"remote": 0.001 + 6 * 0.0015, "cached": 0.001 + 3.8 * 0.00005 + 0.2 * 0.0015, "log": 0.001 + 4 * 0.00005 + 2 * 0.0015,
              "partition": 0.001 + 4 * 0.00005 + 0.005}  # fmt: skip
    assert model.latency(name, 0.01, REQUEST, COSTS) == pytest.approx(wanted[name], rel=1e-3)


def test_latency_rises_with_the_rate_until_the_store_is_full():
    for name in ("remote", "cached", "log"):
        full = model.capacity(name, REQUEST, COSTS)
        times = [model.latency(name, share * full, REQUEST, COSTS) for share in (0.1, 0.5, 0.9, 0.99)]
        assert times == sorted(times) and times[-1] > 1.2 * times[0]
        assert model.latency(name, 1.01 * full, REQUEST, COSTS) == math.inf
    assert model.latency("partition", 1e6, REQUEST, COSTS) < 0.0088


@pytest.mark.parametrize("rate", [2.0, 40.0, 200.0, 2_000.0])
def test_group_commit_agrees_with_its_simulation(rate):
    arrivals = sim.poisson(rate, count=60_000, seed=7)
    measured = np.mean(model.commits(arrivals, 0.01) - arrivals)
    assert measured == pytest.approx(model.group_commit(rate, 0.01), rel=0.01)


def test_group_commit_between_one_and_one_and_a_half_flushes():
    assert model.group_commit(1e-6, 0.01) == pytest.approx(0.01)
    assert model.group_commit(1e6, 0.01) == pytest.approx(0.015)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.floats(0.01, 2))
def test_commits_by_brute_force(moments, flush):
    moments = sorted(moments)
    done, free, waiting = {}, -math.inf, list(range(len(moments)))
    while waiting:
        begin = max(free, moments[waiting[0]])
        taken = [i for i in waiting if moments[i] <= begin]
        free = begin + flush
        done.update(dict.fromkeys(taken, free))
        waiting = [i for i in waiting if i not in done]
    assert model.commits(moments, flush) == pytest.approx([done[i] for i in range(len(moments))])


def test_commits_must_be_in_order():
    with pytest.raises(ValueError, match="sorted"):
        model.commits([2.0, 1.0], 0.1)


@pytest.mark.parametrize(("steps", "every"), [(1, None), (7, None), (100, None), (100, 10), (23, 5), (5, 50)])
def test_replayed_steps_are_counted_by_the_engine(tmp_path, steps, every, monkeypatch):
    """The engine wakes up after each step and reads what its log holds."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
    read, done, path = 0, 0, tmp_path / "x.log"
    while done < steps:
        log = Log(path)
        replay = Replay(log, {"add": lambda key: 1})
        known = len(log.events) // 2
        read += known
        for _ in range(known + 1):
            replay.call("add")
        done += 1
        if every and done % every == 0:
            path.unlink()
    assert read == model.replayed_events(steps, every=every)


def test_snapshots_leave_their_interval_over_two():
    whole, cut = model.replayed_events(10_000), model.replayed_events(10_000, every=100)
    assert whole == 10_000 * 9_999 // 2 and cut == 100 * 4_950


def test_best_interval_is_the_least_of_the_sum():
    snapshot, replay, survival = 0.02, 5e-5, 2_000
    best = model.best_interval(snapshot, replay, survival)

    def cost(n):
        return snapshot / n + replay * n / 2 / survival

    assert cost(best) < min(cost(0.9 * best), cost(1.1 * best))
    assert best == pytest.approx(1264.9, abs=0.1)


def test_lockstep_by_playing_it():
    writers, attempts = 64, 0
    while writers:
        attempts += writers
        writers -= 1
    assert model.lockstep_attempts(64) == attempts == 2_080


def test_the_bill_by_hand():
    usd = model.bill(Month(orders=2e6, steps=4, seconds=0.5, gb=0.125))
    assert usd == pytest.approx({
        "Step Functions Standard": 2 * 6 * 25, "Step Functions Express": 2 * 1.0 + 125_000 * 0.00001667,
        "Lambda durable functions": 2 * 5 * 8, "Temporal Cloud": 2 * 5 * 50, "Durable Objects": 2 * 0.15 + 0.125 * 12.5,
    })  # fmt: skip
    assert [row[0] for row in model.decide(Month()).rows][0] == "Durable Objects"


def test_the_decision_table_is_complete():
    names = {engine.name for engine in model.ENGINES}
    for wanted in ("Step Functions", "Lambda durable", "Azure Durable", "Temporal", "Restate", "DBOS", "Durable Objects", "Flink"):
        assert any(wanted in name for name in names), wanted
    assert len(model.engines_table().rows) == len(model.ENGINES) == 8


@pytest.mark.parametrize(("call", "says"), [
    (lambda: Costs(store=0), "store=0"), (lambda: Costs(hit=1.5), "hit=1.5"), (lambda: Request(0, 0), "reads=0"),
    (lambda: model.latency("tape", 1, REQUEST, COSTS), "tape"), (lambda: model.latency("log", 0, REQUEST, COSTS), "rate=0"),
    (lambda: model.simulate("tape", 1, REQUEST, COSTS, requests=10), "tape"), (lambda: model.group_commit(1, -1), "flush=-1"),
    (lambda: model.replayed_events(0), "steps=0"), (lambda: model.best_interval(0, 1, 1), "snapshot=0"),
    (lambda: model.lockstep_attempts(0), "writers=0"), (lambda: Month(steps=0), "steps=0"),
])  # fmt: skip
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_plain_is_what_a_file_gives_back():
    assert _plain({"a": (1, 2), 3: None}) == {"a": [1, 2], "3": None}
