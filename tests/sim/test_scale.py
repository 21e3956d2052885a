"""The benchmark of scale runs, and fails when it should; the threads of a day change nothing but its time."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beyondlab import sim

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scale.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("scale_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_runs_and_reports():
    command = [sys.executable, str(SCRIPT), "--sizes", "1e4", "--repeat", "1", "--no-targets"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as it should be." in done.stdout and done.stdout.count("%") == 1


def test_it_says_what_is_wrong(benchmark):
    right = benchmark.Measured(200 * sim.DAY, 17_280_000, 400_000, 2.0, 300.0)
    slow = benchmark.Measured(200 * sim.DAY, 17_280_000, 400_000, 3.1, 300.0)
    large = benchmark.Measured(1e8, 100_000_000, 1, 9.0, 1_001.0)
    lost = benchmark.Measured(1e8, 90_000_000, 1, 9.0, 300.0)
    assert benchmark.faults([right], targets=True) == []
    assert "3.1 s, the target is 3 s" in benchmark.faults([slow], targets=True)[0]
    assert "1,001 MB" in benchmark.faults([large], targets=True)[0]
    assert benchmark.faults([slow, large], targets=False) == []
    assert "90,000,000 simulated" in benchmark.faults([lost], targets=False)[0]


@pytest.mark.parametrize("engine", ["numba", "python"])
@pytest.mark.parametrize("limit", [None, 3])
def test_threads_and_engines_change_nothing(engine, limit):
    rates = np.geomspace(1e-6, 2.0, 230)
    options = {"seed": 7, "start_up": 0.3, "horizon": 4_000.0, "limit": limit}
    one = sim.simulate_day(rates, 2.0, 300.0, workers=1, engine="python", **options)
    for workers in (1, 2, 5):
        other = sim.simulate_day(rates, 2.0, 300.0, workers=workers, engine=engine, **options)
        for name in ("requests", "cold", "throttled", "busy_seconds", "idle_seconds"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), (name, workers)


@pytest.mark.parametrize("warm_up", [0.0, 1.0, 5_000.0])
def test_the_warm_up_is_the_same_for_both_engines(warm_up):
    rates = np.array([1e-9, 0.001, 0.05, 3.0])
    both = [
        sim.simulate_day(rates, 1.0, 100.0, seed=3, horizon=2_000.0, warm_up=warm_up, engine=engine)
        for engine in ("numba", "python")
    ]
    for name in ("requests", "cold", "busy_seconds", "idle_seconds"):
        assert np.array_equal(*(getattr(result, name) for result in both))


def test_more_arrivals_than_were_drawn_at_once(monkeypatch):
    """The bound on the draws of a rare function is generous; here it is not, so that the other way is taken."""
    import math

    from beyondlab.sim import _population_kernel as kernel

    rates = np.full(50, 0.05)
    usual = sim.simulate_day(rates, 1.0, 100.0, seed=9, horizon=1_000.0)
    monkeypatch.setattr(kernel, "math", type("short", (), {"sqrt": staticmethod(lambda number: -math.sqrt(number) / 5)}))
    short = sim.simulate_day(rates, 1.0, 100.0, seed=9, horizon=1_000.0)
    assert np.array_equal(usual.requests, short.requests) and np.array_equal(usual.idle_seconds, short.idle_seconds)


def test_bad_workers_are_named():
    with pytest.raises(ValueError, match="workers=0"):
        sim.simulate_day([1.0], 1.0, 1.0, seed=1, workers=0)
