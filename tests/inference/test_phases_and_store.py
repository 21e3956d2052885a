"""The split of the cold start; the object store and its token bucket."""

import time
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.inference import phases, store
from beyondlab.inference.store import TokenBucket

MARKS = [("process", 1.0), ("runtime", 1.5), ("imports", 3.0), ("session", 3.25)]


def test_phases_add_up_and_each_is_where_it_belongs():
    found = phases.split(0.5, MARKS, (3.5, 3.75), 4.25)
    assert found == {"process": 0.5, "runtime": 0.5, "imports": 1.5, "model read": 0.0, "session": 0.25,
                     "first inference": 0.25, "hand-over": 0.75}  # fmt: skip
    assert phases.total(found) == 4.25 - 0.5 and tuple(found) != () and set(found) == set(phases.PHASES)


@given(st.lists(st.floats(0, 10), min_size=8, max_size=8))
def test_no_time_is_lost(gaps):
    stamps = [sum(gaps[: i + 1]) for i in range(8)]
    marks = list(zip(phases.PHASES[:5], stamps[:5]))
    found = phases.split(0.0, marks, (stamps[5], stamps[6]), stamps[7])
    assert phases.total(found) == pytest.approx(stamps[7], abs=1e-9) and min(found.values()) >= 0


@pytest.mark.parametrize(("marks", "inference", "answered", "complaint"), [
    ([("lunch", 1.0)], (2.0, 3.0), 4.0, "lunch"), ([("process", 0.1)], (2.0, 3.0), 4.0, "before the one before"),
    (MARKS, (3.0, 3.5), 4.0, "inference="), (MARKS, (3.5, 4.5), 4.0, "inference="), ([("first inference", 1.0)], (2.0, 3.0), 4.0, "no phase"),
])  # fmt: skip
def test_stamps_that_cannot_be_are_refused(marks, inference, answered, complaint):
    with pytest.raises(ValueError, match=complaint):
        phases.split(0.5, marks, inference, answered)


def test_two_things_at_once_save_the_shorter():
    assert phases.overlapped(1.2, 0.9) == 0.9
    with pytest.raises(ValueError, match="download"):
        phases.overlapped(-1, 0)


def test_a_bucket_lets_a_burst_through_and_then_its_rate():
    bucket = TokenBucket(rate=10, burst=5)
    assert bucket.take(5, 0.0) == 0
    assert bucket.take(10, 0.0) == pytest.approx(1.0)
    assert bucket.take(0, 1.0) == 0 and bucket.take(10, 2.0) == pytest.approx(0.5), "10, of which 5 were there"
    assert bucket.take(5, 100.0) == 0 and bucket.take(1, 100.0) == pytest.approx(0.1), "never fuller than its size"


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 50)), min_size=1, max_size=40), st.floats(1, 100), st.floats(1, 50))
def test_no_bucket_lets_more_than_rate_and_burst_through(takes, rate, burst):
    bucket, now, used, last = TokenBucket(rate, burst), 0.0, 0.0, 0.0
    for gap, tokens in takes:
        now += gap
        done = now + bucket.take(tokens, now)
        used, last = used + tokens, max(last, done)
        assert used <= burst + rate * last + 1e-6 * (1 + used)


def test_buckets_are_checked():
    for name, arguments in (("rate", (0, 1)), ("burst", (1, 0))):
        with pytest.raises(ValueError, match=name):
            TokenBucket(*arguments)
    bucket = TokenBucket(1, 1, now=5.0)
    with pytest.raises(ValueError, match="backwards"):
        bucket.take(1, 4.0)


# RFC 9110, section 14.1.2: the examples for a representation of 10,000 bytes
@pytest.mark.parametrize(("header", "wanted"), [
    ("bytes=0-499", (0, 500)), ("bytes=500-999", (500, 1_000)), ("bytes=-500", (9_500, 10_000)), ("bytes=9500-", (9_500, 10_000)),
    ("bytes=0-0", (0, 1)), ("bytes=9999-20000", (9_999, 10_000)), (None, None), ("bytes=0-1,5-6", None), ("lines=1-2", None), ("bytes=5-2", None), ("bytes=-", None),
])  # fmt: skip
def test_ranges_of_the_rfc(header, wanted):
    assert store.byte_range(header, 10_000) == wanted


def test_a_range_outside_is_an_error():
    with pytest.raises(ValueError, match="not within"):
        store.byte_range("bytes=10000-", 10_000)


def test_the_store_serves_ranges_at_its_bandwidth(tmp_path):
    content = bytes(range(256)) * 4_096
    (tmp_path / "weights").write_bytes(content)
    with store.object_store(tmp_path, 2_000_000) as address:
        begin = time.monotonic()
        assert urllib.request.urlopen(f"{address}/weights", timeout=20).read() == content
        assert time.monotonic() - begin > 0.8 * (len(content) - 262_144) / 2_000_000
        request = urllib.request.Request(f"{address}/weights", headers={"Range": "bytes=300-309"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 206 and answer.headers["Content-Range"] == f"bytes 300-309/{len(content)}"
            assert answer.read() == content[300:310]
        for path, header, status in (("nothing", {}, 404), ("weights", {"Range": "bytes=9999999-"}, 416)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(f"{address}/{path}", headers=header), timeout=20)
            assert caught.value.code == status
    with pytest.raises(ValueError, match="rate="), store.object_store(tmp_path, 0):
        pass
