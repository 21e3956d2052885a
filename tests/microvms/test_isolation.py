"""The rows of the comparison, measured small."""

import os
import subprocess
import sys

import pytest
from beyondlab.kit import namespaces, processes, recordings
from beyondlab.kit.recordings import Result
from beyondlab.microvms import isolation, lab, linux
from beyondlab.microvms.surface import NUMBERS

COMMON = {"start", "start p99", "memory", "call"}


def unable(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def test_p99():
    assert isolation.p99([5.0]) == 5.0
    assert isolation.p99(list(range(101))) == 99.0


def test_a_process_and_its_namespaces():
    if reason := lab._no_probe() or namespaces.missing():
        pytest.skip(reason)
    plain, row = isolation.process(starts=20, calls=500_000), isolation.namespace(starts=20, calls=500_000)
    assert plain.keys() >= COMMON and row.keys() >= COMMON
    assert 0 < plain["start"].value <= plain["start p99"].value < 5_000
    assert row["start"].value > plain["start"].value
    assert plain["memory"].value < 500 and row["memory"].value < 500
    assert 10 < plain["call"].value < 20_000
    assert row["call"].value < 5 * plain["call"].value, "namespaces do not slow a call down"
    assert plain["host kernel"].value <= 1.5 * plain["call"].value, "the kernel's part is a part"
    assert plain.get("allowed", 0) <= len(NUMBERS)


def test_calls_are_counted_in_processor_time(tmp_path):
    """A program that shares its processors with others takes longer by the clock, not in processor time."""
    if reason := lab._no_probe():
        pytest.skip(reason)
    argv = [str(linux.write_probe(tmp_path)), "1000000", "p"]
    free = isolation._watch(argv, 1_000_000, lambda _: True, lambda _: True, repetitions=2)["call"].value
    burn = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        busy = isolation._watch(argv, 1_000_000, lambda _: True, lambda _: True, repetitions=2)["call"].value
    finally:
        for one in burn:
            one.kill()
            one.wait()
    assert busy < 2.5 * free


def test_a_probe_that_ends_is_told():
    with pytest.raises((RuntimeError, processes.ProcessExited), match="ended"):
        isolation._watch(["sh", "-c", "echo ready; exit 3"], 1, lambda _: True, lambda _: True)


def test_gvisor_serves_calls_itself():
    if reason := isolation.gvisor_missing():
        unable(reason)
    row = isolation.gvisor(starts=2, calls=4_000)
    assert row["call"].value > 2_000
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


def test_rows_that_are_held_against_each_other_are_of_one_machine():
    recorded = recordings.read(lab.NAME).results
    live = {name: Result(name, {"call": name}, live=True, label="") for name in lab.WALLS}
    some = lab.of_one_machine(live, "process", "namespaces")
    assert list(some.values()) == [live["process"], live["namespaces"]]
    live["namespaces"] = Result("namespace", {}, live=False, label="")
    some = lab.of_one_machine(live, "process", "namespaces")
    assert {name: dict(row) for name, row in some.items()} == {
        "process": dict(recorded["process"]), "namespaces": dict(recorded["namespace"]),
    }  # fmt: skip
    assert {experiment.__name__ for experiment in lab.WALLS.values()} <= recorded.keys()


def test_the_comparison_says_of_each_row_where_its_figures_are_from():
    recorded = recordings.read(lab.NAME).results
    shown = isolation.comparison({name: recorded[experiment.__name__] for name, experiment in lab.WALLS.items()})
    assert [row[0] for row in shown.rows] == list(lab.WALLS)
    assert all(row[1].startswith("RECORDED on 20") for row in shown.rows)
    assert all(row[2].endswith(" ms") and row[2].count(" / ") == 1 for row in shown.rows)
    live = Result("clone", dict(recorded["clone"]), live=True, label="")
    assert isolation.comparison({"clone": live}).rows[0][1] == "measured"


def test_other_page_sizes_are_told(monkeypatch):
    monkeypatch.setattr(lab.mmap, "PAGESIZE", 65536)
    assert lab._not_linux() == "this kernel has pages of 65,536 bytes; the chapter counts pages of 4,096"


def test_the_names_of_the_rows():
    assert list(lab.WALLS) == ["process", "namespaces", "gVisor, ptrace", "Wasm, Wasmtime", "clone, our monitor", "microVM, Linux"]
