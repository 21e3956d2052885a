"""The composed simulation, held to closed forms and to the chapters whose models it calls."""

import ast
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from beyondlab import sim
from beyondlab.capstone import faults, model, money, nodes, numbers, product, scores, solutions, stages
from beyondlab.capstone.product import Choice, Product, Requirements
from beyondlab.durable import model as durable
from beyondlab.fleets import model as fleets
from beyondlab.hosting import costs as hosting
from beyondlab.kit import prices, recordings

FLEET = Product()
QUEUE = Choice("gvisor", "ambient", "cluster per country", "knative", "key-value", "queue")
PODS = replace(QUEUE, compute="containers", isolation="container", mesh="none")
FUNCTIONS = Choice("microvm", "none", "managed", "functions", "key-value", "queue")
SOURCE = Path(model.__file__).parents[1]


def test_every_combination_is_built_or_refused_with_a_reason():
    every = product.combinations()
    assert len(every) == len(set(every)) == 972
    for choice in every:
        if (reason := product.invalid(choice)) is None:
            assert choice in product.designs()
        else:
            with pytest.raises(model.Invalid, match=reason[:20]):
                model.evaluate(choice)
    assert len(product.designs()) == 369


@pytest.mark.parametrize(("change", "says"), [
    ({"compute": "functions"}, "functions need"), ({"compute": "serverless containers"}, "serverless containers need"),
    ({"orchestration": "managed"}, "Knative needs"), ({"orchestration": "managed", "compute": "containers"}, "need a cluster"),
    ({"orchestration": "managed", "compute": "serverless containers", "isolation": "container"}, "share a kernel"),
    ({"orchestration": "managed", "compute": "functions"}, "the platform decides"),
    ({"orchestration": "managed", "compute": "functions", "isolation": "microvm"}, "no pod"),
    ({"orchestration": "managed", "compute": "serverless containers"}, "ztunnel"),
])  # fmt: skip
def test_reasons(change, says):
    assert says in product.invalid(replace(QUEUE, **change))


@pytest.mark.parametrize("make", [
    lambda: Choice("jail", "none", "managed", "functions", "entity", "queue"), lambda: Product(devices=(0, 1)), lambda: Product(swing=1.5),
    lambda: Product(period=-1), lambda: Product(burst_alerting=2), lambda: Product(on_time=math.inf),
])  # fmt: skip
def test_bad_input_is_named(make):
    with pytest.raises(ValueError, match=r"\w+=.*must"):
        make()


def test_arrivals_add_up_to_the_readings_of_the_day():
    rates = []
    for moment in stages.MOMENTS[:3]:
        times, counts = stages.arrivals(FLEET, FLEET.devices, moment, 1)
        assert np.all(np.diff(times) >= 0)
        rates.append(counts.sum() / stages.SPAN)
        assert rates[-1] == pytest.approx(FLEET.rate * stages.level(FLEET, moment), rel=0.06)
    assert np.mean(rates) == pytest.approx(FLEET.rate, rel=0.03)
    cosine = np.cos(np.linspace(0, 2 * np.pi, 10_001))[:-1]
    for power in range(6):  # Chebyshev's nodes integrate polynomials of the cosine up to degree 5
        nodes = [(stages.level(FLEET, m) - 1) / FLEET.swing for m in stages.MOMENTS[:3]]
        assert np.mean(np.power(nodes, power)) == pytest.approx(np.mean(cosine**power), abs=1e-9)


def test_a_burst_has_what_was_buffered():
    times, counts = stages.arrivals(FLEET, (12_000,), "burst", 1)
    assert counts.sum() == 0.3 * 12_000 * 5
    assert stages.LEAD <= times[counts].min() and times[counts].max() <= stages.LEAD + FLEET.burst_seconds


def test_same_seed_same_readings_other_seed_others():
    a, b, c = (stages.arrivals(FLEET, (12_000,), "mean", seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a[:50], c[:50])


def test_pods_queue_as_mmc():
    came, took = sim.poisson(5.0, count=400_000, seed=3), sim.exponential(1.0, 400_000, seed=4)
    wait = stages.in_pods(came, took, 7, "queue") - took
    assert np.percentile(wait, 99) == pytest.approx(math.log(sim.erlang_c(7, 5.0) / 0.01) / 2, rel=0.08)
    assert wait.mean() == pytest.approx(sim.erlang_c_wait(7, 5.0, 1.0), rel=0.05)


def test_pods_queue_as_mg1():
    came, took = sim.poisson(0.7, count=300_000, seed=5), sim.lognormal(-0.125, 0.5, 300_000, 6)
    wait = stages.in_pods(came, took, 1, "queue") - took
    assert wait.mean() == pytest.approx(sim.pollaczek_khinchine(0.7, 1.0, math.sqrt(math.expm1(0.25))), rel=0.05)


def test_a_direct_call_is_refused_when_the_listen_queue_is_full():
    refused = stages.in_pods(np.linspace(0, 0.001, 500), np.full(500, 1.0), 2, "direct")
    assert np.isinf(refused).sum() == 500 - 2 * (1 + numbers.IN_CALL)


def test_always_on_is_hours_times_price():
    count = sum(pods for _, pods in stages.sites(FLEET, PODS))
    assert money.enrichment(FLEET, PODS) == pytest.approx(count * 730 * prices.price("fleet.vcpu-hour"))


def test_replicas_are_divided_by_devices():
    direct = replace(PODS, events="direct")
    assert stages.always_on(FLEET, direct) == 7
    assert [pods for _, pods in stages.sites(FLEET, direct)] == [4, 3]
    assert sum(stages.sites(FLEET, direct)[n][0][0] for n in (0, 1)) == 20_000


@pytest.mark.parametrize(("events", "rooms"), [("queue", [4, 3]), ("direct", [23, 15]), ("log", [4, 3])])
def test_room_for_a_burst_by_hand(events, rooms):
    choice, each = replace(QUEUE, events=events), numbers.seconds(1) if events == "direct" else numbers.seconds(10) / 10
    for site, devices in enumerate(FLEET.devices):
        wanted = (devices / 60 + devices * 0.3 * 5 / 10) * each * 1.03 / 0.7
        assert stages.most(FLEET, choice, site) == math.ceil(wanted) == rooms[site]
    assert stages.most(FLEET, replace(choice, compute="containers"), 0) == stages.sites(FLEET, replace(choice, compute="containers"))[0][1]


def test_a_log_feeds_no_more_than_its_partitions():
    large = Product(devices=(120_000, 80_000))
    assert stages.most(large, replace(QUEUE, events="log"), 0) == numbers.PARTITIONS < stages.most(large, QUEUE, 0)


@pytest.mark.parametrize("isolation", ["container", "gvisor", "microvm"])
@pytest.mark.parametrize("mesh", ["none", "sidecar", "ambient"])
def test_nodes_hold_their_pods_and_no_packing_needs_many_fewer(isolation, mesh):
    work = nodes.pod(replace(QUEUE, isolation=isolation, mesh=mesh))
    assert work[0] == pytest.approx(1 + 0.25 * (isolation == "microvm") + 0.1 * (mesh == "sidecar"))
    for pods in range(8):
        assert nodes.least(work, 1, pods) <= nodes.count(work, 1, pods) <= max(pods, nodes.least(work, 1, pods) + 1)
        assert nodes.count(work, 1, pods) <= nodes.count(work, 2, pods) and nodes.count(work, 1, pods) * 1.93 >= pods * work[0]


def test_what_runs_on_nodes_and_the_room_beside_it_is_the_price_of_the_nodes():
    lines = model.evaluate(QUEUE).lines
    on_nodes = sum(lines[name] for name in ("enrichment", "isolation", "mesh", "gateways, dashboard, batch", "room on nodes"))
    assert on_nodes == pytest.approx(7 * 2 * 730 * prices.price("fleet.vcpu-hour"))
    assert lines["control planes"] == pytest.approx(146) and money.whole_nodes(FLEET, FUNCTIONS) == 0
    assert model.evaluate(FUNCTIONS).lines["room on nodes"] == 0


def test_a_new_machine_pulls_a_shared_layer_once():
    assert nodes.pull(QUEUE) == pytest.approx((80 + 20) / 50)
    assert nodes.pull(replace(QUEUE, mesh="sidecar")) == pytest.approx((80 + 20 + 36) / 50)
    platform = Choice("microvm", "none", "managed", "serverless containers", "key-value", "queue")
    assert stages.start_of(platform) == pytest.approx(5 + 2 + numbers.WALLS["microvm"].start_ms / 1000 + numbers.INIT.value)


def test_a_page_waits_for_its_slowest_panel():
    read = model.held(FLEET, FUNCTIONS, durable.Request(reads=1, writes=0))
    drawn = np.random.default_rng(1).exponential(read, (200_000, 12)).max(axis=1)
    assert model.page(FLEET, FUNCTIONS) == pytest.approx(np.percentile(drawn, 99), rel=0.02)


def test_serverless_containers_cost_the_nearest_size_that_is_sold():
    fleet = hosting.scheme("Cloud Run, instances", hosting.Workload(vcpu=0.5, memory=512))
    assert money._platform(2, 0.5) == pytest.approx(2 * 730 * fleet.hour) and fleet.size.vcpu == 1.0


def test_functions_cost_requests_and_duration():
    lines = model.evaluate(replace(FUNCTIONS, events="direct")).lines
    reads = FLEET.readings
    by_hand = reads / 1e6 * 0.20 + reads * numbers.seconds(1) * money.GB_OF_A_VCPU * prices.price("lambda.duration-x86")
    assert lines["enrichment"] == pytest.approx(by_hand, rel=0.03)


def test_one_cluster_away_is_the_fleets_chapters_closed_form():
    away = faults.faults(FLEET, replace(PODS, orchestration="one cluster"))[0]
    plan = fleets.Plan(clusters=1, outages=2.0, hours=1.0, common=0.0, spare=0.0)
    assert away.unavailability == pytest.approx(1 - fleets.available(plan), rel=0.01)


@pytest.mark.parametrize("choice", [PODS, QUEUE, solutions.POPULAR, FUNCTIONS], ids=str)
def test_availability_is_the_product_and_is_lived(choice):
    found = faults.faults(FLEET, choice)
    rates = [replace(fault, rate=fault.rate * 20) for fault in found]  # often enough to be seen
    product_ = faults.availability(rates, late=0.001)
    assert product_ == pytest.approx(0.999 * math.prod(1 - fault.unavailability for fault in rates))
    lived = faults.lived(rates, late=0.001, months=400, seed=2)
    assert lived == pytest.approx(product_, abs=6e-4)
    assert faults.availability(found) > product_


def test_nobody_takes_over_for_b():
    first, second, *_ = faults.faults(FLEET, QUEUE)
    assert first.seconds < second.seconds == faults.OUTAGE
    assert faults.faults(FLEET, FUNCTIONS)[0].seconds < first.seconds


def test_a_log_waits_for_its_session_a_queue_only_for_a_batch_a_mesh_tries_again():
    by_events = {way: faults.faults(FLEET, replace(QUEUE, events=way))[2] for way in ("queue", "log", "direct")}
    assert by_events["log"].seconds == 45 and by_events["queue"].seconds == pytest.approx(10 / FLEET.rate)
    assert faults.faults(FLEET, replace(QUEUE, events="direct", mesh="none"))[2].unavailability > by_events["direct"].unavailability
    assert by_events["direct"].lost and not by_events["queue"].lost


def test_repeats_are_what_falls_between_sending_and_noting():
    rate, window, deaths = 0.5, 0.02, 400_000
    assert faults.repeats_lived(rate, window, deaths, seed=1) / deaths == pytest.approx(rate * window, rel=0.05)
    database = replace(QUEUE, state="database")
    assert model.evaluate(database).repeats > 0 == model.evaluate(QUEUE).repeats == model.evaluate(replace(database, events="direct")).repeats


def test_quantile_and_lateness_agree():
    found = model.distribution(FLEET, replace(PODS, orchestration="one cluster"))
    at = model.quantile(found, 0.99)
    values, shares = found
    assert shares[np.searchsorted(values, at, side="right") - 1] == pytest.approx(0.99, abs=1e-3)
    assert np.all(np.diff(values[np.isfinite(values)]) >= 0) and shares[-1] == pytest.approx(1)


def test_scores_follow_their_rules():
    assert scores.isolation(Choice("container", "none", "one cluster", "knative", "database", "log")) == 2
    assert scores.isolation(replace(QUEUE, mesh="none")) == 3 and scores.isolation(QUEUE) == 4
    assert scores.isolation(FUNCTIONS) == 5
    for choice in product.designs():
        assert 0 < scores.portability(choice) < 1
    assert scores.portability(QUEUE) > scores.portability(FUNCTIONS)
    assert scores.portability(replace(QUEUE, events="direct")) > scores.portability(QUEUE)


def test_the_assumptions_are_near_the_recordings():
    small = recordings.read("machine-learning").results["small_model"]["ONNX Runtime"].value / 1000
    gvisor = recordings.read("microvms").results["gvisor"]["start"].value
    namespace = recordings.read("microvms").results["namespace"]["start"].value
    batch = recordings.read("machine-learning").results["batchers"]["batch of 1"] / 1000
    pairs = [(numbers.INIT.value, small), (numbers.WALLS["gvisor"].start_ms, gvisor),
             (numbers.WALLS["container"].start_ms, namespace), (numbers.seconds(1), batch)]  # fmt: skip
    for ours, recorded in pairs:
        assert 0.1 < ours / recorded < 10


def test_misses_say_by_how_much():
    found = asdict(model.evaluate(solutions.POPULAR))
    by = {miss.requirement: miss.by for miss in product.misses(found)}
    assert by.keys() == {"p99", "isolation", "residency"} and by["isolation"] == 1 and by["residency"] == 1
    tight = product.misses({**found, "cost": 850.0, "p99": math.inf}, Requirements())
    assert "missed by 50 USD a month" in str(tight[0]) and "alerts are lost" in str(tight[1])


def test_score_is_evaluate():
    outcome, scored = model.evaluate(QUEUE), model.score(1, **asdict(QUEUE))
    assert scored["level"] == outcome.isolation and scored["cost"] == outcome.cost
    larger = model.score(1, devices_a=24_000, devices_b=16_000, **asdict(QUEUE))
    assert outcome.cost < larger["cost"] < 2 * outcome.cost


def test_the_table_of_models_names_what_is_really_called():
    text = "".join(path.read_text() for path in Path(model.__file__).parent.glob("*.py") if path.name != "model.py")
    text += Path(model.__file__).read_text().split("MODELS = (")[0]
    for _, package, called in model.MODELS:
        assert (SOURCE / package).is_dir()
        for name in called.replace(" (keep-alive)", "").replace(" (KPA)", "").split(", "):
            assert f"{name.split('.')[-1]}(" in text, name


def test_the_models_of_every_chapter_are_composed():
    assert {package for _, package, _ in model.MODELS} == set(model.CHAPTERS)
    titles = set()
    for path in (SOURCE.parents[1] / "notebooks").glob("*/*.ipynb"):
        first = json.loads(path.read_text("utf-8"))["cells"][0]["source"]
        titles.add("".join(first).splitlines()[0].removeprefix("# "))
    assert set(model.CHAPTERS.values()) == titles - {"Capstone: an IoT fleet, end to end"}


def test_no_chapter_imports_the_capstone():
    for path in SOURCE.rglob("*.py"):
        if path.parent.name == "capstone":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("beyondlab.capstone") for name in names), path
