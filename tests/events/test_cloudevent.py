"""CloudEvents: all conformance cases, and what is sent is what is read."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.events import cloudevent
from beyondlab.events.cloudevent import Event, InvalidEvent

CASES = cloudevent.conformance_cases()
BASE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['group']}: {case['id']}")
def test_conformance(case):
    """cloudevents/conformance, features/http-protocol-binding.feature and format/json; cloudevents/spec, HTTP binding."""
    assert cloudevent.ours(case)


def test_the_cases_are_complete():
    groups = [case["group"] for case in CASES]
    assert [groups.count(g) for g in dict.fromkeys(groups)] == [10, 25, 4, 7]
    assert len({case["id"] for case in CASES}) == len(CASES)


def test_the_judge_can_say_no():
    good = next(case for case in CASES if case["id"] == "validAllCoreAttributes")
    assert not cloudevent.judge(good, None)
    assert not cloudevent.judge(good, {**good["attributes"], "subject": "other"})
    bad = next(case for case in CASES if not case["valid"])
    assert not cloudevent.judge(bad, BASE) and cloudevent.judge(bad, None)


def test_what_the_sdk_does_is_what_the_chapter_says():
    wrong = {case["id"] for case in CASES if not cloudevent.sdk(case)}
    assert {"invalidEmptyId", "invalidTimeGarbage", "the example of the binding"} <= wrong
    assert not any(case["id"] in wrong for case in CASES if case["group"] == "HTTP binding, modes")


@given(TEXT)
def test_headers_carry_any_text(text):
    value = cloudevent.encode_header(text)
    assert all("!" <= c <= "~" and c != '"' for c in value)
    assert cloudevent.decode_header(value) == text
    assert cloudevent.decode_header(value.lower() if text.islower() and text.isascii() else value) == text


def test_the_example_of_the_binding():
    assert cloudevent.encode_header("Euro € 😀") == "Euro%20%E2%82%AC%20%F0%9F%98%80"


@given(TEXT, JSON.filter(lambda value: value is not None), st.sampled_from(["binary", "structured"]))
def test_what_is_sent_is_read(subject, data, mode):
    event = Event({**BASE, "subject": subject, "datacontenttype": "application/json"}, data)
    headers, body = cloudevent.to_http(event, mode)
    assert cloudevent.content_mode(headers["content-type"]) == mode
    assert cloudevent.from_http({k.upper(): v for k, v in headers.items()}, body) == event


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_sdk_and_we_read_each_other(mode):
    from cloudevents import conversion
    from cloudevents.http import CloudEvent, from_http

    time = "2026-11-27T08:00:00+00:00"
    theirs = CloudEvent({"type": "t", "source": "/s", "id": "1", "time": time, "datacontenttype": "application/json"}, {"n": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        headers, body = (conversion.to_binary if mode == "binary" else conversion.to_structured)(theirs)
    event = cloudevent.from_http(headers, body)
    assert event.data == {"n": 1} and event.attributes["id"] == "1" and event.attributes["time"] == time
    back = from_http(*cloudevent.to_http(event, mode))
    assert back.data == {"n": 1} and back["id"] == "1"


def test_bytes_travel_in_both_modes():
    event = Event({**BASE, "datacontenttype": "image/png"}, b"\x89\x00\xff")
    assert cloudevent.from_http(*cloudevent.to_http(event, "binary")) == event
    assert cloudevent.from_http(*cloudevent.to_http(event, "structured")) == event


def test_batches():
    assert cloudevent.content_mode("application/cloudevents-batch+json; charset=UTF-8") == "batched"
    assert cloudevent.from_batch(b"[]") == []
    assert [e.attributes["id"] for e in cloudevent.from_batch(b'[{"specversion":"1.0","id":"7","source":"s","type":"t"}]')] == ["7"]
    with pytest.raises(InvalidEvent, match="from_batch"):
        cloudevent.from_http({"content-type": "application/cloudevents-batch+json"}, b"[]")
    with pytest.raises(InvalidEvent, match="array"):
        cloudevent.from_batch(b"{}")


@pytest.mark.parametrize(
    ("headers", "body", "complaint"),
    [({"ce-datacontenttype": "text/plain", "content-type": "text/plain"}, b"", "must not be there"),
     ({"content-type": "application/cloudevents+json"}, b"{", "no JSON"), ({"content-type": "application/cloudevents+json"}, b"[]", "object"),
     ({}, b"", "specversion: missing")],
)  # fmt: skip
def test_what_is_wrong_is_named(headers, body, complaint):
    with pytest.raises(InvalidEvent, match=complaint):
        cloudevent.from_http(headers, body)
    with pytest.raises(ValueError, match="mode='xml'"):
        cloudevent.to_http(Event(BASE), "xml")
