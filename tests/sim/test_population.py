"""The population like Azure's, and a day of it."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.integrate import quad

from beyondlab.sim import azure, keep_alive_exact, simulate_day


def test_expected_shares_are_the_published_ones() -> None:
    """From the quantile function alone: rate at quantile q, integrated."""

    def rate(quantile: float) -> float:
        return math.exp(np.interp(quantile, azure.QUANTILES, np.log(azure.RATES)))

    pieces = [quad(rate, low, high)[0] for low, high in zip(azure.QUANTILES, azure.QUANTILES[1:], strict=False)]
    assert rate(0.45) == pytest.approx(1 / 3600)
    assert rate(0.814) == pytest.approx(1 / 60)
    assert pieces[2] / sum(pieces) == pytest.approx(0.996, abs=1e-9)
    assert sum(pieces) == pytest.approx(azure.mean_rate(), rel=1e-9)
    assert 5 < azure.HIGHEST_RATE < 50


def test_a_large_sample_has_the_published_shares() -> None:
    rates = azure.function_rates(200_000, seed=1)
    assert (rates <= 1 / 3600).mean() == pytest.approx(0.45, abs=0.005)
    assert (rates <= 1 / 60).mean() == pytest.approx(0.814, abs=0.005)
    assert rates[rates > 1 / 60].sum() / rates.sum() == pytest.approx(0.996, abs=0.0002)
    assert rates.min() >= azure.LOWEST_RATE * (1 - 1e-12) and rates.max() <= azure.HIGHEST_RATE * (1 + 1e-12)


def test_a_stratified_thousand_has_them_too() -> None:
    rates = azure.function_rates(1_000, seed=1, stratified=True)
    assert ((rates <= 1 / 3600).sum(), (rates <= 1 / 60).sum()) == (450, 814)
    assert rates[rates > 1 / 60].sum() / rates.sum() == pytest.approx(0.996, abs=1e-5)
    assert rates.mean() == pytest.approx(azure.mean_rate(), rel=1e-3)
    assert np.array_equal(rates, azure.function_rates(1_000, seed=1, stratified=True))
    assert not np.array_equal(rates, azure.function_rates(1_000, seed=2, stratified=True))
    assert not (np.diff(rates) > 0).all()


def test_execution_times() -> None:
    logs = np.log(azure.execution_seconds(200_000, seed=3))
    assert (logs.mean(), logs.std()) == (pytest.approx(-0.38, abs=0.02), pytest.approx(2.36, abs=0.02))


def test_a_day_agrees_with_the_closed_form() -> None:
    """Functions of one rate, each a day from steady state: the start-up ramp leaves no trace."""
    for rate, functions in ((1 / 600, 4_000), (0.1, 200)):
        day = simulate_day(np.full(functions, rate), 2.0, 600.0, seed=5)
        exact = keep_alive_exact(rate, 2.0, 600.0)
        cold = day.cold / (rate * day.observed_seconds)
        instances = (day.busy_seconds + day.idle_seconds) / day.observed_seconds
        for values, expected in ((cold, exact.cold_share), (instances, exact.instances)):
            error = values.std(ddof=1) / math.sqrt(functions)
            assert error < 0.02 * expected
            assert abs(values.mean() - expected) < 3.5 * error


def test_functions_do_not_depend_on_each_other() -> None:
    both = simulate_day([0.01, 0.5], [1.0, 3.0], 60.0, seed=8, start_up=0.5, horizon=20_000.0)
    other = simulate_day([5.0, 0.5], [2.0, 3.0], 60.0, seed=8, start_up=[0.1, 0.5], horizon=20_000.0)
    for name in ("requests", "cold", "busy_seconds", "idle_seconds"):
        assert getattr(both, name)[1] == getattr(other, name)[1]
        assert getattr(both, name)[0] != getattr(other, name)[0]


def test_engines_agree_and_seeds_repeat() -> None:
    def day(**changes):
        arguments = {"seed": 4, "start_up": 0.3, "horizon": 5_000.0, "limit": 3} | changes
        result = simulate_day([0.2, 1.0, 2.0], 1.0, 30.0, **arguments)
        return [result.requests, result.cold, result.throttled, result.busy_seconds, result.idle_seconds]

    assert all(map(np.array_equal, day(engine="numba"), day(engine="python")))
    assert all(map(np.array_equal, day(), day(seed=np.random.default_rng(4))))
    assert not np.array_equal(day()[0], day(seed=5)[0])
    assert day()[2].sum() > 0


def test_shares_of_a_day() -> None:
    day = simulate_day([1e-9, 0.5], 1.0, 30.0, seed=1, horizon=1_000.0)
    assert day.requests[0] == 0 and np.isnan(day.function_cold_share[0])
    assert day.function_cold_share[1] == day.cold_share == day.cold[1] / day.requests[1]
    assert np.isnan(simulate_day([], [], 30.0, seed=1).cold_share)


def test_memory_does_not_grow_with_requests() -> None:
    simulate_day([1.0], 1.0, 60.0, seed=1, horizon=10.0)
    tracemalloc.start()
    day = simulate_day([50.0], 1.0, 60.0, seed=1, horizon=40_000.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert day.requests[0] > 1_900_000
    assert peak < 8e6


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"rates": [1.0, 0.0]}, r"rates\[1\]=0.0"),
        ({"rates": [1.0, math.nan]}, r"rates\[1\]=nan"),
        ({"rates": 1.0}, "rates: must be a one-dimensional"),
        ({"mean_service": [1.0]}, "mean_service: .*2 rates, got 1"),
        ({"mean_service": -1.0}, "mean_service=-1.0"),
        ({"start_up": [0.0, -1.0]}, r"start_up\[1\]=-1.0: .*at least 0"),
        ({"keep_alive": 0.0}, "keep_alive=0.0"),
        ({"horizon": -1.0}, "horizon=-1.0"),
        ({"warm_up": math.nan}, "warm_up=nan"),
        ({"limit": 0}, "limit=0"),
        ({"seed": "x"}, "seed='x'"),
    ],
)
def test_refused(arguments: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        simulate_day(**({"rates": [1.0, 2.0], "mean_service": 1.0, "keep_alive": 10.0, "seed": 1} | arguments))


def test_azure_refuses_a_negative_count() -> None:
    with pytest.raises(ValueError, match="count=-1"):
        azure.function_rates(-1, seed=1)
    assert azure.function_rates(0, seed=1, stratified=True).size == 0
