"""The side-by-side benchmark runs, compares counts, and fails when it should."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "keep_alive.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("keep_alive_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_runs_and_the_counts_agree() -> None:
    absent = [name for name in ("simpy", "simfaas") if importlib.util.find_spec(name) is None]
    if absent:
        message = f"the benchmark needs {' and '.join(absent)}: install the extra 'bench'"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    command = [sys.executable, str(SCRIPT), "--rates", "3", "--requests", "4000", "--repeat", "1", "--no-targets"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| 3 |")]
    assert [row.split("|")[2].strip() for row in rows] == [
        "beyondlab, numba", "beyondlab, Python", "plain heapq", "plain heapq, newest first", "simpy", "simfaas"
    ]  # fmt: skip
    assert "Cold starts agree." in done.stdout


def results(benchmark, **seconds: float):
    """Results that meet every target, but for the seconds given by contender."""
    usual = {name: 1.0 for name in benchmark.CONTENDERS} | {benchmark.OURS: 0.0005}
    return [
        benchmark.Measured(name, rate, 1_000, seconds.get(name, usual[name]), 7)
        for rate in (1.0, 10.0, 100.0)
        for name in benchmark.CONTENDERS
    ]


def test_it_accepts_what_meets_the_targets(benchmark) -> None:
    assert benchmark.faults(results(benchmark), 1.0, targets=True) == []


def test_it_reports_missed_targets(benchmark) -> None:
    slow = results(benchmark, **{benchmark.OURS: 0.02})
    assert [fault.split(",")[0] for fault in benchmark.faults(slow, 30.0, targets=True)] == [
        "rate 10: 50 times simpy",
        "rate 10: 50 times simfaas",
        "rate 100: 50 times simfaas",
        "30.0 bytes a request beyond the inputs",
    ]
    assert benchmark.faults(slow, 30.0, targets=False) == []


@pytest.mark.parametrize("wrong", ["beyondlab, numba", "beyondlab, Python", "plain heapq", "simpy", "simfaas"])
def test_it_reports_counts_that_differ(benchmark, wrong: str) -> None:
    changed = [
        benchmark.Measured(one.contender, one.rate, one.requests, one.seconds, one.cold + (one.contender == wrong))
        for one in results(benchmark)
    ]
    assert any(wrong in fault and "cold starts" in fault for fault in benchmark.faults(changed, 1.0, targets=False))
