"""The autoscaler, held to Knative's own test tables.

Source: knative/serving, Apache License 2.0, (c) The Knative Authors: ``pkg/autoscaler/scaling/autoscaler_test.go``
(commit 01f103ef; its table is in ``beyondlab.knative.oracle``), ``pkg/autoscaler/config/config_test.go`` (commit a16c44a6) and
``pkg/reconciler/autoscaling/resources/target_test.go`` (commit 03121e2e), written out as data.
"""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.knative import kpa
from beyondlab.knative.kpa import Autoscaler, Settings, Spec, seconds
from beyondlab.knative.oracle import KNATIVE, UTILISATION, decided, knative_agrees, spec



def spare(capacity, burst, in_flight, pods):
    """expectedEBC of the source."""
    return math.floor(capacity / UTILISATION * pods - burst - in_flight)


def expect(decision, desired, burst):
    assert decision.valid and decision.desired == desired
    assert abs(decision.excess_burst_capacity - burst) <= 1  # the source allows one, for rounding


@pytest.mark.parametrize("row", KNATIVE, ids=[row.label for row in KNATIVE])
def test_the_table_of_decisions(row):
    """TestAutoscalerScale. A decision does not know what the metric counts: requests a second give the same."""
    expect(decided(row), row.pods, row.spare)
    assert knative_agrees(row)


def test_the_agreement_can_fail():
    assert not knative_agrees(replace(KNATIVE[4], pods=6)) and not knative_agrees(replace(KNATIVE[4], burst=50.0, pods=4))


def test_requests_per_second():
    """TestAutoscalerMetricsWithRPS and TestAutoscalerStableModeIncreaseWithRPS."""
    expect(Autoscaler(spec(10, 100)).scale(61.0, 1, 100, 99), 10, spare(10, 100, 99, 1))
    scaler = Autoscaler(spec(10, 101))
    expect(scaler.scale(0.0, 1, 50, 50), 5, spare(10, 101, 50, 1))
    expect(scaler.scale(0.0, 1, 100, 99), 10, spare(10, 101, 99, 1))


def test_increase_in_stable_mode():
    """TestAutoscalerStableModeIncreaseWithConcurrencyDefault."""
    scaler = Autoscaler(spec(10, 101))
    expect(scaler.scale(0.0, 1, 50, 10), 5, spare(10, 101, 10, 1))
    expect(scaler.scale(0.0, 1, 100, 10), 10, spare(10, 101, 10, 1))


def test_panic_ends_after_a_slow_increase():
    """TestAutoscalerUnpanicAfterSlowIncrease."""
    scaler = Autoscaler(spec(1, 98))
    expect(scaler.scale(1000.0, 10, 11, 25), 25, spare(1, 98, 25, 10))
    assert scaler.panic_since == 1000.0
    expect(scaler.scale(1030.0, 40, 30, 41), 41, spare(1, 98, 41, 40))
    assert scaler.panic_since == 1000.0
    expect(scaler.scale(1062.0, 55, 50, 56), 50, spare(1, 98, 56, 55))
    assert scaler.panic_since is None


def test_a_surge_extends_the_panic():
    """TestAutoscalerExtendPanicWindow."""
    scaler = Autoscaler(spec(1, 98))
    expect(scaler.scale(1000.0, 10, 11, 25), 25, spare(1, 98, 25, 10))
    expect(scaler.scale(1030.0, 40, 30, 80), 80, spare(1, 98, 80, 40))
    assert scaler.panic_since == 1030.0


def test_decrease_and_zero():
    """TestAutoscalerStableModeDecrease and ...NoTrafficScaleToZero."""
    scaler = Autoscaler(spec(10, 98))
    expect(scaler.scale(0.0, 8, 100, 100), 10, spare(10, 98, 100, 8))
    expect(scaler.scale(0.0, 8, 50, 50), 5, spare(10, 98, 50, 8))
    scaler = Autoscaler(spec(10, 75))
    expect(scaler.scale(0.0, 1, 1, 0), 1, spare(10, 75, 0, 1))
    expect(scaler.scale(0.0, 1, 0, 0), 0, spare(10, 75, 0, 1))


def test_activation_scale():
    """TestAutoscalerActivationScale."""
    scaler = Autoscaler(spec(10, 75, activation_scale=2))
    expect(scaler.scale(0.0, 1, 0, 0), 0, spare(10, 75, 0, 1))
    expect(scaler.scale(0.0, 1, 1, 0), 2, spare(10, 75, 0, 1))


def test_exponential_growth():
    """TestAutoscalerPanicModeExponentialTrackAndStabilize."""
    scaler = Autoscaler(spec(1, 101))
    expect(scaler.scale(0.0, 1, 6, 6), 6, spare(1, 101, 6, 1))
    for now, ready, load in [(0.0, 6, 36), (1.0, 36, 216), (1.0, 216, 1296)]:
        expect(scaler.scale(now, ready, load, load), load, spare(1, 101, load, ready))
        assert scaler.panic_since == now
    expect(scaler.scale(2.0, 1296, 1296, 1296), 1296, spare(1, 101, 1296, 1296))


def test_panic_holds_the_scale_for_a_window():
    """TestAutoscalerPanicThenUnPanicScaleDown."""
    scaler = Autoscaler(spec(10, 93))
    expect(scaler.scale(0.0, 1, 100, 100), 10, spare(10, 93, 100, 1))
    expect(scaler.scale(0.0, 10, 100, 1000), 100, spare(10, 93, 1000, 10))
    expect(scaler.scale(30.0, 10, 1, 1), 100, spare(10, 93, 1, 10))
    expect(scaler.scale(61.0, 10, 1, 1), 1, spare(10, 93, 1, 10))


def test_rate_limits():
    """TestAutoscalerRateLimitScaleUp and ...ScaleDown."""
    scaler = Autoscaler(spec(10, 61))
    expect(scaler.scale(0.0, 1, 1000, 1001), 10, spare(10, 61, 1001, 1))
    expect(scaler.scale(0.0, 10, 1000, 1001), 100, spare(10, 61, 1001, 10))
    scaler = Autoscaler(spec(10, 61))
    expect(scaler.scale(0.0, 100, 1, 1), 10, spare(10, 61, 1, 100))
    expect(scaler.scale(0.0, 10, 1, 1), 1, spare(10, 61, 1, 10))


def test_what_cannot_be_read_decides_nothing():
    """TestCantCountPods, TestAutoscalerNoDataNoAutoscale, TestAutoscalerUseOnePodAsMinimumIfEndpointsNotFound."""
    scaler = Autoscaler(spec(10, 81))
    assert scaler.scale(0.0, None, 1000, 888) == kpa.INVALID == scaler.scale(0.0, 1, None, None)
    expect(scaler.scale(0.0, 0, 1000, 888), 10, spare(10, 81, 888, 0))


def test_a_new_spec():
    """TestAutoscalerUpdateTarget."""
    scaler = Autoscaler(spec(10, 77))
    expect(scaler.scale(0.0, 1, 100, 101), 10, spare(10, 77, 101, 1))
    scaler.spec = spec(1, 71)
    expect(scaler.scale(0.0, 10, 100, 101), 100, spare(1, 71, 101, 10))


def test_it_starts_in_panic_above_one_pod():
    """TestStartInPanicMode."""
    for ready in (0, 1, 2):
        scaler = Autoscaler(spec(100, 11), ready=ready, now=5.0)
        assert scaler.panic_since == (5.0 if ready == 2 else None) and scaler.most_in_panic == ready


DELAYED = dict(target_value=10, total_value=10, target_burst_capacity=0, panic_threshold=100, max_scale_down_rate=10,
               max_scale_up_rate=10)  # fmt: skip


def test_scale_down_delay():
    """TestAutoscalerScaleDownDelay, "simple" and "gradual", one after the other."""
    scaler = Autoscaler(Spec(**DELAYED, scale_down_delay=300.0))
    steps = [(2, 40, 4), (300, 0, 4), (302, 0, 0), (540, 40, 4), (600, 30, 4), (660, 0, 4), (840, 0, 3), (900, 0, 0)]
    for now, load, wanted in steps:
        expect(scaler.scale(float(now), 0, load, load), wanted, 0)


def test_scale_down_delay_where_no_traffic_can_reach():
    """TestAutoscalerScaleDownDelayNotReachable."""
    scaler = Autoscaler(Spec(**DELAYED, scale_down_delay=300.0))
    expect(scaler.scale(2.0, 0, 40, 40), 4, 0)
    expect(scaler.scale(60.0, 0, 0, 0), 4, 0)
    scaler.spec = replace(scaler.spec, reachable=False)
    expect(scaler.scale(2.0, 0, 0, 0), 0, 0)


def test_no_delay():
    """TestAutoscalerScaleDownDelayZero."""
    scaler = Autoscaler(Spec(**DELAYED))
    expect(scaler.scale(0.0, 0, 40, 40), 4, 0)
    expect(scaler.scale(0.5, 0, 20, 20), 2, 0)


CONFIG_REFUSED = [
    {"max-scale-up-rate": "not a float"}, {"scale-down-delay": "-1m23s"}, {"scale-to-zero-pod-retention-period": "-4m11s"},
    {"stable-window": "not a duration"}, {"target-burst-capacity": "-11"}, {"container-concurrency-target-percentage": "-42"},
    {"container-concurrency-target-percentage": "142.4"}, {"requests-per-second-target-default": "-5.25"},
    {"max-scale-up-rate": "1"}, {"max-scale-down-rate": "-55"}, {"max-scale-down-rate": "1"}, {"stable-window": "1h1s"},
    {"stable-window": "1s"}, {"stable-window": "61984ms"}, {"scale-down-delay": "61984ms"}, {"activator-capacity": "0.95"},
    {"panic-window-percentage": "0.1"}, {"stable-window": "12s", "panic-window": "3s", "panic-window-percentage": "110"},
    {"container-concurrency-target-percentage": "1", "container-concurrency-target-default": "0.001"},
    {"allow-zero-initial-scale": "false", "initial-scale": "0"}, {"allow-zero-initial-scale": "false", "initial-scale": "-1"},
    {"allow-zero-initial-scale": "false", "initial-scale": "invalid"}, {"allow-zero-initial-scale": "invalid"}, {"max-scale": "-1"},
    {"scale-to-zero-grace-period": "-4s"},
]  # fmt: skip
"""TestNewConfig, wantErr. Not taken over: a grace period of 4 s, which an older rule (at least 6 s) refused."""


@pytest.mark.parametrize("data", CONFIG_REFUSED, ids=str)
def test_knative_refuses_it_and_so_do_we(data):
    with pytest.raises(ValueError, match="|".join(data)):
        Settings.from_config(data)


@pytest.mark.parametrize(("data", "wanted"), [
    ({}, {}),
    ({"container-concurrency-target-percentage": "55"}, {"container_concurrency_target_fraction": 0.55}),
    ({"target-burst-capacity": "-1"}, {"target_burst_capacity": -1}),
    ({"enable-scale-to-zero": "TRUE"}, {}),
    ({"enable-scale-to-zero": "false", "scale-to-zero-grace-period": "33s"}, {"enable_scale_to_zero": False, "scale_to_zero_grace_period": 33}),
    ({"allow-zero-initial-scale": "true", "initial-scale": "0"}, {"allow_zero_initial_scale": True, "initial_scale": 0}),
    ({"max-scale": "10"}, {"max_scale": 10}),
    ({"max-scale-up-rate": "1.001", "container-concurrency-target-percentage": "0.5", "container-concurrency-target-default": "10.0",
      "target-burst-capacity": "0", "stable-window": "5m", "panic-window-percentage": "10", "panic-threshold-percentage": "200",
      "activator-capacity": "1"},
     {"max_scale_up_rate": 1.001, "container_concurrency_target_fraction": 0.5, "container_concurrency_target_default": 10,
      "target_burst_capacity": 0, "stable_window": 300, "activator_capacity": 1}),
    ({"max-scale-down-rate": "3.0", "max-scale-up-rate": "1.01", "container-concurrency-target-percentage": "0.71",
      "container-concurrency-target-default": "10.5", "requests-per-second-target-default": "10.11", "target-burst-capacity": "12345",
      "scale-down-delay": "15m", "stable-window": "5m", "activator-capacity": "905", "scale-to-zero-pod-retention-period": "2m3s"},
     {"max_scale_down_rate": 3, "max_scale_up_rate": 1.01, "container_concurrency_target_fraction": 0.71,
      "container_concurrency_target_default": 10.5, "requests_per_second_target_default": 10.11, "target_burst_capacity": 12345,
      "scale_down_delay": 900, "stable_window": 300, "activator_capacity": 905, "scale_to_zero_pod_retention_period": 123}),
])  # fmt: skip
def test_configurations_that_knative_reads(data, wanted):
    assert Settings.from_config(data) == replace(Settings(), **wanted)


@pytest.mark.parametrize(("name", "value", "fine"), [
    ("window", "5s", "6s"), ("window", "61m", "60m"), ("panic-window-percentage", "0.5", "1"), ("panic-window-percentage", "101", "100"),
    ("panic-threshold-percentage", "109", "110"), ("panic-threshold-percentage", "1001", "1000"), ("target-burst-capacity", "-2", "-1"),
    ("target-utilization-percentage", "0", "1"), ("target-utilization-percentage", "101", "100"), ("scale-down-delay", "61m", "60m"),
    ("scale-to-zero-pod-retention-period", "61m", "60m"), ("min-scale", "-1", "0"), ("max-scale", "1.5", "1"),
    ("metric-aggregation-algorithm", "cubic", "weighted-exponential"),
])  # fmt: skip
def test_annotations_at_their_bounds(name, value, fine):
    """pkg/apis/autoscaling/annotation_validation.go."""
    key = f"autoscaling.knative.dev/{name}"
    Settings().annotated({key: fine, "other.dev/key": "x"})
    with pytest.raises(ValueError):
        Settings().annotated({key: value})


TARGETS = [
    # settings, arguments, (target, total)
    (dict(container_concurrency_target_fraction=1.0), {}, (100, 100)),
    (dict(container_concurrency_target_fraction=0.8), {}, (80, 100)),
    (dict(container_concurrency_target_fraction=0.8), dict(container_concurrency=12, utilization=0.75), (9, 12)),
    (dict(container_concurrency_target_fraction=0.8), dict(container_concurrency=10), (8, 10)),
    (dict(container_concurrency_target_fraction=1.0), dict(container_concurrency=1), (1, 1)),
    (dict(container_concurrency_target_fraction=1.0), dict(target=1), (1, 1)),
    (dict(container_concurrency_target_fraction=0.75), dict(target=10), (7.5, 10)),
    (dict(container_concurrency_target_fraction=1.0), dict(container_concurrency=10, target=1), (1, 1)),
    (dict(container_concurrency_target_fraction=1.0), dict(target=500), (500, 500)),
    (dict(container_concurrency_target_fraction=1.0), dict(container_concurrency=1, target=10), (1, 1)),
    ({}, dict(metric="rps", container_concurrency=1), (140, 200)),
    ({}, dict(metric="rps", target=1, utilization=1.0), (1, 1)),
    ({}, dict(metric="rps", utilization=0.75), (150, 200)),
    ({}, dict(metric="rps", target=300), (210, 300)),
]
"""TestResolveMetricTarget. Where its target was lifted to 1, the least target of then, the rows are left out: today it is 0.01."""


@pytest.mark.parametrize(("changes", "arguments", "wanted"), TARGETS)
def test_targets(changes, arguments, wanted):
    assert kpa.resolve_target(replace(Settings(), **changes), **arguments) == pytest.approx(wanted)


@pytest.mark.parametrize(("text", "wanted"), [("60s", 60), ("2m3s", 123), ("1h1s", 3601), ("500ms", 0.5), ("-1m23s", -83), ("0", 0)])
def test_durations(text, wanted):
    assert seconds(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "60", "s", "1d", "1m 3s", "not a duration"])
def test_no_durations(text):
    with pytest.raises(ValueError):
        seconds(text)


def test_activators():
    of = Spec.of(Settings())
    assert [kpa.activators(of, n) for n in (0, 1, 5)] == [3, 4, 8]
    assert kpa.activators(Spec.of(Settings(target_burst_capacity=0)), 1) == 2


@given(st.integers(0, 200), st.floats(0, 1e4), st.floats(0, 1e4))
def test_the_scale_stays_within_the_rates(ready, stable, panic):
    of = spec(10, 211, max_scale_up_rate=3, max_scale_down_rate=2)
    pods = max(1, ready)
    decision = Autoscaler(of).scale(0.0, ready, stable, panic)
    assert pods // 2 <= decision.desired <= 3 * pods


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 500), st.floats(0, 500)), min_size=2, max_size=30))
def test_in_panic_it_never_goes_down(steps):
    scaler, before = Autoscaler(spec(10, 211)), None
    for now, (ready, stable, panic) in enumerate(steps):
        decision = scaler.scale(float(now), ready, stable, panic)
        if scaler.panic_since is not None and before is not None:
            assert decision.desired >= before
        before = decision.desired if scaler.panic_since is not None else None
