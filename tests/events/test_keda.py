"""The scaling rule gives what KEDA's and Kubernetes's own tests expect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.events.keda import Rule, Scaler, executor_replicas, hpa_replicas, jetstream_lag, kafka_lag

EXECUTOR = [  # test, active, replicas, least, idle, further, wanted
    ("TestScaleToMinReplicasWhenNotActive", False, 10, 0, None, {}, 0),
    ("TestScaleToMinReplicasFromLowerInitialReplicaCount", False, 1, 5, None, {}, 5),
    ("TestScaleFromMinReplicasWhenActive", True, 0, 0, None, {}, 1),
    ("TestScaleToIdleReplicasWhenNotActive", False, 10, 5, 0, {}, 0),
    ("TestScaleFromIdleToMinReplicasWhenActive", True, 0, 5, 0, {}, 5),
    ("TestEventWitTriggerInfo", True, 2, 5, 0, {}, 5),
    ("TestNoScaleToMinReplicasWhenNotActiveAndPauseScaleInAnnotationSet", False, 10, 0, None, {"pause_scale_in": True}, 10),
    ("TestNoScaleToIdleReplicasWhenNotActiveAndPauseScaleInAnnotationSet", False, 10, 5, 0, {"pause_scale_in": True}, 10),
    ("TestScaleFromMinReplicasWhenActivationForced", False, 0, 0, None, {"forced": True}, 1),
    ("TestNoScaleFromMinReplicasWhenActiveAndPausedScaleOutAnnotationSet", True, 0, 0, None, {"pause_scale_out": True}, 0),
    ("TestNoScaleFromIdleReplicasToMinReplicasWhenActiveAndPausedScaleOutAnnotationSet", True, 0, 5, 0,
     {"pause_scale_out": True}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "active", "current", "least", "idle", "further", "wanted"), EXECUTOR)
def test_kedas_executor(name, active, current, least, idle, further, wanted):
    """kedacore/keda, pkg/scaling/executor/scale_scaledobjects_test.go (03b6a23)."""
    rule = Rule(least=least, idle=idle)
    assert executor_replicas(rule, current, active=active, **further) == wanted


@pytest.mark.parametrize(
    ("name", "current", "lag", "target", "wanted"),
    [("TestReplicaCalcScaleUpPerPodCMExternal", 3, 8600, 2150, 4), ("TestReplicaCalcScaleDownPerPodCMExternal", 5, 8600, 2867, 3),
     ("TestReplicaCalcTolerancePerPodCMExternal", 3, 8600, 2900, 3)],
)  # fmt: skip
def test_kubernetes_replica_calculator(name, current, lag, target, wanted):
    """kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator_test.go."""
    assert hpa_replicas(current, lag, target) == wanted


@pytest.mark.parametrize(
    ("name", "consumers", "last", "lag"),
    [("no messages waiting", {"pull_consumer": (0, 0)}, 0, 0), ("messages waiting", {"pull_consumer": (100, 0)}, 0, 100),
     ("bad consumer name uses stream last sequence", {"pull_consumer_bad": (100, 0)}, 1, 1)],
)  # fmt: skip
def test_kedas_nats_scaler(name, consumers, last, lag):
    """kedacore/keda, pkg/scalers/nats_jetstream_scaler_test.go (0c4873b): active means more than activationLagThreshold 10."""
    found = jetstream_lag(consumers, "pull_consumer", last)
    assert found == lag
    assert (Scaler(Rule(activation=10)).poll(0.0, found) == 1) is (name == "messages waiting")


def test_unacknowledged_events_count():
    assert jetstream_lag({"c": (5, 7)}, "c", 99) == 12


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=12), st.integers(1, 500))
def test_never_more_replicas_than_partitions(lags, threshold):
    assert hpa_replicas(0, kafka_lag(lags, threshold), threshold) <= len(lags) + 1
    assert kafka_lag(lags, threshold, allow_idle=True) == sum(lags)
    if sum(lags) >= (len(lags) + 1) * threshold:
        assert hpa_replicas(0, kafka_lag(lags, threshold), threshold) == len(lags)


def test_from_zero_up_and_back():
    scaler = Scaler(Rule(threshold=10, most=6, cooldown=300))
    assert scaler.sync(0, 1_000) == 0, "the HPA sleeps at zero"
    assert scaler.poll(0, 1_000) == 1
    assert scaler.sync(15, 1_000) == 5, "4 more pods at most"
    assert scaler.sync(30, 1_000) == 6, "no more than the most"
    assert scaler.sync(45, 0) == 6, "down only after the stabilisation window"
    assert scaler.sync(331, 0) == 1
    assert scaler.poll(300, 0) == 1, "cooling down"
    assert scaler.poll(331, 0) == 0


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(0, 2_000)), max_size=60), st.integers(0, 3), st.integers(3, 20))
def test_replicas_stay_within_their_limits(looks, least, most):
    scaler, now = Scaler(Rule(least=least, most=most), replicas=least), 0.0
    for wait, lag in looks:
        now += wait
        before = scaler.replicas
        polled = scaler.poll(now, lag)
        assert polled in (before, 0, max(least, 1))
        after = scaler.sync(now, lag)
        assert least <= after <= most
        assert after <= max(2 * polled, polled + 4)
        assert lag == 0 or after >= 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"threshold": 0}, "threshold=0"), ({"polling": -1}, "polling=-1"), ({"least": 5, "most": 4}, "most=4"), ({"most": 0}, "most=0"),
     ({"idle": 2}, "idle=2"), ({"cooldown": float("nan")}, "cooldown=nan")],
)  # fmt: skip
def test_bad_rules_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Rule(**arguments)
