"""Simulation against the exact steady state, within statistical error."""

from __future__ import annotations

import numpy as np
import pytest

from beyondlab.sim import exponential, keep_alive_exact, poisson, simulate

RUNS = 10


@pytest.mark.parametrize(
    ("rate", "requests"),
    [(1 / 600, 40_000), (0.01, 80_000), (0.1, 150_000), (1.0, 500_000), (10.0, 1_500_000), (100.0, 3_000_000)],
)
def test_agrees_with_the_closed_form(rate: float, requests: int) -> None:
    exact = keep_alive_exact(rate, 2.0, 600.0)
    rng = np.random.default_rng(20_201)
    cold, instances = [], []
    for _ in range(RUNS):
        arrivals = poisson(rate, count=requests, seed=rng)
        result = simulate(arrivals, exponential(2.0, requests, rng), 600.0, warm_up=640.0)
        cold.append(result.cold_share)
        instances.append(result.mean_instances)
    for values, expected in ((cold, exact.cold_share), (instances, exact.instances)):
        error = np.std(values, ddof=1) / np.sqrt(RUNS)
        assert error < 0.05 * expected, "too few requests for this test to mean anything"
        assert abs(np.mean(values) - expected) < 3.5 * error
