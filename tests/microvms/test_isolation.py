"""The rows of the comparison, measured small."""

import os

import pytest
from beyondlab.kit import namespaces
from beyondlab.microvms import isolation, lab
from beyondlab.microvms.surface import NUMBERS

COMMON = {"start", "start p99", "memory", "call"}


def unable(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def test_p99():
    assert isolation.p99([5.0]) == 5.0
    assert isolation.p99(list(range(101))) == 99.0


def test_a_process():
    if lab._no_probe():
        pytest.skip(lab._no_probe())
    row = isolation.process(starts=20, calls=1_000_000)
    assert row.keys() >= COMMON
    assert 0 < row["start"].value <= row["start p99"].value < 2_000
    assert row["memory"].value < 500
    assert 10 < row["call"].value < 20_000
    if "allowed" in row:
        assert row["allowed"] <= len(NUMBERS)


def test_namespaces_cost_more_to_start_than_a_process():
    if reason := lab._no_probe() or namespaces.missing():
        pytest.skip(reason)
    row = isolation.namespace(starts=20, calls=500_000)
    plain = isolation.process(starts=20, calls=500_000)
    assert row["start"].value > plain["start"].value
    assert row["memory"].value < 500


def test_gvisor_serves_calls_itself():
    if reason := isolation.gvisor_missing():
        unable(reason)
    row = isolation.gvisor(starts=3, calls=4_000)
    assert row["call"].value > 1_000
    assert row["memory"].value > 1_000
    if "allowed" in row:
        assert 20 < row["allowed"] < 150


def test_wasm_instances():
    if reason := lab._no_wasmtime():
        unable(reason)
    row = isolation.wasm(instances=100, calls=10_000)
    assert row.keys() >= COMMON
    assert row["allowed"] == 0
    assert row["start"].value < 50


def test_clones():
    row = isolation.clone(count=5)
    assert row["memory"].value == pytest.approx(8, abs=4.1)
    assert row["call"].value > 100


def test_the_names_of_the_rows():
    assert list(lab.WALLS) == ["process", "namespaces", "gVisor, ptrace", "Wasm, Wasmtime", "clone, our monitor", "microVM, Linux"]
