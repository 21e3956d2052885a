"""The autoscaler's formula, held to kubernetes/kubernetes ``pkg/controller/podautoscaler/replica_calculator_test.go``."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.fleets.hpa import NoMetrics, Pod, Sample, Stabiliser, desired, group, of_object, of_object_per_pod

HOT, COOL = 0.0, 180.0
TIMES = {"initialisation": 120.0, "readiness": 10.0}
T, F = True, False


def pods(count, *, ready=None, age=None, phase=None, deleted=None, requests=None):
    found = []
    for i in range(count):
        years = age[i] if age else 1e9
        found.append(Pod(f"pod-{i}", (requests or {}).get(i, 1000), ready[i] if ready else True, phase[i] if phase else "Running",
                         years, years, deleted[i] if deleted else False))  # fmt: skip
    return found


def usage(levels):
    return {f"pod-{i}": Sample(level) for i, level in enumerate(levels)}


RUN, PEND, FAIL = "Running", "Pending", "Failed"
RESOURCE = {
    "ScaleUp": (3, 5, [300, 500, 700], 30, {}),
    "ScaleUpUnreadyLessScale": (3, 4, [300, 500, 700], 30, {"ready": [F, T, T]}),
    "ScaleUpHotCpuLessScale": (3, 4, [300, 500, 700], 30, {"age": [HOT, COOL, COOL]}),
    "ScaleUpUnreadyNoScale": (3, 3, [400, 500, 700], 30, {"ready": [T, F, F]}),
    "ScaleHotCpuNoScale": (3, 3, [400, 500, 700], 30, {"ready": [T, F, F], "age": [COOL, HOT, HOT]}),
    "ScaleUpIgnoresFailedPods": (2, 4, [500, 700], 30, {"ready": [T, T, F, F], "phase": [RUN, RUN, FAIL, FAIL]}),
    "ScaleUpIgnoresDeletionPods": (2, 4, [500, 700], 30, {"ready": [T, T, F, F], "deleted": [F, F, T, T]}),
    "ScaleDown": (5, 3, [100, 300, 500, 250, 250], 50, {}),
    "ScaleDownIncludeUnreadyPods": (5, 2, [100, 300, 500, 250, 250], 50, {"ready": [T, T, T, F, F]}),
    "ScaleDownExcludeUnscheduledPods": (5, 1, [100], 50, {"ready": [T, F, F, F, F], "phase": [RUN, PEND, PEND, PEND, PEND]}),
    "ScaleDownIgnoreHotCpuPods": (5, 2, [100, 300, 500, 250, 250], 50, {"age": [COOL, COOL, COOL, HOT, HOT]}),
    "ScaleDownIgnoresFailedPods": (5, 3, [100, 300, 500, 250, 250], 50, {"ready": [T] * 5 + [F, F], "phase": [RUN] * 5 + [FAIL] * 2}),
    "ScaleDownIgnoresDeletionPods": (5, 3, [100, 300, 500, 250, 250], 50, {"ready": [T] * 5 + [F, F], "deleted": [F] * 5 + [T, T]}),
    "Tolerance": (3, 3, [1010, 1030, 1020], 100, {"requests": {0: 900, 2: 1100}}),
    "SuperfluousMetrics": (4, 24, [4000, 9500, 3000, 7000, 3200, 2000], 100, {}),
    "MissingMetrics": (4, 3, [400, 95], 100, {}),
    "MissingMetricsNoChangeEq": (2, 2, [1000], 100, {}),
    "MissingMetricsNoChangeGt": (2, 2, [1900], 100, {}),
    "MissingMetricsNoChangeLt": (2, 2, [600], 100, {}),
    "MissingMetricsUnreadyChange": (3, 3, [100, 450], 50, {"ready": [F, T, T]}),
    "MissingMetricsHotCpuNoChange": (3, 3, [100, 450], 50, {"age": [HOT, COOL, COOL]}),
    "MissingMetricsUnreadyScaleUp": (3, 4, [100, 2000], 50, {"ready": [F, T, T]}),
    "MissingMetricsHotCpuScaleUp": (3, 4, [100, 2000], 50, {"ready": [F, T, T], "age": [HOT, COOL, COOL]}),
    "MissingMetricsUnreadyScaleDown": (4, 3, [100, 100, 100], 50, {"ready": [F, T, T, T]}),
    "DuringRollingUpdateWithMaxSurge": (2, 2, [100, 100], 50, {"phase": [RUN] * 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", RESOURCE)
def test_by_the_share_of_the_request(name):
    current, expected, levels, target, how = RESOURCE[name]
    count = max([current, *(len(v) for v in how.values() if isinstance(v, list))])
    assert desired(current, pods(count, **how), usage(levels), target, **TIMES) == expected


@pytest.mark.parametrize(("current", "expected", "levels", "target", "how"), [
    (3, 4, [20000, 10000, 30000], 15000, {}),
    (3, 6, [50000, 10000, 30000], 15000, {"ready": [T, T, F], "age": [COOL, COOL, HOT]}),
    (3, 7, [50000, 15000, 30000], 15000, {"ready": [F, T, F], "age": [HOT, COOL, HOT]}),
    (5, 3, [12000] * 5, 20000, {}),
    (3, 3, [20000, 21000, 21000], 20000, {}),
])  # fmt: skip
def test_by_a_plain_metric_of_each_pod(current, expected, levels, target, how):
    assert desired(current, pods(current, **how), usage(levels), target, per_request=False, **TIMES) == expected


@pytest.mark.parametrize(("current", "ready", "value", "target", "expected"), [
    (3, 3, 20000, 15000, 4), (3, 1, 50000, 10000, 5), (3, 1, 8600, 4400, 2), (1, 1, 8600, 4400, 2), (5, 5, 12000, 20000, 3),
    (5, 5, 8600, 14334, 3), (3, 3, 20666, 20000, 3), (3, 3, 8600, 8888, 3),
])  # fmt: skip
def test_by_one_value_for_all(current, ready, value, target, expected):
    assert of_object(current, ready, value, target) == expected


@pytest.mark.parametrize(("current", "value", "target", "expected"), [
    (3, 20000, 5000, 4), (3, 8600, 2150, 4), (5, 6000, 2000, 3), (5, 8600, 2867, 3), (4, 20166, 5000, 4), (3, 8600, 2900, 3),
])  # fmt: skip
def test_by_one_value_and_a_target_for_each(current, value, target, expected):
    assert of_object_per_pod(current, value, target) == expected


@pytest.mark.parametrize(("margin", "scales"), [(0.01, True), (0.004, False)])
def test_the_computed_tolerance(margin, scales):
    """TestReplicaCalcComputedToleranceAlgImplementation."""
    target = abs(1 / (2 * (1 - 0.1))) + margin
    jitter = [100, -100, 10, -10, 2, -2, 1, -1, 0, 0]
    requests = {i: 300 + extra for i, extra in enumerate(jitter)}
    expected = math.ceil(1500 / (3000 * target) * 10) if scales else 10
    assert desired(10, pods(10, requests=requests), usage([150] * 10), int(target * 100)) == expected


@pytest.mark.parametrize(("given", "levels", "message"), [
    ([Pod("pod-0")], {"an-older-pod-name": Sample(100)}, "no metrics returned matched known pods"),
    ([Pod("pod-0")] * 3, {}, "no metrics returned from resource metrics API"),
    ([Pod("pod-0", None)], {"pod-0": Sample(200)}, "missing request for"),
    ([], {"pod-0": Sample(1)}, "no pods"),
    ([Pod("pod-0", ready=False, age=0, changed=0)], {"pod-0": Sample(1)}, "did not receive metrics for any ready pods"),
])  # fmt: skip
def test_nothing_to_compute_from(given, levels, message):
    with pytest.raises(NoMetrics, match=message):
        desired(1, given, levels, 100)


@pytest.mark.parametrize(("name", "pod", "sample", "cpu", "count", "unready", "missing"), [
    ("ready, memory", Pod("p", phase="Succeeded"), Sample(1), False, 1, 0, 0),
    ("no condition", Pod("p", ready=None, age=0), Sample(1), True, 0, 1, 0),
    ("fresh metrics while initialising", Pod("p", age=60, changed=30), Sample(1, 0, 29.9), True, 1, 0, 0),
    ("stale metrics while initialising", Pod("p", age=60, changed=30), Sample(1, 0, 60), True, 0, 1, 0),
    ("unready, never ready", Pod("p", ready=False, age=600, changed=594), Sample(1), True, 0, 1, 0),
    ("ready, stale, after initialising", Pod("p", age=180, changed=180), Sample(1, 120, 60), True, 1, 0, 0),
    ("unready, was ready", Pod("p", ready=False, age=600, changed=540), Sample(1), True, 1, 0, 0),
    ("never ready, long ago", Pod("p", ready=False, age=600, changed=590), Sample(1), True, 1, 0, 0),
    ("missing", Pod("p", ready=None, age=180), None, True, 0, 0, 1),
    ("pending", Pod("p", phase="Pending"), None, True, 0, 1, 0),
])  # fmt: skip
def test_groups_of_pods(name, pod, sample, cpu, count, unready, missing):
    """TestGroupPods."""
    found = group([pod], {"p": sample} if sample else {}, cpu=cpu, **TIMES)
    assert (found[0], len(found[1]), len(found[2])) == (count, unready, missing), name


def test_down_waits_for_the_window_and_up_does_not():
    settle = Stabiliser(down=300)
    seen = [settle.settle(t, current, wish) for t, current, wish in [(0, 10, 10), (60, 10, 4), (240, 10, 4), (299, 10, 4), (301, 10, 4), (310, 4, 9)]]
    assert seen == [10, 10, 10, 10, 4, 9]


def test_up_takes_the_lowest_wish_of_its_window():
    settle = Stabiliser(down=0, up=60)
    assert [settle.settle(0, 2, 3), settle.settle(10, 3, 9), settle.settle(61, 3, 9)] == [3, 3, 9]


@given(st.integers(1, 30), st.integers(1, 200), st.integers(1, 3000))
def test_a_second_look_changes_nothing_more(count, target, level):
    """After scaling by the formula, the same total load asks for the same number, within the tolerance."""
    now = desired(count, pods(count), usage([level] * count), target)
    if now and now <= 2000:
        each = count * level / now
        again = desired(now, pods(now), usage([each] * now), target)
        assert abs(again - now) <= max(1, 0.11 * now)
