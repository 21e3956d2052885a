"""Costs, Spot, rounding: against closed forms, invoices done by hand, and prices that must have date and source."""

from __future__ import annotations

import datetime
import math
from dataclasses import replace

import numpy as np
import pytest

from beyondlab import sim
from beyondlab.hosting import costs, model, sizes
from beyondlab.hosting.costs import Workload
from beyondlab.kit import prices
from beyondlab.kit.prices import price


def test_a_months_bill_by_hand():
    bill = costs.monthly(Workload(rate=0.1, cv=0.1))
    request = 0.1 * 730 * 3600 * (0.2e-6 + 1.0 * price("lambda.duration-x86") * (0.1 / (1024 / 1769) + 0.0005))
    assert bill["Lambda"] == pytest.approx(request, rel=1e-3)
    assert bill["Fargate"] == pytest.approx(730 * (0.5 * 0.04048 + 0.004445))
    assert bill["ACI"] == pytest.approx(730 * (0.0405 + 0.00445))
    assert bill["Kubernetes"] == pytest.approx(730 * (0.10 + 0.096))
    assert bill["reserved VM"] == pytest.approx(730 * 0.0671)


def test_published_bills():
    """Fortem: 1 vCPU and 2 GB on Fargate, 36.04 USD a month, on Arm 28.84. Keystone: 1 M × 0.2 s × 512 MB, 1.87 USD."""
    for kind, usd in (("x86", 36.04), ("arm", 28.84)):
        hour = price(f"fargate.vcpu-{kind}") + 2 * price(f"fargate.memory-{kind}")
        assert 730 * hour == pytest.approx(usd, abs=0.01)
    assert 1e6 * (0.2e-6 + 0.1 * price("lambda.duration-x86")) == pytest.approx(1.87, abs=0.005)


def test_the_break_even_is_where_both_cost_the_same():
    for name in ("Lambda", "Lambda, Arm", "Cloud Run, requests"):
        for fleet in ("Fargate", "Fargate, Arm", "ACI"):
            rate = costs.break_even(name, fleet)
            load = Workload(rate=rate, cv=0.01)
            if load.instances(costs.scheme(fleet, load).size.vcpu) <= 1:
                bill = costs.monthly(load, (name, fleet))
                assert bill[name] == pytest.approx(bill[fleet], rel=1e-6)
    with pytest.raises(ValueError, match="one is paid by the request"):
        costs.break_even("Fargate", "ACI")


def test_waiting_moves_it_down():
    assert costs.break_even("Lambda", "Fargate", Workload(wait=0.2)) < 0.6 * costs.break_even("Lambda", "Fargate")


@pytest.mark.parametrize("instances", [0.05, 0.5, 1.0, 1.3, 7.7])
@pytest.mark.parametrize("hold", [1, 5, 15])
def test_the_mean_count_of_random_bursts(instances, hold):
    minutes = 100_000
    demand = np.bincount((sim.poisson(1 / 60, horizon=60.0 * minutes, seed=3) // 60).astype(int), minlength=minutes).astype(float)
    load = Workload(rate=instances, work=0.7, vcpu=1.0)
    counted = costs.Fleet(sizes.Size(1, 1024), 1.0, hold=hold).mean_count(load, demand)
    assert counted == pytest.approx(costs.poisson_mean_count(instances, hold=hold), rel=0.02)


def test_steady_load_needs_what_division_says():
    load = Workload(rate=33.0, cv=0.01)
    assert costs.scheme("Fargate", load).mean_count(load, np.ones(100)) == math.ceil(33 * 0.2 / 0.7)
    assert costs.scheme("ACI", load).mean_count(load, np.ones(100)) == math.ceil(33 * 0.1 / 0.7)
    assert costs.scheme("Kubernetes", load).mean_count(load, np.ones(100)) == math.ceil(33 * 0.2 / 0.7 / 3)


def test_bursts():
    for cv in (0.1, 1.0, 5.0):
        demand = costs.bursts(cv)
        assert demand.mean() == pytest.approx(1) and demand.min() >= 0
    assert costs.bursts(0.1).std() < 0.2 < costs.bursts(1.0).std() < costs.bursts(5.0).std()


def test_held():
    assert costs.held(np.array([0.0, 3, 1, 0, 0, 2]), 3).tolist() == [0, 3, 3, 3, 1, 2]
    assert costs.held(np.array([1.0, 0]), 10).tolist() == [1, 1]
    with pytest.raises(ValueError, match="hold=0"):
        costs.held(np.ones(2), 0)


def test_the_map():
    found = costs.cost_map([0.1, 1, 10, 100], [0.05, 3.0], ("Lambda", "Fargate"))
    assert found.usd.shape == (2, 2, 4)
    assert found.name(0.05, 0.1) == "Lambda" and found.name(0.05, 100) == "Fargate" and found.name(3, 100) == "Lambda"
    line = found.line("Lambda", "Fargate")
    assert 1 < line[0] < 10 and np.isnan(line[1])
    assert sum(found.shares().values()) == pytest.approx(1)
    assert found.only(["Fargate"]).shares() == {"Fargate": 1.0}


def test_spot_is_never_dearer_and_the_cluster_wins_nowhere_on_this_map():
    found = costs.cost_map(np.geomspace(0.01, 1000, 11), np.geomspace(0.1, 10, 5))
    spot, fargate, cluster = (found.usd[found.platforms.index(name)] for name in ("Fargate Spot", "Fargate", "Kubernetes"))
    assert (spot < 0.35 * fargate).all() and (cluster > fargate).all()


def test_prices_are_dated_and_sourced(monkeypatch, tmp_path):
    assert len(costs.used()) == 19 and costs.second_hand() >= 10
    oldest, newest, days = costs.age(datetime.date(2026, 12, 31))
    assert oldest <= newest and days == (datetime.date(2026, 12, 31) - oldest).days
    file = prices.resources.files("beyondlab.kit").joinpath("prices.toml")
    good = file.read_text()

    class Files:
        def __init__(self, text):
            self.text = text

        def joinpath(self, name):
            return self

        def read_text(self):
            return self.text

    for line, complaint in (("date = 2026-11-27\n", "date"), ('source = "https://prices.azure.com/api/retail/prices"\n', "source")):
        begin = good.index("[aci.vcpu]")
        broken = good[:begin] + good[begin:].replace(line, "", 1)
        monkeypatch.setattr(prices.resources, "files", lambda _, broken=broken: Files(broken))
        with pytest.raises(ValueError, match=f"aci.vcpu in prices.toml: .*{complaint}"):
            prices.every.__wrapped__()


def test_workloads_that_make_no_sense():
    for wrong in ({"rate": 0}, {"work": math.nan}, {"cv": 0.001}, {"target": 1.1}, {"wait": -1}, {"memory": math.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
            replace(Workload(), **wrong)
    with pytest.raises(ValueError, match="name='EC2': must be one of Lambda"):
        costs.scheme("EC2", Workload())
    with pytest.raises(ValueError, match="no pod of this size fits"):
        costs.monthly(Workload(vcpu=4, memory=8192))


@pytest.mark.parametrize(("tasks", "every", "back", "job"), [(1, 2, 300, 30), (20, 24, 300, 60), (5, 1, 900, 120)])
def test_spot_against_the_closed_form(tasks, every, back, job):
    found = model.spot(tasks, days=400, every=every, back=back, job=job, stop_timeout=60, seed=2)
    assert found.down == pytest.approx(model.spot_down(every, back), rel=0.08)
    assert found.short == pytest.approx(model.spot_short(tasks, every, back), rel=0.08)
    assert found.lost == pytest.approx(model.job_lost(job, 60), abs=0.03)
    assert found.interruptions == pytest.approx(tasks * 400 * 86_400 / (every * 3600 + back), rel=0.08)


def test_spot_errors():
    good = {"tasks": 1, "days": 1, "every": 1, "back": 1, "job": 1}
    for name in good:
        with pytest.raises(ValueError, match=f"{name}=0"):
            model.spot(**good | {name: 0})
    with pytest.raises(ValueError, match="stop_timeout=121"):
        model.spot(**good, stop_timeout=121)


def test_union_of_intervals():
    begin, end = np.array([5.0, 0, 1, 9]), np.array([7.0, 2, 3, 10])
    assert model._union(begin, end) == 6 and model._union(begin[:0], end[:0]) == 0


def test_rounding():
    assert model.rounding_waste([(0.25, 512), (1, 2048)], "fargate") == pytest.approx(0)
    assert model.rounding_waste([(0.25, 512)], "aci") == pytest.approx((0.04048 + 0.004445) / (0.01012 + 0.0022225) - 1)
    wanted = model.needs(500)
    assert all(0.05 <= cpu <= 4 and 64 <= memory <= 8192 for cpu, memory in wanted)
    assert model.needs(500) == wanted != model.needs(500, seed=2)


def test_packing():
    found = model.packing(model.shapes(200))
    assert found["lower bound"] <= min(v for k, v in found.items() if k != "lower bound")
    assert found["first fit, largest first"] < found["first fit"]
