"""KEDA's strategies, held to its tests, and what they do to a queue.

Source: kedacore/keda, ``pkg/scaling/executor/scale_jobs_test.go`` (commit 002180f1), Apache License 2.0; its table is in
``beyondlab.knative.oracle``.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.knative import keda
from beyondlab.knative.oracle import KEDA, keda_agrees


@pytest.mark.parametrize("row", KEDA, ids=str)
def test_the_table_of_strategies(row):
    assert keda_agrees(row)


def test_the_agreement_can_fail():
    assert not keda_agrees(("default", {}, (3, 2, 0, 5), 2, None))


@pytest.mark.parametrize(("least", "running", "wanted", "limit"), [(2, 0, 0, (2, 2)), (2, 1, 0, (1, 1)), (1, 1, 2, (2, 2))])
def test_least_replicas(least, running, wanted, limit):
    """TestRunningJobCountSmallerMinReplicaCount and the two after it."""
    got = keda.decide("default", scale_to=wanted, max_scale=wanted, running=running, pending=0, max_replicas=100, min_replicas=least)
    assert got == limit


@pytest.mark.parametrize(("current", "metric", "target", "wanted"), [
    (1, 200, 100, 2), (3, 50, 100, 2), (4, 105, 100, 4), (4, 91, 100, 4), (4, 111, 100, 5), (10, 0, 100, 0), (3, 100, 100, 3),
])  # fmt: skip
def test_hpa(current, metric, target, wanted):
    """The examples and the tolerance of 10 % in Kubernetes' documentation."""
    assert keda.hpa_desired(current, metric, target) == wanted


@pytest.mark.parametrize("call", [
    lambda: keda.new_jobs("lazy", max_scale=1, running=0, pending=0, max_replicas=1),
    lambda: keda.hpa_desired(1, 1, 0), lambda: keda.hpa_desired(-1, 1, 1),
    lambda: keda.simulate_jobs([1.0], [1.0, 2.0], "eager"), lambda: keda.simulate_jobs([1.0], [1.0], "eager", poll=0),
])  # fmt: skip
def test_bad_input(call):
    with pytest.raises(ValueError):
        call()


@given(st.integers(1, 60), st.integers(0, 99), st.sampled_from(["default", "accurate", "eager"]), st.booleans())
def test_every_message_is_worked_off(count, seed, strategy, counts):
    rng = np.random.default_rng(seed)
    arrivals, service = np.sort(rng.uniform(0, 300, count)), rng.exponential(40.0, count)
    got = keda.simulate_jobs(arrivals, service, strategy, counts_locked=counts, max_replicas=10)
    assert np.all(got.waits >= 0) and got.peak <= 10 and got.job_seconds == pytest.approx(service.sum())
    assert got.jobs - got.idle_jobs >= count


def test_the_right_strategy_for_the_queue():
    arrivals, service = sim.poisson(0.2, horizon=1_800, seed=5), sim.exponential(90.0, count=372, seed=6)
    run = {(s, c): keda.simulate_jobs(arrivals, service, s, counts_locked=c, max_replicas=50)
           for s in ("default", "accurate") for c in (True, False)}  # fmt: skip
    assert run["default", True].idle_jobs == run["accurate", False].idle_jobs == 0 < run["accurate", True].idle_jobs
    assert np.quantile(run["default", False].waits, 0.99) > 4 * np.quantile(run["default", True].waits, 0.99)
