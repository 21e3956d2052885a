"""The mechanisms, held to the tests of the systems they come from, and to what must hold for any input.

Tables after (Apache License 2.0, numbers only, written anew):
envoyproxy/envoy test/common/upstream/outlier_detection_impl_test.cc, resource_manager_impl_test.cc,
test/common/common/token_bucket_impl_test.cc, test/extensions/load_balancing_policies/ring_hash/ring_hash_lb_test.cc;
linkerd/linkerd2-proxy linkerd/ewma/src/lib.rs.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.mesh import model
from beyondlab.mesh.model import Ewma, Limit, OutlierDetector, PeakEwma, RetryBudget, TokenBucket
from beyondlab.mesh.ring import Ring, murmur2, xxh64

E1 = math.exp(-1)

# name: decay, initial, calls, what get() must give then (lib.rs)
EWMA = {
    "test_new": (10, math.inf, [], math.inf),
    "test_add": (10, math.inf, [("add", 1.0, 1)], 1.0),
    "test_add_ignores_stale_timestamps": (10, math.inf, [("add", 1.0, 2), ("add", 99.0, 2), ("add", 99.0, 1)], 1.0),
    "test_add_peak": (10, math.inf, [("add_peak", 1.0, 1), ("add_peak", 2.0, 1.5)], 2.0),
    "test_decay": (10, math.inf, [("add", 1.0, 1), ("add", 0.0, 11)], E1),
    "test_new_with_value": (10, 1.0, [("add", 0.0, 10)], E1),
    "test_add_peak_from_infinity_same_timestamp": (10, math.inf, [("add_peak", 0.5, 0)], 0.5),
    "test_add_peak_replaces_decayed_value": (10, math.inf, [("add_peak", 10.0, 1), ("add_peak", 1.0, 26)], 1.0),
    "test_reset": (10, math.inf, [("add", 0.5, 1), ("reset", 1.0, 2), ("add", 0.0, 12)], E1),
}


@pytest.mark.parametrize("name", EWMA)
def test_ewma_as_linkerd_tests_it(name):
    decay, initial, calls, wanted = EWMA[name]
    ewma = Ewma(decay, 0.0, initial)
    for call, value, at in calls:
        getattr(ewma, call)(value, at)
    assert ewma.value == pytest.approx(wanted, rel=1e-15)


# value added at 1 s with a decay of 10 s, read at -> get_at (lib.rs, test_get_at_*)
@pytest.mark.parametrize(("value", "read", "wanted"), [(0.5, 1, 0.5), (0.5, 0.5, 0.5), (1.0, 11, E1), (None, 100, math.inf)])
def test_ewma_fades_when_read_later(value, read, wanted):
    ewma = Ewma(10, 0.0)
    if value is not None:
        ewma.add(value, 1)
    before = ewma.value, ewma.at
    assert ewma.get_at(read) == pytest.approx(wanted, rel=1e-15)
    assert (ewma.value, ewma.at) == before


def test_ewma_retains_a_peak_and_clamps_its_decay():
    ewma = Ewma(10, 0.0)
    ewma.add_peak(10.0, 1)
    ewma.add_peak(1.0, 1.1)
    assert 9 < ewma.value < 10
    zero, least = Ewma(0, 0.0, 1.0), Ewma(0.001, 0.0, 1.0)
    assert zero.get_at(1) == least.get_at(1) and math.isfinite(zero.get_at(1))
    old = Ewma(10, 0.0)
    old.add(1.0, 1)
    assert old.get_at(3600) < 1e-10


# size, rate, [(at ms, ask, partial, taken, next token ms or None)] (token_bucket_impl_test.cc)
BUCKETS = {
    "Initialization": (1, -1.0, [(0, 1, False, 1, None), (0, 1, False, 0, None)]),
    "MaxBucketSize": (3, 1, [(0, 3, False, 3, None), (10_000, 4, False, 0, None), (10_000, 3, False, 3, None)]),
    "Consume": (10, 1, [(0, 20, False, 0, None), (0, 9, False, 9, None), (0, 1, False, 1, None), (999, 1, False, 0, None),
                        (5999, 6, False, 0, None), (6000, 6, False, 6, None), (6000, 1, False, 0, None)]),
    "Refill": (1, 0.5, [(0, 1, False, 1, None), (500, 1, False, 0, None), (1500, 1, False, 0, None), (2000, 1, False, 1, None)]),
    "NextTokenAvailable": (10, 5, [(0, 9, False, 9, 0), (0, 1, False, 1, None), (0, 1, False, 0, 200)]),
    "PartialConsumption": (16, 16, [(0, 18, True, 16, 63), (62, 1, True, 0, None), (63, 2, True, 1, 63)]),
    "ConsumeAndNextToken": (10, 5, [(0, 20, True, 10, 200), (400, 1, False, 1, 0)]),
    "YearlyMinRefillRate": (1, 1 / (2 * 31_536_000), [(0, 1, False, 1, None), (31_535_999_000, 1, False, 0, None),
                                                      (31_536_000_000, 1, False, 1, None)]),
}  # fmt: skip


@pytest.mark.parametrize("name", BUCKETS)
def test_token_bucket_as_envoy_tests_it(name):
    size, rate, calls = BUCKETS[name]
    bucket = TokenBucket(size, rate)
    for at, ask, partial, taken, following in calls:
        assert bucket.consume(ask, at / 1000, partial=partial) == taken
        if following is not None:
            assert bucket.next_token_ms() == following


def test_token_bucket_reset():
    bucket = TokenBucket(16, 16)
    bucket.reset(1, 0.0)
    assert bucket.consume(2, 0.0, partial=True) == 1 and bucket.next_token_ms() == 63


@given(st.integers(1, 20), st.floats(0.1, 50), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), max_size=60))
def test_a_bucket_never_gives_more_than_it_held_and_gained(size, rate, calls):
    bucket, now, taken = TokenBucket(size, rate), 0.0, 0
    for wait, ask in calls:
        now += wait
        taken += bucket.consume(ask, now)
        assert taken <= size + rate * now + 1e-6


# hash ring of "Basic" and of "BasicWithMurmur2": port -> its two places (ring_hash_lb_test.cc)
XX = {94: (833437586790550860, 15516499411664133160), 92: (928266305478181108, 13444792449719432967),
      90: (1033482794131418490, 16117243373044804889), 95: (3551244743356806947, 13144177310400110813),
      93: (3851675632748031481, 7700377290971790572), 91: (5583722120771150861, 6311230543546372928)}  # fmt: skip
MURMUR = {85: (1358027074129602068, 16375050414328759093), 83: (4361834613929391114, 15168472011420622455),
          84: (7224494972555149682, 8739448859063030639), 81: (7701421856454313576, 9887544217113020895),
          82: (8649315368077433379, 10150910876324007731), 80: (15427156902705414897, 17613279263364193813)}  # fmt: skip


@pytest.mark.parametrize(("table", "hash", "keys"), [
    (XX, xxh64, {0: 94, 2**64 - 1: 94, 3551244743356806947: 95, 3551244743356806948: 93, 16117243373044804880: 90}),
    (MURMUR, murmur2, {0: 85, 2**64 - 1: 85, 1358027074129602068: 85, 1358027074129602069: 83, 10150910876324007730: 82}),
], ids=["Basic", "BasicWithMurmur2"])  # fmt: skip
def test_ring_hash_as_envoy_tests_it(table, hash, keys):
    ring = Ring([f"127.0.0.1:{port}" for port in sorted(table)], replicas=2, hash=hash)
    wanted = sorted((place, f"127.0.0.1:{port}") for port, places in table.items() for place in places)
    assert list(zip(ring.places, ring.owners)) == wanted
    for key, port in keys.items():
        assert ring.choose(key) == f"127.0.0.1:{port}"


# from the specification's own examples and the reference implementation
@pytest.mark.parametrize(("data", "wanted"), [(b"", 0xEF46DB3751D8E999), (b"a", 0xD24EC4F1A98C6E5B), (b"abc", 0x44BC2CF5AD770999),
                                              (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1)])  # fmt: skip
def test_xxh64_of_known_texts(data, wanted):
    assert xxh64(data) == wanted


@settings(max_examples=25)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_only_the_keys_of_a_lost_host_move(hosts, seed):
    names = [f"10.0.0.{i}:80" for i in range(hosts)]
    keys = [xxh64(f"{seed}-{i}".encode()) for i in range(200)]
    before, after = Ring(names, 20), Ring(names[:-1], 20)
    for key in keys:
        if before.choose(key) != names[-1]:
            assert after.choose(key) == before.choose(key)


def test_retry_budget_and_limits_as_envoy_tests_them():
    assert RetryBudget(0.2, 5).most(0) == 5  # RuntimeResourceManager, RetryBudgetOverrideGauge
    limit = Limit(2)  # RemainingResourceGauges: pending
    seen = [limit.remaining]
    for step in ("take", "take", "give_back", "give_back"):
        getattr(limit, step)()
        seen.append(limit.remaining)
    assert seen == [2, 1, 0, 1, 2]
    full = Limit(0)  # retries: never negative
    full.open += 1
    assert full.remaining == 0 and not full.can_create()


@pytest.mark.parametrize(("active", "most"), [(0, 3), (14, 3), (15, 3), (19, 3), (20, 4), (99, 19), (100, 20), (1000, 200)])
def test_retry_budget_is_a_fifth_and_three_at_least(active, most):
    budget = RetryBudget()
    assert budget.most(active) == most
    assert sum(budget.take(active) for _ in range(most + 5)) == most and budget.overflow == 5


def detector(hosts, **options):
    return OutlierDetector([f"127.0.0.1:{80 + i}" for i in range(hosts)], **options)


def load(found, host, count, status, at=0.0):
    for _ in range(count):
        found.result(f"127.0.0.1:{80 + host}", status >= 500, at)


def test_basic_flow_5xx():
    """BasicFlow5xxViaHttpCodes; always_one because this test is older than that switch."""
    found = detector(2, always_one=True)
    for count, status in ((1, 500), (1, 200), (4, 500)):
        load(found, 0, count, status)
    assert found.ejected == []
    load(found, 0, 1, 500)
    assert found.ejected == ["127.0.0.1:80"]
    found.sweep(9.999)
    assert found.ejected == ["127.0.0.1:80"]
    found.sweep(30.001)
    assert found.ejected == []
    load(found, 0, 4, 500, 40.0)
    assert found.ejected == []
    load(found, 0, 1, 500, 40.0)
    assert [e.action for e in found.events] == ["eject", "return", "eject"]


def test_eject_time_backs_off():
    """EjectTimeBackoff: base 10 s; 10, 20, 30 s; two healthy sweeps; 20 s; fifty healthy sweeps; 10 s."""
    found = detector(1, base=10.0, max_percent=100)
    now = 0.0

    def eject_for():
        nonlocal now
        load(found, 0, 5, 500, now)
        begin = now
        while found.ejected:
            now += 10
            found.sweep(now)
        return now - begin

    assert [eject_for() for _ in range(3)] == [10, 20, 30]
    for _ in range(2):
        now += 10
        found.sweep(now)
    assert eject_for() == 20
    for _ in range(50):
        now += 10
        found.sweep(now)
    now = 610.0
    assert eject_for() == 10


@pytest.mark.parametrize(("longest", "times"), [(300.0, [*range(10, 301, 10), *[300] * 9]), (305.0, [*range(10, 311, 10), *[310] * 9])],
                         ids=["MaxEjectTime", "MaxEjectTimeNotAlligned"])  # fmt: skip
def test_eject_time_has_a_limit(longest, times):
    found, now, seen = detector(1, base=10.0, longest=longest, max_percent=100), 0.0, []
    for _ in times:
        load(found, 0, 5, 500, now)
        begin = now
        while found.ejected:
            now += 10
            found.sweep(now)
        seen.append(now - begin)
    assert seen == times


def test_failure_percentage():
    """BasicFlowFailurePercentageExternalOrigin: 83.3 % stays, 85.7 % goes, threshold 85; back within 50 s."""
    found = detector(5, consecutive=10**9, success_rate=False, failure_percent=85, max_percent=100)
    for host in range(5):
        load(found, host, 50, 200)
    load(found, 3, 250, 503)
    load(found, 4, 300, 503)
    found.sweep(10.0)
    assert found.ejected == ["127.0.0.1:84"]
    found.sweep(19.999)
    assert found.ejected == ["127.0.0.1:84"]
    found.sweep(50.001)
    assert found.ejected == []
    for host in range(5):
        load(found, host, 25, 200, 55.0)
    load(found, 4, 25, 503, 55.0)
    found.sweep(60.001)
    assert found.ejected == []


def test_success_rate_threshold():
    """OutlierUtility, SRThreshold; and a host at 50 % among four perfect ones is below 52."""
    assert model.success_rate_threshold([50, 100, 100, 100, 100], 1.9) == (90.0, 52.0)
    found = detector(5, consecutive=10**9, max_percent=100)
    for host in range(5):
        load(found, host, 200, 200)
    load(found, 4, 200, 503)
    found.sweep(10.0)
    assert found.ejected == ["127.0.0.1:84"] and found.events[0].reason == "success rate"


def test_max_ejection_time_must_not_be_smaller_than_base():
    """DetectorStaticConfigiInvalidMaxEjectTime and DetectorStaticConfigBaseLargerThanMaxNoMax."""
    with pytest.raises(ValueError, match="longest=3"):
        detector(1, base=10.0, longest=3.0)
    assert detector(1, base=400.0).longest == 400.0


@settings(max_examples=60)
@given(st.integers(1, 25), st.integers(0, 100), st.lists(st.tuples(st.integers(0, 24), st.booleans()), max_size=300))
def test_never_more_than_the_limit_is_ejected(hosts, percent, answers):
    found = detector(hosts, consecutive=2, max_percent=percent, interval=1.0, base=3.0)
    for step, (host, failed) in enumerate(answers):
        found.result(f"127.0.0.1:{80 + host % hosts}", failed, step / 10)
        if step % 10 == 9:
            found.sweep(step / 10)
        assert len(found.ejected) <= percent * hosts / 100


@pytest.mark.parametrize(("hosts", "ejected"), [(3, 0), (9, 0), (10, 1), (19, 1), (20, 2)])
def test_ten_per_cent_of_few_is_none(hosts, ejected):
    found = detector(hosts)
    for host in range(hosts):
        load(found, host, 5, 503)
    assert len(found.ejected) == ejected and found.overflow == hosts - ejected


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=6), st.integers(0, 5), st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)))
def test_peak_ewma_never_takes_the_dearer_of_two(latencies, busy, draw):
    balancer = PeakEwma(range(len(latencies)))
    for host, seconds in enumerate(latencies):
        balancer.latency[host].reset(seconds, 0.0)
    for _ in range(busy):
        balancer.sent(0)
    chosen = balancer.pick(0.0, draw)
    dearest = max(range(len(latencies)), key=lambda host: balancer.cost(host, 0.0))
    assert chosen != dearest or sorted(balancer.cost(h, 0.0) for h in range(len(latencies)))[-2] == balancer.cost(dearest, 0.0)


def test_peak_ewma_is_drawn_to_who_fails_fast_unless_failures_cost():
    plain, biased = PeakEwma("ab"), PeakEwma("ab", penalty=1.0)
    for balancer in (plain, biased):
        for host, seconds, failed in (("a", 0.02, False), ("b", 0.001, True)):
            balancer.latency[host].reset(0.0005, 0.0)
            balancer.sent(host)
            balancer.answered(host, seconds, 1.0, failed=failed)
    assert plain.pick(1.0, (0.0, 0.0)) == "b" and biased.pick(1.0, (0.0, 0.0)) == "a"


@pytest.mark.parametrize(("fail", "retries", "wanted"), [(0, 3, 1), (1, 3, 4), (0.5, 1, 1.5), (0.5, 3, 1.875)])
def test_attempts(fail, retries, wanted):
    assert model.attempts(fail, retries) == wanted


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_two_choices_agree_with_the_simulator(rho):
    servers, count = 100, 200_000
    times = sim.poisson(rho * servers, count=count, seed=1)
    result = sim.balance(times, sim.exponential(1.0, count=count, seed=2), servers, "two choices", seed=3)
    assert np.mean(result.response[count // 5 :]) == pytest.approx(model.two_choices_response(rho), rel=0.05)
    assert model.two_choices_response(rho, 1) == 1 / (1 - rho)


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: TokenBucket(0, 1), "size=0"), (lambda: RetryBudget(1.5), "share=1.5"), (lambda: PeakEwma([]), "hosts"),
    (lambda: Ring([]), "hosts"), (lambda: Ring(["a"], 0), "replicas=0"), (lambda: model.attempts(2, 1), "fail=2"),
    (lambda: model.attempts(0.5, -1), "retries=-1"), (lambda: model.two_choices_response(1.0), "load=1.0"),
    (lambda: model.success_rate_threshold([]), "rates"),
])  # fmt: skip
def test_bad_input_is_told(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
