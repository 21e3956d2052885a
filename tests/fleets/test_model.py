"""Availability, cost, placement, leases: closed forms against the simulator, against each other, and against good sense."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.fleets import lease, model, propagation
from beyondlab.fleets.division import NotEnoughRoom
from beyondlab.fleets.lease import Entry, Times
from beyondlab.fleets.model import Plan, Timings, Workload
from beyondlab.fleets.propagation import Cluster, Policy, Unplaceable, place


@pytest.mark.parametrize(("clusters", "spare"), [(1, 0.0), (2, 0.0), (2, 1.0), (3, 0.5), (3, 2.0), (4, 1 / 3)])
@pytest.mark.parametrize("common", [0.0, 0.2])
def test_closed_form_and_simulation_agree(clusters, spare, common):
    plan = Plan(clusters, outages=6.0, hours=20.0, common=common, spare=spare, failover=0.5)
    seen = model.simulate(plan, years=20_000, seed=11)
    assert seen.down == pytest.approx(1 - model.available(plan), rel=0.08)
    assert seen.lost == pytest.approx(model.lost(plan), rel=0.08)


def test_the_same_seed_gives_the_same_years():
    plan = Plan()
    assert model.simulate(plan, years=100, seed=1) == model.simulate(plan, years=100, seed=1) != model.simulate(plan, years=100, seed=2)


def test_how_many_may_be_lost():
    assert [Plan(2, spare=0.0).survives, Plan(2, spare=1.0).survives, Plan(3, spare=0.5).survives, Plan(3, spare=2.0).survives, Plan(4, spare=1 / 3).survives] == [0, 1, 1, 2, 1]
    assert model.capacity_to_survive(4) == pytest.approx(4 / 3) and model.capacity_to_survive(2) == 2
    with pytest.raises(ValueError, match="losses=2"):
        model.capacity_to_survive(2, 2)


def test_when_everything_is_shared_more_clusters_help_nothing():
    assert model.lost(Plan(3, common=1.0, spare=2.0)) == pytest.approx(model.lost(Plan(1, common=1.0, spare=0.0)))


@given(st.floats(1e-5, 0.1), st.floats(0, 1))
def test_the_common_share_is_found_again(single, beta):
    pair = beta * single + ((1 - beta) * single) ** 2
    assert model.common_share(single, pair) == pytest.approx(beta, abs=1e-6)


@given(st.integers(1, 6), st.floats(0, 2), st.floats(0, 1))
@settings(max_examples=50)
def test_more_shared_outages_never_lose_less(clusters, spare, common):
    less, more = Plan(clusters, common=common, spare=spare), Plan(clusters, common=min(1, common + 0.1), spare=spare)
    if model.unserved(less)[-1] and spare >= 1 / max(1, clusters - 1) and clusters > 1:
        assert model.lost(more) >= model.lost(less) - model.gaps(less) - 1e-12


def test_after_a_loss():
    assert model.after_a_loss(2, 0.0, Timings(30, 300, 10, 120)) == [(0.0, 0.5), (340.0, 0.5), (460.0, 1.0)]
    assert model.after_a_loss(3, 0.5, Timings(30, 300, 10, 120)) == [(0.0, pytest.approx(2 / 3)), (340.0, pytest.approx(1.0))]
    assert model.lost_minutes(2, 1.0, Timings(30, 300, 10)) == pytest.approx(340 / 2 / 60)
    assert model.lost_minutes(1, 0.0, outage=3600) == pytest.approx(60)


def test_costs_add_up_and_a_dearer_hour_favours_more_clusters():
    cheap, dear = Workload(per_hour=100.0), Workload(per_hour=100_000.0)
    line = model.worth_it(cheap)
    assert line == pytest.approx(model.worth_it(dear)) and 100 < line < 100_000
    names = [row[0] for row in model.decide(cheap).rows if row[0].startswith("**")] + [row[0] for row in model.decide(dear).rows if row[0].startswith("**")]
    assert names[0] == "**one cluster**" and "cluster" not in names[1]
    assert set(model.monthly(Plan(), cheap)) == {"capacity", "control planes", "egress", "lost"}


@pytest.mark.parametrize(("pods", "each", "expected"), [(150_000, 30, (1, "pods")), (150_001, 30, (2, "pods")), (100_000, 10, (2, "nodes")), (550_000, 110, (4, "pods"))])
def test_published_limits(pods, each, expected):
    assert model.clusters_for(pods, each) == expected


@pytest.mark.parametrize("wrong", [
    lambda: Plan(0), lambda: Plan(outages=0), lambda: Plan(common=1.1), lambda: Plan(spare=-1), lambda: model.simulate(Plan(), years=0),
    lambda: model.clusters_for(0), lambda: Policy(objective="beauty"), lambda: Policy(at_least=3, at_most=2), lambda: Times(1, 2, 0.1), lambda: Times(15, 2.2, 2),
])  # fmt: skip
def test_bad_input_is_named(wrong):
    with pytest.raises(ValueError, match="="):
        wrong()


A, B, P = (Cluster("a", labels={"kind": "cloud"}, cost=0.04, latency=12), Cluster("b", labels={"kind": "cloud"}, cost=0.044, latency=25),
           Cluster("p", labels={"kind": "on-premises"}, room=8, cost=0.06, latency=4))  # fmt: skip
DOWN = Cluster("a", ready=False)
WEIGHTS = Policy(weights={"a": 3, "b": 2, "p": 1})


@pytest.mark.parametrize(("replicas", "clusters", "policy", "previous", "expected"), [
    (6, [A, B, P], WEIGHTS, {}, {"a": 3, "b": 2, "p": 1}),
    (6, [DOWN, B, P], WEIGHTS, {"a": 3, "b": 2, "p": 1}, {"b": 4, "p": 2}),
    (6, [A, B, P], WEIGHTS, {"b": 4, "p": 2}, {"b": 4, "p": 2}),
    (6, [A, B, P], WEIGHTS, None, {"a": 3, "b": 2, "p": 1}),
    (8, [A, B, P], WEIGHTS, {"b": 4, "p": 2}, {"a": 2, "b": 4, "p": 2}),
    (3, [A, B, P], WEIGHTS, {"b": 4, "p": 2}, {"b": 2, "p": 1}),
    (4, [A, B, P], Policy(affinity={"kind": "on-premises"}), {}, {"p": 4}),
    (10, [A, B, P], Policy(objective="cost"), {}, {"a": 10}),
    (10, [A, B, P], Policy(objective="cost", at_least=2), {}, {"a": 9, "b": 1}),
    (10, [A, B, P], Policy(objective="latency"), {}, {"a": 2, "p": 8}),
    (10, [A, B, P], Policy(objective="latency", max_latency=5, affinity={}), {}, None),
    (9, [A, B, P], Policy(at_most=2, weights={"a": 2}), {}, {"a": 6, "b": 3}),
])  # fmt: skip
def test_placement(replicas, clusters, policy, previous, expected):
    if expected is None:
        with pytest.raises(NotEnoughRoom):
            place(replicas, clusters, policy, previous)
    else:
        assert place(replicas, clusters, policy, previous) == expected


def test_what_stands_against_each_cluster_is_said():
    with pytest.raises(Unplaceable, match=r"1 of 3 clusters fit, 2 are needed \(a: not ready; p: 4 ms is over 1|a: not ready"):
        place(1, [DOWN, B, P], Policy(affinity={"kind": "cloud"}, at_least=2))


STATES = st.lists(st.booleans(), min_size=3, max_size=3).filter(any)


@given(st.integers(0, 40), st.lists(STATES, min_size=1, max_size=6))
def test_running_replicas_are_not_moved(replicas, history):
    """Through any sequence of losses and returns: all are placed, only on clusters that are there, and what stays up keeps its replicas."""
    previous: dict[str, int] = {}
    for states in history:
        clusters = [Cluster(name, ready=up) for name, up in zip("abc", states)]
        now = place(replicas, clusters, Policy(weights={"a": 3, "b": 2}), previous)
        assert sum(now.values()) == replicas
        assert all(dict(zip("abc", states))[name] for name in now)
        assert all(now.get(name, 0) >= count for name, count in previous.items() if dict(zip("abc", states))[name])
        previous = now


def test_moved_counts_what_starts_elsewhere():
    assert propagation.moved({"a": 3, "b": 2, "p": 1}, {"b": 4, "p": 2}) == 3


def test_reigns_overlap_and_fence():
    entries = [Entry(t / 10, "a", 0) for t in range(11)] + [Entry(0.8 + t / 10, "b", 1) for t in range(11)]
    entries.sort(key=lambda e: e.time)
    spans = lease.reigns(entries)
    assert spans == [("a", 0.0, 1.0), ("b", 0.8, 1.8)] and math.isclose(lease.overlap(spans), 0.2)
    assert {e.writer for e in lease.rejected_by_fence(entries)} == {"a"} and all(e.time > 0.8 for e in lease.rejected_by_fence(entries))
    assert lease.parse(["1.5 a 3"]) == [Entry(1.5, "a", 3)]
    assert lease.reigns([Entry(0, "a", 0), Entry(1, "a", 0)]) == [("a", 0, 0), ("a", 1, 1)]
