"""Arrivals and service times: distribution, streams, seeds, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from beyondlab.sim import constant, exponential, lognormal, poisson, poisson_chunks, renewal, renewal_chunks

examples = settings(derandomize=True, deadline=None, max_examples=100)


@examples
@given(st.integers(0, 2**32), st.floats(0.01, 100.0), st.floats(0.1, 50.0), st.integers(1, 200))
def test_chunks_join_to_the_array(seed: int, rate: float, span: float, size: int) -> None:
    whole = poisson(rate, horizon=span, seed=seed)
    parts = list(poisson_chunks(rate, horizon=span, seed=seed, size=size))
    assert np.array_equal(np.concatenate([np.empty(0), *parts]), whole)
    assert all(0 < part.size <= size for part in parts)
    assert (whole >= 0).all() and (whole < span).all() and (np.diff(whole) >= 0).all()
    counted = poisson(rate, count=whole.size + 1, seed=seed)
    assert np.array_equal(counted[:-1], whole) and counted[-1] >= span
    bursty = renewal(rate, 2.0, count=100, seed=seed)
    assert np.array_equal(np.concatenate([*renewal_chunks(rate, 2.0, count=100, seed=seed, size=size)]), bursty)


def test_poisson_counts_and_gaps() -> None:
    arrivals = poisson(5.0, horizon=20_000.0, seed=1)
    assert abs(arrivals.size - 100_000) < 4 * math.sqrt(100_000)
    assert kstest(np.diff(arrivals), "expon", (0, 0.2)).pvalue > 0.01
    counts = np.histogram(arrivals, 20_000, (0.0, 20_000.0))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("cv", [0.2, 1.0, 3.0])
def test_renewal_mean_and_cv(cv: float) -> None:
    gaps = np.diff(renewal(4.0, cv, count=400_000, seed=2))
    assert gaps.mean() == pytest.approx(0.25, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)


def test_service_times() -> None:
    assert kstest(exponential(2.0, 50_000, 3), "expon", (0, 2.0)).pvalue > 0.01
    logs = np.log(lognormal(-0.4, 1.5, 50_000, 4))
    assert kstest(logs, "norm", (-0.4, 1.5)).pvalue > 0.01
    assert constant(0.5, 3).tolist() == [0.5, 0.5, 0.5]
    assert exponential(1.0, 0, 1).size == poisson(1.0, count=0, seed=1).size == 0


def test_seeds() -> None:
    assert np.array_equal(exponential(1.0, 5, 9), exponential(1.0, 5, np.random.default_rng(9)))
    assert np.array_equal(poisson(1.0, count=5, seed=9), poisson(1.0, count=5, seed=np.random.default_rng(9)))
    assert not np.array_equal(poisson(1.0, count=5, seed=9), poisson(1.0, count=5, seed=10))
    rng = np.random.default_rng(9)
    assert not np.array_equal(exponential(1.0, 5, rng), exponential(1.0, 5, rng))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: poisson(0.0, count=1, seed=1), "rate=0.0: .*greater than 0"),
        (lambda: poisson(-1, count=1, seed=1), "rate=-1"),
        (lambda: poisson(math.nan, count=1, seed=1), "rate=nan"),
        (lambda: poisson(math.inf, count=1, seed=1), "rate=inf"),
        (lambda: poisson("fast", count=1, seed=1), "rate='fast'"),
        (lambda: poisson(5e-324, count=10, seed=1), "rate=5e-324"),
        (lambda: poisson(1.0, seed=1), "horizon=None, count=None: give exactly one"),
        (lambda: poisson(1.0, horizon=2.0, count=3, seed=1), "horizon=2.0, count=3: give exactly one"),
        (lambda: poisson(1.0, horizon=0.0, seed=1), "horizon=0.0"),
        (lambda: poisson(1.0, horizon=math.inf, seed=1), "horizon=inf"),
        (lambda: poisson(1e9, horizon=1e9, seed=1), "horizon=1000000000.0: at rate"),
        (lambda: poisson(1.0, count=-1, seed=1), "count=-1: .*at least 0"),
        (lambda: poisson(1.0, count=1.5, seed=1), "count=1.5: .*integer"),
        (lambda: poisson(1.0, count=1, seed=-1), "seed=-1: .*Generator"),
        (lambda: poisson(1.0, count=1, seed="x"), "seed='x'"),
        (lambda: poisson_chunks(1.0, count=1, seed=1, size=0), "size=0"),
        (lambda: poisson_chunks(-1.0, count=1, seed=1), "rate=-1.0"),
        (lambda: renewal(1.0, 0.0, count=1, seed=1), "cv=0.0: must be between 0.01 and 20"),
        (lambda: renewal(1.0, math.nan, count=1, seed=1), "cv=nan"),
        (lambda: exponential(0.0, 1, 1), "mean=0.0"),
        (lambda: exponential(1.0, -1, 1), "count=-1"),
        (lambda: exponential(1.7e308, 50, 1), "mean=1.7e"),
        (lambda: lognormal(math.nan, 1.0, 1, 1), "mu=nan"),
        (lambda: lognormal(0.0, -1.0, 1, 1), "sigma=-1.0"),
        (lambda: lognormal(1e4, 1.0, 1, 1), "mu=10000.0, sigma=1.0: .*finite"),
        (lambda: constant(-1.0, 1), "seconds=-1.0"),
        (lambda: constant(math.inf, 1), "seconds=inf"),
    ],
)
def test_refused(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()
