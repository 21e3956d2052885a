"""Costs and cold shares of one function, held to AWS's own worked examples and to the simulator."""

from heapq import heappop, heappush

import pytest

from beyondlab import sim
from beyondlab.functions import model
from beyondlab.functions.model import Workload
from beyondlab.kit.prices import price

MINE = Workload(rate=1 / 300, duration=0.2, init=0.8, memory=1.0, keep_alive=360.0)


def test_rates_give_awss_worked_example_of_provisioned_concurrency():
    """AWS's pricing page: 100 environments of 1.5 GB for 8 h; 500,000 requests of 100 ms in them, 2.5 million of 120 ms
    outside; the free tier of 1 million requests and 400,000 GB-seconds: 19.96 USD."""
    kept = 100 * 1.5 * 8 * 3600 * price("lambda.provisioned-x86")
    requests = (3e6 - 1e6) / 1e6 * price("lambda.requests")
    inside = 500_000 * 0.1 * 1.5 * price("lambda.provisioned-duration-x86")
    outside = (2.5e6 * 0.12 * 1.5 - 400_000) * price("lambda.duration-x86")
    assert round(kept, 2) == 18.00 and round(inside, 2) == 0.73 and round(outside, 2) == 0.83
    assert kept + requests + inside + outside == pytest.approx(19.96, abs=0.01)


def test_on_demand_bills_requests_duration_and_init():
    cold = sim.keep_alive_exact(1 / 300, 0.2, 360.0).cold_share
    seconds = 8640 * (0.2 + cold * 0.8)
    assert model.on_demand(MINE).usd == pytest.approx(8640 * 0.20 / 1e6 + seconds * 0.0000166667)


def test_init_surcharge_and_break_even():
    assert model.init_surcharge(0.01, 0.8, 0.1) == pytest.approx(0.08)
    assert model.break_even_utilisation() == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize(("rate", "count"), [(0.2, 1), (0.2, 2), (1.0, 4)])
def test_the_cold_share_beside_provisioned_environments(rate, count):
    """The closed form against a simulation in which provisioned environments are taken first, as Lambda does."""
    duration, keep_alive, requests = 2.0, 30.0, 400_000
    arrivals = sim.poisson(rate, count=requests, seed=1).tolist()
    service = sim.exponential(duration, count=requests, seed=2).tolist()
    provisioned, busy, idle, cold = [], [], [], 0
    for now, seconds in zip(arrivals, service):
        while provisioned and provisioned[0] <= now:
            heappop(provisioned)
        while busy and busy[0] <= now:
            idle.append(heappop(busy))
        if len(provisioned) < count:
            heappush(provisioned, now + seconds)
            continue
        if idle and now - idle[-1] <= keep_alive:
            idle.pop()
        else:
            idle.clear()
            cold += 1
        heappush(busy, now + seconds)
    exact = sim.keep_alive_exact(rate, duration, keep_alive, provisioned=count).cold_share
    assert cold / requests == pytest.approx(exact, rel=0.05)


def test_provisioned_is_cheaper_than_on_demand_only_when_busy():
    busy = Workload(rate=90.0, duration=0.1, init=0.5, memory=1.0)
    idle = Workload(rate=0.9, duration=0.1, init=0.5, memory=1.0)
    assert model.provisioned(busy, 1).usd < model.on_demand(busy).usd
    assert model.provisioned(idle, 1).usd > 3 * model.on_demand(idle).usd


def test_smallest_provision_is_the_smallest():
    workload = Workload(rate=2.0, duration=1.0, init=1.0)
    count = model.smallest_provision(workload, 1e-3)
    assert model.provisioned(workload, count).cold_share <= 1e-3
    assert count == 1 or model.provisioned(workload, count - 1).cold_share > 1e-3


def test_snapstart_shortens_the_wait_not_the_number():
    plain, snap = model.on_demand(MINE), model.snapstart(MINE, restore=0.3)
    assert snap.cold_share == plain.cold_share and (snap.cold_wait, plain.cold_wait) == (0.3, 0.8)
    cache = model.MONTH * price("lambda.snapstart-cache")
    assert cache == pytest.approx(3.90, abs=0.005) and snap.usd > cache


def test_decide_shows_every_option():
    shown = repr(model.decide(MINE))
    for name in ("On demand", "Ping every 300 s", "Provisioned concurrency 1", "SnapStart"):
        assert name in shown


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"rate": 0}, "rate=0"), ({"duration": -1}, "duration=-1"), ({"init": float("nan")}, "init=nan"),
     ({"memory": 11}, "memory=11"), ({"duration": 901}, "duration=901"), ({"keep_alive": float("inf")}, "keep_alive=inf")],
)  # fmt: skip
def test_bad_workloads_are_refused(change, complaint):
    good = {"rate": 1.0, "duration": 0.1, "init": 0.5}
    with pytest.raises(ValueError, match=complaint):
        Workload(**good | change)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: model.pinged(MINE, every=361), "every=361"),
        (lambda: model.pinged(MINE, ping_duration=0), "ping_duration=0"),
        (lambda: model.provisioned(MINE, 0), "count=0"),
        (lambda: model.snapstart(MINE, restore=0), "restore=0"),
        (lambda: model.smallest_provision(MINE, 1.0), "cold_share=1.0"),
        (lambda: model.init_surcharge(1.1, 1, 1), "cold_share=1.1"),
        (lambda: model.init_surcharge(0.1, 0, 1), "init=0"),
    ],
)
def test_bad_arguments_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
