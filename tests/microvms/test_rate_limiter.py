"""The rate limiter gives what Firecracker's own tests expect of theirs (src/vmm/src/rate_limiter/mod.rs), in simulated
time: where theirs sleep, ours set the clock."""

import pytest
from beyondlab.microvms.rate_limiter import (
    FAILURE,
    SUCCESS,
    RateLimiter,
    Reduction,
    SpuriousEvent,
    TokenBucket,
    TokenType,
    bucket,
)
from hypothesis import given
from hypothesis import strategies as st

BYTES, OPS = TokenType.BYTES, TokenType.OPS


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def sleep(self, milliseconds):
        self.now += milliseconds * 1_000_000


@pytest.fixture
def clock():
    return Clock()


def limiter(clock, *numbers):
    made = [bucket(*numbers[:3], clock), bucket(*numbers[3:], clock)]
    return RateLimiter(*made, clock)


def test_auto_replenish_in_steps(clock):
    made = TokenBucket(10, 0, 1000, clock)
    made.reduce(10)
    budgets = []
    for pause in (0, 10, 10, 80, 400, 1000):
        clock.sleep(pause)
        made.replenish()
        budgets.append(made.budget)
    assert budgets == [0, 0, 0, 1, 5, 10]


def test_auto_replenish_often_loses_nothing(clock):
    made = TokenBucket(1000, 0, 1000, clock)
    made.reduce(1000)
    while clock.now < 1_000_000_000:
        clock.now += 37_777
        made.replenish()
    assert made.budget == 1000


def test_create_and_what_switches_it_off(clock):
    made = TokenBucket(1000, 0, 1000, clock)
    assert (made.size, made.budget, made.processed_capacity, made.processed_refill_time) == (1000, 1000, 1, 1_000_000)
    for size, burst, time in ((0, 1234, 1000), (100, 1234, 0), (0, 1234, 0), (1, 0, 2**64 // 10**6 + 1)):
        assert bucket(size, burst, time) is None


def test_preprocessing(clock):
    made = TokenBucket(3 * 7 * 11 * 19 * 1000, 0, 7 * 11 * 13 * 17, clock)
    assert made.processed_capacity == 3 * 19
    assert made.processed_refill_time == 13 * 17 * 1000


def test_reduce(clock):
    made = TokenBucket(1000, 0, 1000, clock)
    assert made.reduce(123) == SUCCESS and made.budget == 877
    assert made.reduce(1000) == FAILURE
    made = TokenBucket(1000, 1100, 1000, clock)
    assert made.reduce(1000) == SUCCESS and made.burst == 100
    assert made.reduce(500) == SUCCESS and made.burst == 0
    assert made.budget == 600, "the burst paid 100 of the 500"
    assert made.reduce(500) == SUCCESS
    assert made.reduce(500) == FAILURE
    clock.sleep(500)
    assert made.reduce(500) == SUCCESS
    clock.sleep(1000)
    assert made.reduce(2500) == Reduction("overconsumption", 1.5)


def test_default_limits_nothing():
    made = RateLimiter()
    assert not made.blocked
    assert made.consume(2**64 - 1, OPS) and made.consume(2**64 - 1, BYTES)
    with pytest.raises(SpuriousEvent, match="Rate limiter event handler called without a present timer"):
        made.event()


def test_new(clock):
    made = limiter(clock, 1000, 1001, 1002, 1003, 1004, 1005)
    found = [(b.size, b.burst, b.refill_ms, b.budget) for b in (made.buckets[BYTES], made.buckets[OPS])]
    assert found == [(1000, 1001, 1002, 1000), (1003, 1004, 1005, 1003)]


@pytest.mark.parametrize("kind", [BYTES, OPS])
def test_manual_replenish(clock, kind):
    made = limiter(clock, 1000, 0, 1000, 1000, 0, 1000)
    assert made.consume(123, kind)
    made.give_back(23, kind)
    assert made.buckets[kind].budget == 900


@pytest.mark.parametrize(("kind", "other", "numbers"), [
    (BYTES, OPS, (1000, 0, 1000, 0, 0, 0)), (OPS, BYTES, (0, 0, 0, 1000, 0, 1000)),
])  # fmt: skip
def test_one_kind(clock, kind, other, numbers):
    made = limiter(clock, *numbers)
    assert made.consume(2**64 - 1, other)
    assert made.consume(1000, kind)
    assert not made.consume(100, kind) and made.blocked
    clock.sleep(50)
    assert made.blocked and made.blocked_for() == 0.05
    with pytest.raises(SpuriousEvent):
        made.event()
    clock.sleep(50)
    made.event()
    assert not made.blocked and made.consume(100, kind)


def test_both_kinds(clock):
    made = limiter(clock, 1000, 0, 1000, 1000, 0, 1000)
    assert made.consume(1000, OPS) and made.consume(1000, BYTES)
    assert not made.consume(100, OPS) and not made.consume(100, BYTES)
    clock.sleep(100)
    made.event()
    assert made.consume(100, OPS) and made.consume(100, BYTES)


def test_overconsumption(clock):
    made = limiter(clock, 1000, 0, 1000, 1000, 0, 1000)
    assert made.consume(2500, BYTES)
    clock.sleep(1000)
    with pytest.raises(SpuriousEvent):
        made.event()
    assert made.blocked
    clock.sleep(500)
    made.event()
    assert not made.blocked
    made = limiter(clock, 1000, 0, 1000, 1000, 0, 1000)
    assert made.consume(1500, BYTES)
    for pause in (200, 100):
        clock.sleep(pause)
        with pytest.raises(SpuriousEvent):
            made.event()
        assert made.blocked and not made.consume(100, BYTES)
    clock.sleep(200)
    made.event()
    assert made.consume(100, BYTES)


def test_update_buckets(clock):
    made = limiter(clock, 1000, 2000, 1000, 10, 20, 1000)
    before = dict(made.buckets)
    made.update({})
    assert made.buckets == before and made.buckets[BYTES] is before[BYTES]
    made.update({"bandwidth": {"size": 123, "refill_time": 57}})
    assert made.buckets[OPS] is before[OPS]
    made.update({"ops": {"size": 321, "one_time_burst": 12346, "refill_time": 89}})
    assert [(b.size, b.burst, b.refill_ms, b.budget) for b in made.buckets.values()] == [(123, 0, 57, 123), (321, 12346, 89, 321)]
    made.update({"bandwidth": {"size": 0, "refill_time": 1}, "ops": {"size": 1, "refill_time": 0}})
    assert made.buckets == {BYTES: None, OPS: None}


def test_from_a_document_of_the_api(clock):
    document = {"bandwidth": {"size": 1000, "refill_time": 10, "one_time_burst": 7}, "ops": {"size": 0, "refill_time": 10}}
    made = RateLimiter.from_document(document, clock)
    assert made.buckets[BYTES].burst == 7 and made.buckets[OPS] is None
    assert RateLimiter.from_document(None).consume(10**12, BYTES)


@pytest.mark.parametrize("numbers", [(0, 0, 1), (1, -1, 1), (1, 0, 0), (2**64, 0, 1), (1, 0, 2**60), (1.5, 0, 1)])
def test_bad_buckets(numbers):
    with pytest.raises(ValueError, match="must be"):
        TokenBucket(*numbers)


@given(
    st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**4),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 10**6)), max_size=30),
)  # fmt: skip
def test_what_firecracker_proves_of_it(size, burst, refill_ms, steps):
    clock = Clock()
    made = TokenBucket(size, burst, refill_ms, clock)
    granted = 0
    for pause, tokens in steps:
        clock.now += pause
        budget, credit = made.budget, made.burst
        outcome = made.reduce(tokens)
        assert 0 <= made.budget <= size and 0 <= made.burst <= credit
        assert made.budget == budget or made.burst == 0
        assert made.burst == 0 or made.budget == size, "the bucket is untouched while there is credit"
        if outcome == FAILURE:
            assert made.budget >= budget
        elif outcome == SUCCESS:
            granted += tokens
    assert granted <= burst + size + size * clock.now // (refill_ms * 10**6) + 1
