import dataclasses
import datetime
import json
import re
import subprocess
import sys

import numpy as np
import psutil

import pytest
from beyondlab.kit import machine, recordings
from beyondlab.kit.recordings import Lab, Measurement, NoRecording, measure
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = dataclasses.replace(
    machine.look(),
    os="Linux",
    kernel="6.12",
    processor="A Processor",
    cores=2.0,
    virtualisation="KVM guest",
    kvm="none",
    python="3.12.1",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORDINGS", str(tmp_path))
    monkeypatch.delenv("BEYONDLAB_RECORD", raising=False)
    monkeypatch.delenv("BEYONDLAB_LABS", raising=False)
    monkeypatch.setattr(machine, "look", lambda: HERE)
    return tmp_path


def make(missing=lambda: None, samples=(3.0, 1.0, 2.0)):
    lab = Lab("trial", missing=missing, components=["psutil"], binaries={"envoy": "1.40.0", "nats": lambda: "2.15"})

    @lab.experiment
    def cold_start(count=3):
        return {"init_time": measure("ms", samples), "count": count, "kind": "warm", "curve": [[1, 2.5], [2, 3.5]]}

    @lab.experiment
    def restore():
        return {"restore": measure("ms", [7.0])}

    return cold_start, restore


def document(folder):
    return json.loads((folder / "trial.json").read_text())


def today():
    return datetime.datetime.now(datetime.UTC).date().isoformat()


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60))
def test_measurement_agrees_with_numpy(samples):
    made = measure("ms", samples)
    low, middle, high = np.percentile(samples, [5, 50, 95])
    assert made.value == pytest.approx(middle)
    assert made.spread == pytest.approx((low, high), rel=1e-9, abs=1e-6)
    assert made.repetitions == len(samples)


@pytest.mark.parametrize(
    ("unit", "samples", "message"),
    [("", [1], "unit=''"), ("ms", [], r"samples=\(\)"), ("ms", [1, float("nan")], "nan"), ("ms", [float("inf")], "inf")],
)
def test_bad_measurement(unit, samples, message):
    with pytest.raises(ValueError, match=message):
        Measurement("x", unit, samples)


def test_live_is_not_written(folder):
    result = make()[0]()
    assert result.live and re.match(r"Measured here on \d{4}-\d\d-\d\d, A Processor, Linux 6\.12, KVM guest, envoy", result.label)
    assert result["init_time"] == Measurement("init_time", "ms", (3.0, 1.0, 2.0))
    assert dict(result) | {"init_time": 0} == {"init_time": 0, "count": 3, "kind": "warm", "curve": [[1, 2.5], [2, 3.5]]}
    assert list(folder.iterdir()) == []


def test_round_trip(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    live = make()[0]()
    monkeypatch.delenv("BEYONDLAB_RECORD")
    recorded = make(missing=lambda: "envoy is not installed")[0]()
    assert live.live and not recorded.live
    assert list(recorded) == list(live)
    for name in ("value", "spread", "unit", "repetitions", "samples", "name"):
        assert getattr(recorded["init_time"], name) == getattr(live["init_time"], name)
    assert recorded["curve"] == live["curve"]
    assert recorded.label == (
        f"RECORDED on {today()}, A Processor, Linux 6.12, KVM guest, envoy 1.40.0, nats 2.15, "
        f"psutil {psutil.__version__}. Not measured now: envoy is not installed"
    )
    assert recorded._repr_markdown_().splitlines() == [
        f"**{recorded.label}**",
        "",
        "| cold start | median | p5–p95 | n | unit |",
        "|:--|--:|--:|--:|:--|",
        "| init time | 2.00 | 1.10–2.90 | 3 | ms |",
        "| count | 3 |  |  |  |",
        "| kind | warm |  |  |  |",
    ]
    assert repr(recorded).startswith("RECORDED on ")


def test_recorded_on_request(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    make()[0]()
    monkeypatch.delenv("BEYONDLAB_RECORD")
    monkeypatch.setenv("BEYONDLAB_LABS", "recorded")
    result = make()[0]()
    assert not result.live and result.label.endswith("Not measured now: BEYONDLAB_LABS=recorded asks for the recording")


def test_arguments_are_measured_but_never_recorded(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    assert make()[0](count=9)["count"] == 9
    assert list(folder.iterdir()) == []
    make()[0]()
    shown = make(missing=lambda: "no envoy")[0](count=9)
    assert shown["count"] == 3 and shown.label.endswith("with the arguments of the course, not with yours")


def test_emulated_kvm_says_so(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    monkeypatch.setattr(machine, "look", lambda: dataclasses.replace(HERE, kvm="emulated"))
    make()[0]()
    assert ", KVM guest, emulated KVM, envoy" in make(missing=lambda: "no KVM")[0]().label


def test_experiments_merge_and_keep_their_machine(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    cold_start, restore = make()
    restore()
    cold_start()
    first = (folder / "trial.json").read_bytes()
    assert list(document(folder)["experiments"]) == ["cold_start", "restore"]
    monkeypatch.setattr(machine, "look", lambda: dataclasses.replace(HERE, processor="Another"))
    restore()
    results = recordings.read("trial").results
    assert "A Processor" in results["cold_start"].label and "Another" in results["restore"].label
    monkeypatch.setattr(machine, "look", lambda: HERE)
    restore()
    assert (folder / "trial.json").read_bytes() == first
    assert [file.name for file in folder.iterdir()] == ["trial.json"]


def test_file_is_small_and_stable(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    samples = [i / 7 for i in range(1001)]
    make(samples=samples)[0]()
    text = (folder / "trial.json").read_text()
    entry = document(folder)["experiments"]["cold_start"]["values"]["init_time"]
    assert text.endswith("}\n") and max(map(len, text.splitlines())) < 3000
    assert len(entry["samples"]) == recordings.MAX_SAMPLES
    assert entry["samples"][:2] == [0.0, 0.7143] and entry["samples"][-1] == 142.9
    assert (entry["value"], entry["repetitions"], entry["spread"]) == (71.43, 1001, [7.143, 135.7])
    assert recordings.read("trial").results["cold_start"]["init_time"].repetitions == 1001
    make(samples=samples)[0]()
    assert (folder / "trial.json").read_text() == text


def test_two_notebooks_record_at_once(folder):
    code = (
        "import sys; from beyondlab.kit.recordings import Lab, measure\n"
        "lab = Lab('trial', missing=lambda: None)\n"
        "for i in range(15):\n"
        "    def one(): return {'x': measure('ms', [i])}\n"
        "    one.__name__ = f'{sys.argv[1]}{i}'; lab.experiment(one)()\n"
    )
    import os

    env = os.environ | {"BEYONDLAB_RECORD": "1"}
    pair = [subprocess.Popen([sys.executable, "-c", code, name], env=env) for name in "ab"]
    assert [process.wait(60) for process in pair] == [0, 0]
    assert len(recordings.read("trial").results) == 30


def test_missing_recording_names_the_remedy(folder, monkeypatch):
    cold_start, restore = make(missing=lambda: "envoy is not installed")
    with pytest.raises(NoRecording, match="'cold_start' in trial.json.*envoy is not installed.*make record"):
        cold_start()
    with pytest.raises(NoRecording, match="trial.json.*make record"):
        recordings.read("trial")
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    make()[0]()
    with pytest.raises(NoRecording, match="'restore'"):
        restore()


def test_every_lists_all(folder, monkeypatch):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    [experiment() for experiment in make()]
    (recording,) = recordings.every()
    assert recording.lab == "trial"
    assert recording._repr_markdown_().count("**RECORDED on") == 2


def _without(*keys):
    def change(found):
        *path, last = keys
        for key in path:
            found = found[key]
        del found[last]

    return change


EXPERIMENT = ("experiments", "cold_start")
INIT = (*EXPERIMENT, "values", "init_time")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without(*EXPERIMENT, "date"), "trial.json: experiments.cold_start: 'date'"),
        (lambda found: found["experiments"]["cold_start"].update(date="yesterday"), "'yesterday'"),
        (_without(*INIT, "unit"), "trial.json: experiments.cold_start.values.init_time: 'unit'"),
        (_without(*INIT, "spread"), "init_time: 'spread'"),
        (_without(*INIT, "value"), "init_time: 'value'"),
        (_without(*INIT, "repetitions"), "init_time: 'repetitions'"),
        (lambda found: found["experiments"]["cold_start"]["values"]["init_time"].update(samples=[]), "init_time: samples"),
        (_without("machine"), "cold_start: 'machine'"),
        (_without("machine", "kernel"), "machine: 'kernel'"),
        (_without("experiments"), "trial.json: 'experiments'"),
    ],
)
def test_a_broken_recording_names_file_and_key(folder, monkeypatch, change, message):
    monkeypatch.setenv("BEYONDLAB_RECORD", "1")
    make()[0]()
    broken = document(folder)
    change(broken)
    (folder / "trial.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=message):
        recordings.read("trial")


def test_not_json(folder):
    (folder / "trial.json").write_text("{")
    with pytest.raises(ValueError, match="trial.json: not JSON"):
        recordings.read("trial")


@pytest.mark.parametrize("name", ["", "../escape", ".hidden"])
def test_bad_lab_name(name):
    with pytest.raises(ValueError, match="lab="):
        Lab(name, missing=lambda: None)


def test_the_recordings_of_the_course_are_whole(monkeypatch):
    monkeypatch.delenv("BEYONDLAB_RECORDINGS", raising=False)
    for recording in recordings.every():
        assert recording.results, recording.lab
