"""Real Envoys: what they are told, they do; what they must refuse, they refuse; nothing is left."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from beyondlab.kit import processes
from beyondlab.mesh import lab as labs
from beyondlab.mesh import spans, xds
from beyondlab.mesh.ca import Authority
from beyondlab.mesh.description import Limits, Outliers, Retries, pair, shop
from beyondlab.mesh.lab import Mesh, Rejected, by_host, served, statuses
from beyondlab.mesh.model import OutlierDetector

pytestmark = pytest.mark.skipif(labs.missing() is not None, reason=str(labs.missing()))


@pytest.fixture(scope="module")
def mesh():
    with Mesh(spans=True) as running:
        yield running


@pytest.fixture(autouse=True)
def as_at_the_beginning(request):
    yield
    if "mesh" in request.fixturenames:
        running = request.getfixturevalue("mesh")
        for instance in ("web", "orders", "stock"):
            running.behave(instance, delay=0.0, fail=0.0, status=503, workers=0)
        running.apply(shop())


def test_requests_go_through_all_three_services(mesh):
    answers = mesh.send(40)
    assert statuses(answers) == {200: 40}
    assert sum(served(answers, "orders").values()) == sum(served(answers, "stock").values()) == 40
    assert len(served(answers, "stock")) == 10, "round robin reaches every instance"


@pytest.mark.parametrize("v2", [0, 25, 100])
def test_a_split_is_a_split(mesh, v2):
    mesh.apply(orders={"split": {"v1": 100 - v2, "v2": v2}})
    found = served(mesh.send(200), "orders").get("orders-v2", 0)
    assert abs(found - 2 * v2) <= 4 * np.sqrt(200 * (v2 / 100) * (1 - v2 / 100)) + 1e-9


def test_splits_change_under_load_without_a_failed_request(mesh):
    def back_and_forth():
        for v2 in (10, 90, 50):
            mesh.apply(orders={"split": {"v1": 100 - v2, "v2": v2}})
        mesh.apply(shop())

    assert statuses(mesh.send(150, rate=100, during=back_and_forth)) == {200: 150}


def test_a_time_out_answers_504(mesh):
    mesh.behave("stock", delay=1.0)
    mesh.apply(stock={"timeout": 0.05})
    assert statuses(mesh.send(10, clients=10)) == {504: 10}


def test_retries_reach_another_instance(mesh):
    mesh.behave("stock-a1", fail=1.0)
    assert statuses(mesh.send(40))[503] == 4
    mesh.apply(stock={"retries": Retries(2, budget=None)})
    assert statuses(mesh.send(40)) == {200: 40}


def test_a_budget_caps_what_retries_add(mesh):
    mesh.behave("stock", delay=0.5)
    made = {}
    for budget in (None, 0.2):
        mesh.apply(stock={"retries": Retries(3, budget, least=0, per_try_timeout=0.1)})
        before = mesh.stat("orders", "cluster.stock.upstream_rq_retry")
        mesh.send(100, rate=200, via="orders")
        made[budget] = mesh.stat("orders", "cluster.stock.upstream_rq_retry") - before
    assert made[None] > 250 and made[0.2] < 60


def test_a_circuit_breaker_refuses_what_is_too_much(mesh):
    mesh.apply(stock={"limits": Limits(requests=3)})
    mesh.behave("stock", delay=0.5)
    assert statuses(mesh.send(10, clients=10, via="orders")) == {200: 3, 503: 7}


@pytest.mark.parametrize(("percent", "ejected"), [(10, 1), (29, 2), (30, 3), (100, 4)])
def test_envoy_and_the_model_eject_the_same(mesh, percent, ejected):
    mesh.apply(stock={"outliers": Outliers(3, interval=0.2, base_ejection=60.0, max_ejection_percent=percent)})
    seen_before = len(mesh.ejections("orders"))
    for broken in ("stock-a1", "stock-a4", "stock-b2", "stock-b5"):
        mesh.behave(broken, fail=1.0)
    answers = by_host(mesh.send(100, clients=1, via="orders"))
    real = [event.instance for event in mesh.ejections("orders", least=seen_before + ejected)][seen_before:]
    ours = OutlierDetector([i.name for i in mesh.description.of("stock")], consecutive=3, max_percent=percent)
    for moment, host, failed in answers:
        ours.result(host, failed, moment)
    assert real == ours.ejected_in_order and len(real) == ejected


def test_locality_failover_and_back(mesh):
    mesh.apply(stock={"locality_failover": True, "outliers": Outliers(2, 0.1, 1.0, 100)})
    assert {name[6] for name in served(mesh.send(20), "stock")} == {"a"}
    mesh.behave("stock-a", fail=1.0)
    mesh.send(40)
    mesh.healthy("orders", 5)
    assert {name[6] for name in served(mesh.send(20), "stock")} == {"b"}
    mesh.behave("stock-a", fail=0.0)
    mesh.healthy("orders", 10)
    assert {name[6] for name in served(mesh.send(20), "stock")} == {"a"}


def test_mutual_tls_is_switched_on_and_off_under_load(mesh):
    on = mesh.send(120, rate=100, during=lambda: mesh.apply(orders={"mutual_tls": True}, stock={"mutual_tls": True}))
    off = mesh.send(120, rate=100, during=lambda: mesh.apply(shop()))
    assert statuses(on) == statuses(off) == {200: 120}


def test_identities_decide_who_gets_in(mesh):
    mesh.apply(orders={"mutual_tls": True, "callers": ("web",)}, stock={"mutual_tls": True, "callers": ("orders",)})
    issue = mesh.authority.issue
    assert mesh.knock("orders-v1", issue("web")) == "200" and statuses(mesh.send(4)) == {200: 4}
    assert mesh.knock("orders-v2", issue("stock")) == mesh.knock("orders-v1", issue("web"), method="POST") == "403"
    assert mesh.knock("orders-v1", None) == mesh.knock("orders-v1", Authority().issue("web")) == "refused"
    mesh.apply(stock={"callers": ()})
    assert mesh.knock("stock-a1", issue("orders")) == "403", "no caller is allowed at all"
    assert statuses(mesh.send(4)) == {403: 4}


def test_the_called_one_sees_who_calls(mesh):
    mesh.apply(stock={"mutual_tls": True})
    body = json.loads(mesh.send(1).bodies[0])
    assert "URI=spiffe://cluster.local/ns/lab/sa/orders" in body["caller"]


def test_rotation_shows_a_new_certificate_and_fails_nothing(mesh):
    mesh.apply(orders={"mutual_tls": True})
    assert mesh.shown("orders-v1") == mesh.identities["orders"].serial
    answers = mesh.send(100, rate=100, during=lambda: mesh.rotate("orders"))
    processes.wait_until(lambda: mesh.shown("orders-v1") == mesh.identities["orders"].serial, timeout=10, what="rotation")
    assert statuses(answers) == {200: 100}


def test_a_trace_is_in_one_piece_and_in_the_logs(mesh):
    with spans.root_span(mesh.collector) as (number, headers):
        mesh.send(1, headers=headers)
    found = mesh.collector.wait(number, 11)
    assert spans.roots(found) == 1 and len(found) == 11
    assert {span.service for span in found} == {"client", "web", "orders", "stock"}
    assert mesh.lines(number, 5) == 5


def test_an_unsampled_request_leaves_no_spans(mesh):
    before = len(mesh.collector.spans())
    mesh.send(5)
    time.sleep(0.5)
    assert len(mesh.collector.spans()) == before


def test_what_envoy_refuses_is_raised_with_its_words(mesh):
    sidecar = mesh.sidecars["web"]
    version = sidecar.files.publish("routes-to-orders", labs.ROUTES, [xds.route_table("wrong-name", [])])
    with pytest.raises(Rejected, match="wrong-name|Unexpected RDS"):
        sidecar.envoy.wait_for("routes-to-orders", version)


def test_a_running_mesh_keeps_its_instances(mesh):
    with pytest.raises(ValueError, match="instances and calls stay"):
        mesh.apply(pair())
    with pytest.raises(ValueError, match="no instance"):
        mesh.behave("nobody", fail=1.0)


def test_the_tax_measures_every_path():
    found = labs.tax(rates=(50, 100), seconds=0.4)
    assert [(toll.path, toll.rate) for toll in found] == [(path, rate) for path in labs.PATHS for rate in (50, 100)]
    assert all(toll.failed == 0 for toll in found)
    by_path = {toll.path: toll for toll in found}
    assert by_path["direct"].cpu == by_path["direct"].memory == 0
    assert by_path["two proxies"].memory > 1.5 * by_path["one proxy"].memory > 30
    assert 0 < by_path["one proxy"].percentile(50) <= by_path["one proxy"].percentile(99)


def shared_memory():
    return {path.name for path in Path("/dev/shm").glob("envoy_*")} if Path("/dev/shm").is_dir() else set()


def test_nothing_is_left_not_even_after_an_error():
    before = shared_memory()
    with pytest.raises(RuntimeError, match="on purpose"):
        with Mesh(pair(), logs=False) as running:
            folder = running.folder
            assert len(processes.carriers(processes.owner_token())) >= 3
            raise RuntimeError("on purpose")
    assert not folder.exists()
    assert shared_memory() <= before
