"""Storms against their law, attraction against its closed form, and the bill of a fleet."""

import math

import numpy as np
import pytest

from beyondlab.mesh import storm, tax
from beyondlab.mesh.tax import Fleet, Proxy, Reader


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9])
def test_without_retries_the_backlog_drains_as_the_fluid_says(load):
    found = [storm.storm(500 * load, 500, retries=0, seed=seed, duration=40).recovery(40) for seed in range(3)]
    assert np.mean(found) == pytest.approx(storm.recovery_time(load, 2.0, 0.1), rel=0.2, abs=0.4)


@pytest.mark.parametrize(("load", "ends"), [(0.2, True), (0.3, False), (0.6, False), (0.9, False)])
def test_three_retries_are_safe_under_a_quarter_only(load, ends):
    found = storm.storm(300 * load, 300, retries=3, seed=4, duration=40)
    assert math.isfinite(found.recovery(40)) == ends == (storm.sustained_load(load, retries=3) < 1)


@pytest.mark.parametrize(("load", "ends"), [(0.3, True), (0.6, True), (0.7, True), (0.85, False)])
def test_a_budget_of_a_fifth_is_safe_under_four_fifths(load, ends):
    found = storm.storm(400 * load, 400, budget=0.2, seed=5, duration=40)
    assert math.isfinite(found.recovery(40)) == ends == (storm.sustained_load(load, retries=3, budget=0.2) < 1)


def test_a_storm_is_seeded_and_keeps_its_books():
    one, two = (storm.storm(100, 200, seed=6, duration=12) for _ in range(2))
    assert np.array_equal(one.answered, two.answered, equal_nan=True) and np.array_equal(one.attempts, two.attempts)
    assert np.all(np.diff(one.attempts) >= 0) and one.attempts.size >= one.arrival.size
    good = np.isfinite(one.answered)
    assert np.all(one.answered[good] - one.arrival[good] <= 0.1 * 4 + 1e-9), "four attempts of 0.1 s at most"
    sent, answered = one.by_second(12)
    assert sent.sum() == one.attempts.size and answered.sum() == good.sum()
    assert storm.storm(50, 200, outage=(5, 5), seed=6).success(0, 30) > 0.99, "no outage, no failure"


@pytest.mark.parametrize("hosts", [3, 10])
def test_who_fails_fast_wins_every_draw_it_is_in(hosts):
    assert storm.attraction("random", hosts) == pytest.approx(1 / hosts, rel=0.1)
    assert storm.attraction("peak EWMA", hosts) == pytest.approx(2 / hosts, rel=0.05)
    assert 1.3 / hosts < storm.attraction("least request", hosts) < 1 - (1 - 1 / hosts) ** 2 + 0.02
    assert storm.attraction("peak EWMA with penalty", hosts, in_flight=10) < 0.3 / hosts


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: storm.storm(0, 1), "rate=0"), (lambda: storm.storm(1, 1, retries=-1), "retries=-1"),
    (lambda: storm.storm(1, 1, outage=(5, 50)), "outage"), (lambda: storm.attraction("luck"), "luck"),
    (lambda: storm.attraction("random", 1), "hosts=1"), (lambda: storm.sustained_load(-1), "load=-1"),
    (lambda: Fleet(0, 1, 1), "nodes=0"), (lambda: Fleet(1, 1, 1, l7=2), "l7=2"), (lambda: Fleet(1, 1, 1, waypoints=0), "waypoints=0"),
    (lambda: Proxy(-1, 0), "cpu=-1"), (lambda: tax.compare(Fleet(1, 1, 1), -1), "hop=-1"),
])  # fmt: skip
def test_bad_input_is_told(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_the_bill_follows_requests_pods_and_nodes():
    fleet = Fleet(nodes=50, pods=1_000, requests=20_000, l7=0.3, waypoints=6)
    assert tax.sidecars(fleet).cpu == pytest.approx(8.0) and tax.sidecars(fleet).memory == pytest.approx(60)
    assert tax.ambient(fleet).cpu == pytest.approx(2 * 0.06 * 20 + 0.25 * 0.3 * 20)
    assert tax.ambient(fleet).memory == pytest.approx((50 * 12 + 6 * 60) / 1000)
    assert tax.same_cpu_share() == pytest.approx(1.12)
    at = Fleet(1, 1, 1_000, l7=1.0)
    assert tax.ambient(at, waypoint=Proxy(0.28, 60)).cpu == pytest.approx(tax.sidecars(at).cpu)


def test_alibabas_cores_are_what_istio_reserves():
    assert tax.reserved(Fleet(500, 15_000, 0)).cpu == 1_500


def test_compare_shows_every_way():
    text = repr(tax.compare(Fleet(50, 1_000, 20_000, 0.3, 6), hop=1.0))
    assert "Ambient, 30 % HTTP" in text and "reserved" in text and "nan" not in text


@pytest.mark.parametrize(("reader", "says"), [
    (Reader(100, 5, 5, 50, False, False, 5), "nothing that it does is needed"),
    (Reader(5, 1, 5, 50, False, True, 5), "library"),
    (Reader(100, 5, 5, 50, True, True, 0), "nobody"),
    (Reader(100, 5, 5, 50, True, False, 5), "without waypoints"),
    (Reader(100, 5, 10, 5, True, True, 5), "waypoints only where"),
    (Reader(100, 5, 10, 50, True, True, 5), "sidecars or ambient"),
])  # fmt: skip
def test_decide(reader, says):
    assert says in tax.decide(reader, hop=1.0)
