"""Descriptions, certificates, spans, Istio's and Linkerd's resources: all that needs no Envoy."""

import datetime
import json

import pytest
from cryptography import x509

from beyondlab.mesh import kubernetes, spans, xds
from beyondlab.mesh.ca import Authority
from beyondlab.mesh.description import (
    Description, Instance, Limits, Outliers, Policy, Retries, shop, spiffe_id,
)  # fmt: skip
from beyondlab.mesh.spans import Span, depth_first, parse_traceparent, roots, self_seconds


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: Policy(split={"v1": 60, "v2": 60}), "sum to 100"),
    (lambda: Policy(split={"v1": -10, "v2": 110}), "at least 0"),
    (lambda: Policy(timeout=0), "timeout=0"),
    (lambda: Policy(retries=Retries(0)), "attempts=0"),
    (lambda: Policy(retries=Retries(1, budget=2.0)), "budget=2.0"),
    (lambda: Policy(locality_failover=True), "needs outliers"),
    (lambda: Policy(callers=("web",)), "needs mutual_tls"),
    (lambda: shop().change("orders", split={"v9": 100}), "v9"),
    (lambda: Description((Instance("a", "a"),), {"a": "b"}), "'b'"),
])  # fmt: skip
def test_a_description_that_makes_no_sense_is_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_files_are_replaced_whole_and_only_when_they_change(tmp_path):
    files = xds.Files(tmp_path / "web")
    assert files.publish("clusters", "config.cluster.v3.Cluster", [{"name": "a"}]) == "1"
    first = (files.folder / "clusters.json").stat().st_ino
    assert files.publish("clusters", "config.cluster.v3.Cluster", [{"name": "a"}]) is None
    assert (files.folder / "clusters.json").stat().st_ino == first
    assert files.publish("clusters", "config.cluster.v3.Cluster", [{"name": "b"}]) == "2"
    written = json.loads((files.folder / "clusters.json").read_text())
    assert written["version_info"] == "2" and written["resources"][0]["@type"].endswith("config.cluster.v3.Cluster")
    assert (files.folder / "clusters.json").stat().st_ino != first, "renamed into place, not written over"
    assert [path.name for path in files.folder.iterdir()] == ["clusters.json"]


@pytest.mark.parametrize(("seconds", "text"), [(5.0, "5s"), (0.25, "0.25s"), (0.001, "0.001s"), (10, "10s"), (0, "0s")])
def test_durations_of_xds(seconds, text):
    assert xds._seconds(seconds) == text


def test_locality_priorities():
    ports = {instance.name: number for number, instance in enumerate(shop().instances, 1)}
    plain = xds.endpoints("stock", shop(), ports)["stock"]["endpoints"]
    assert [zone["priority"] for zone in plain] == [0, 0]
    wish = shop().change("stock", locality_failover=True, outliers=Outliers())
    assert [(z["locality"]["zone"], z["priority"]) for z in xds.endpoints("stock", wish, ports)["stock"]["endpoints"]] == [("a", 0), ("b", 1)]


def test_certificates_carry_one_identity_and_a_short_life():
    authority = Authority()
    identity = authority.issue("web", hours=0.5)
    found = x509.load_pem_x509_certificate(identity.certificate.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [spiffe_id("web")] and names.critical
    assert found.not_valid_after_utc - datetime.datetime.now(datetime.UTC) < datetime.timedelta(minutes=31)
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.bundle.encode()))
    with pytest.raises(Exception):
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(Authority().bundle.encode()))
    assert authority.issue("web").serial != identity.serial
    with pytest.raises(ValueError, match="hours=0"):
        authority.issue("web", hours=0)


# W3C Trace Context, section 3.2.2
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(("header", "wanted"), [
    (f"00-{TRACE}-{PARENT}-01", (TRACE, PARENT, True)),
    (f"00-{TRACE}-{PARENT}-00", (TRACE, PARENT, False)),
    (f"00-{TRACE}-{PARENT}-03", (TRACE, PARENT, True)),
    (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", (TRACE, PARENT, True)),
    (f"00-{TRACE}-{PARENT}-01-more", None),
    (f"ff-{TRACE}-{PARENT}-01", None),
    (f"00-{'0' * 32}-{PARENT}-01", None),
    (f"00-{TRACE}-{'0' * 16}-01", None),
    (f"00-{TRACE.upper()}-{PARENT}-01", None),
    (f"00-{TRACE[:-1]}-{PARENT}-01", None),
    ("", None),
])  # fmt: skip
def test_traceparent(header, wanted):
    assert parse_traceparent(header) == wanted


def span(number, parent, start, end):
    return Span("t", number, parent, "s", "server", "n", start, end)


def test_a_broken_trace_has_two_roots():
    whole = [span("a", "", 0, 10), span("b", "a", 1, 9), span("c", "b", 2, 5)]
    assert [(depth, s.id) for depth, s in depth_first(whole)] == [(0, "a"), (1, "b"), (2, "c")] and roots(whole) == 1
    cut = [whole[0], span("b", "lost", 1, 9), whole[2]]
    assert roots(cut) == 2
    assert self_seconds(whole) == {"a": 2, "b": 5, "c": 3}
    assert spans.from_start([span("x", "", 5, 6)])[0].end == 1


def everything():
    return shop().change(
        "orders", split={"v1": 90, "v2": 10}, mutual_tls=True, callers=("web",), balancer="RING_HASH"
    ).change(
        "stock", timeout=0.25, retries=Retries(3, per_try_timeout=0.1), limits=Limits(10, 5, 20), outliers=Outliers(3, 0.2, 0.6, 30),
        locality_failover=True, mutual_tls=True, callers=("orders",), balancer="LEAST_REQUEST",
    )  # fmt: skip


def test_all_documents_fit_the_published_schemas():
    documents = kubernetes.everything(everything())
    assert {document["kind"] for document in documents} == {
        "VirtualService", "DestinationRule", "PeerAuthentication", "AuthorizationPolicy", "HTTPRoute", "Service", "Server",
        "MeshTLSAuthentication",
    }  # fmt: skip
    assert len(kubernetes.yaml(documents).split("---\n")) == len(documents)


def test_the_documents_say_what_the_description_says():
    route, rule, *_ = kubernetes.istio(everything(), "orders")
    assert [d["weight"] for d in route["spec"]["http"][0]["route"]] == [90, 10]
    _, rule, peer, who = kubernetes.istio(everything(), "stock")
    assert rule["spec"]["trafficPolicy"]["outlierDetection"]["maxEjectionPercent"] == 30
    assert rule["spec"]["trafficPolicy"]["retryBudget"] == {"percent": 20.0, "minRetryConcurrency": 3}
    assert peer["spec"]["mtls"] == {"mode": "STRICT"}
    assert who["spec"]["rules"][0]["from"][0]["source"]["principals"] == ["cluster.local/ns/lab/sa/orders"]
    gamma = kubernetes.gamma(everything(), "orders")
    assert gamma["spec"]["parentRefs"][0] == {"group": "", "kind": "Service", "name": "orders", "port": 8080}


@pytest.mark.parametrize(("change", "complaint"), [
    (lambda d: d["spec"].update(hosts="orders"), "hosts"),
    (lambda d: d["spec"]["http"][0]["route"][0].pop("destination"), "destination"),
    (lambda d: d["spec"]["http"][0].update(timeOut="5s"), "timeOut"),
    (lambda d: d.update(kind="VirtualServer"), "no schema"),
])  # fmt: skip
def test_a_wrong_document_is_refused(change, complaint):
    document = kubernetes.istio(everything(), "orders")[0]
    change(document)
    with pytest.raises(kubernetes.Invalid, match=complaint):
        kubernetes.validate(document)


def test_limits_and_patterns_of_the_schemas_hold():
    route = kubernetes.gamma(everything(), "orders")
    route["spec"]["rules"][0]["timeouts"]["request"] = "5 s"
    with pytest.raises(kubernetes.Invalid, match="timeouts.request"):
        kubernetes.validate(route)
    server = next(d for d in kubernetes.linkerd(everything(), "stock") if d["kind"] == "Server")
    server["spec"]["externalWorkloadSelector"] = {"matchLabels": {}}
    with pytest.raises(kubernetes.Invalid):
        kubernetes.validate(server)


@pytest.mark.parametrize(("seconds", "text"), [(5.0, "5s"), (0.1, "100ms"), (1.5, "1500ms")])
def test_go_durations(seconds, text):
    assert kubernetes.go_duration(seconds) == text
    with pytest.raises(ValueError, match="millisecond"):
        kubernetes.go_duration(0.0001)


def test_what_is_left_unsaid_is_listed():
    left = kubernetes.unsaid(everything().policy("stock"))
    assert "locality failover" in left["Linkerd"] and "the retry budget" not in left["Istio"]
    assert kubernetes.unsaid(Policy(balancer="LEAST_REQUEST")) == {"Istio": [], "Linkerd": []}
