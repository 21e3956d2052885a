"""The small Knative of real processes, and one handler in five places."""

import json
import os
import time

import pytest
from cloudevents.http import from_http

from beyondlab.kit import processes
from beyondlab.knative import kpa, lab, places, portability
from beyondlab.knative.lab import ZERO, Cluster
from beyondlab.knative.portability import event

pytestmark = pytest.mark.skipif(lab.missing() is not None and os.environ.get("CI") != "true", reason=str(lab.missing()))

WORK = """
def handle(event):
    import time
    time.sleep(event["data"]["seconds"])
    return {**event, "id": event["id"] + "-done", "source": "/lab"}
"""


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(processes.carriers(processes.owner_token()))
    yield
    assert set(processes.carriers(processes.owner_token())) <= before


def test_from_zero_to_zero_and_through_a_crash():
    """One cluster: held while nothing runs, limited in a pod, split by revision, sent again after a crash, gone when idle."""
    with Cluster(seed=5) as cluster:
        cluster.deploy("a", WORK, concurrency=2, settings=kpa.Settings(allow_zero_initial_scale=True, initial_scale=0, max_scale=2))
        cluster.deploy("b", WORK, settings=ZERO)
        with pytest.raises(ConnectionError, match="sum to 100"):
            cluster.set_traffic(a=90)
        with pytest.raises(ValueError, match="no revision 'c'"):
            cluster.set_traffic(c=100)
        with pytest.raises(ValueError, match="exists"):
            cluster.deploy("a", WORK)
        cluster.set_traffic(a=100)
        burst = cluster.burst(6, seconds=0.2)
        first = min(ready for _, ready in burst.pods)
        assert 1 <= len(burst.pods) <= 2 and min(begin for _, _, begin, _ in burst.lives) > first - 0.05
        edges = sorted([(begin, 1) for _, _, begin, _ in burst.lives] + [(end, -1) for _, _, _, end in burst.lives])
        inside = most = 0
        for _, step in edges:
            inside += step
            most = max(most, inside)
        assert most <= 4  # two pods, two at a time each
        crash = cluster.stream(12, gap=0.05, seconds=0.2, kill="a")
        assert [life.status for life in crash] == [200] * 12 and crash.by("a") == 12
        assert json.loads(crash[0].body) == {"seconds": 0.2}
        assert any("killed" in what for _, what in cluster.events)
        cluster.set_traffic(a=0, b=100)
        assert cluster.stream(4, gap=0.02, seconds=0.0).by("b") == 4
        seconds = cluster.until_zero("a")
        assert cluster.running("a") == 0 and seconds < 600
        assert cluster.counts()["lost"] == 0
        ticks = cluster.history("a")
        assert max(tick["desired"] for tick in ticks) >= 2 and ticks[-1]["desired"] == 0
        memory = cluster.memory()
        assert all(size < 80e6 for name, size in memory.items() if not name.startswith("pod"))


def test_a_request_that_takes_too_long_gets_504_and_is_not_repeated():
    with Cluster() as cluster:
        cluster.deploy("a", WORK, settings=kpa.Settings(max_scale=1), timeout=0.3)
        cluster.set_traffic(a=100)
        late = cluster.stream(1, gap=0.0, seconds=1.2)[0]
        assert late.status == 504 and late.attempts == 1


def test_speed_must_be_positive():
    with pytest.raises(ValueError, match="speed=0"):
        Cluster(speed=0)


HANDLER = """
def handle(event):
    return {"specversion": "1.0", "id": event["id"] + "-2", "source": "/twice", "type": "twice",
            "datacontenttype": "application/json", "data": {"n": 2 * event["data"]["n"]}}
"""
EVENT = event("once", {"n": 21}, id="a b")


def test_one_handler_in_four_places_that_take_requests():
    for start in (places.functions_framework, places.aws, places.asgi, places.wasm):
        with start(HANDLER) as send:
            reply = send(*portability.structured(EVENT))
            assert reply.event["data"] == {"n": 42}, start
            assert reply.event["id"] == "a b-2"
            by_headers = send(*portability.binary(EVENT))
            assert (by_headers.status == 415) if start is places.wasm else by_headers.event["data"] == {"n": 42}


def test_wasm_stops_a_handler_that_does_not_end_and_reports_one_that_fails():
    with places.wasm("def handle(event):\n    while True:\n        pass\n", limit=0.3) as send:
        begin = time.perf_counter()
        assert send(*portability.structured(EVENT)).outcome == "instance stopped"
        assert time.perf_counter() - begin < 10
    with places.wasm("def handle(event):\n    return 1 / 0\n") as send:
        assert "ZeroDivisionError" in send(*portability.structured(EVENT)).outcome


def test_aws_replaces_the_environment_after_a_time_out():
    with places.aws(portability.PROBE, limit=0.4) as send:
        assert send(*portability.structured(event("probe.sleep", {"seconds": 3, "path": os.devnull}))).outcome == "environment replaced"
        assert send(*portability.structured(event("probe.count", {}))).event["data"]["calls"] == 1


def test_binary_and_structured_mode_are_read_by_the_sdk():
    odd = event("t", {"n": 1}, id='100 % "quoted" é')
    for make in (portability.binary, portability.structured):
        headers, body = make(odd)
        assert from_http(headers, body)["type"] == "t"
    headers, _ = portability.binary(odd)
    assert headers["ce-id"] == "100%20%25%20%22quoted%22%20%C3%A9" and "ce-datacontenttype" not in headers
    with pytest.raises(ValueError, match="'id'"):
        portability.binary({**odd, "id": ""})


@pytest.mark.parametrize(("kind", "wanted"), [
    ("application/json", "binary"), ("application/cloudevents+json; charset=utf-8", "structured"),
    ("application/cloudevents-batch+json", "batch"), ("APPLICATION/CLOUDEVENTS+JSON", "structured"), ("", "binary"),
])  # fmt: skip
def test_mode_by_content_type(kind, wanted):
    assert portability.mode({"Content-Type": kind}) == wanted


def test_moved_share():
    assert portability.code_lines("a\n\n# b\n  c\n") == 2
    assert portability.moved_share("a\n" * 9, "functions-framework") == 0.5
    assert all(compile(source, place, "exec") for place, source in portability.ADAPTERS.items())


def test_what_two_places_have_in_common():
    found = {row: {"a": 1, "b": 1, "c": row} for row in places.ROWS} | {"Answers in parts": {"a": 1, "b": 2, "c": 2}}
    assert places.same(found, "a", "b") == {"events": 1.0, "identity": 1.0, "limits": pytest.approx(5 / 6)}
    assert places.same(found, "a", "c")["events"] == 0
    with pytest.raises(ValueError, match="place='d'"):
        places.same(found, "a", "d")
