"""The labs, driven for real: killed processes, a killed broker, SQS's interface, a burst."""

from __future__ import annotations

import os

import pytest

from beyondlab.events import lab
from beyondlab.events.keda import Rule
from beyondlab.kit import processes

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=str(lab.missing()))


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert processes.carriers(processes.owner_token()) == []


def test_never_once_or_twice():
    found = lab.run_pipelines(events=150)
    assert found["at most once: lost"] > 0 and found["at most once: too many"] == 0
    assert found["at least once: lost"] == 0 and found["at least once: too many"] > 0
    assert found["at least once, idempotent: lost"] == found["at least once, idempotent: too many"] == 0


def test_the_crash_between_two_writes():
    assert list(lab.run_shops(orders=5, crash_at=3).values()) == [1, 0, 0, 1, 0, 1, 0, 0]


def test_limits():
    found = lab.run_limits()
    assert found["refused by a stream of 5, of 8"] == 3 and found["and after one acknowledgement"] == 1
    assert found["delivered on 3 credits, asked for 10"] == 3
    assert (found["deliveries of the poison message"], found["dead letters"]) == (3, 1)


def test_sqs_and_the_queue_from_scratch_take_the_same_steps():
    twin = lab.Twin()
    assert lab.run_sqs()["SQS"] == lab.steps(twin, twin.sleep)


def test_a_burst_from_zero_and_back():
    rule = Rule(threshold=20, most=2, polling=0.2, cooldown=0.5, sync=0.2, stabilisation=0.4)
    found = lab.run_burst(rule, events=60, seconds=0.3)
    assert found["counts"] == [0, 0] and max(found["replicas"]) == 2
    assert found["replicas"][0] == found["replicas"][-1] == 0 and max(found["lag"]) > 20
    assert len(found["ages"]) == len(found["done"]) == 60 and min(found["ages"]) > 0
    assert found["consumer_seconds"] > 60 * 0.02 and found["start"] > 0


def test_counting():
    assert lab.count(4, ["1", "2", "2", "4", "4", "4"]) == (1, 3)
    assert lab.count(2, ["1", "2"]) == (0, 0)


def test_a_worker_that_fails_says_why():
    process = lab.start_worker("relay", "relay", url="nats://127.0.0.1:1", subject="s", database="/nowhere/x.db", ids=True)
    try:
        assert process.wait(30) == 1 and "unable to open database" in process.output()
    finally:
        process.stop()


def test_kill_is_a_kill():
    process = processes.Process(["sleep", "60"]).start()
    lab.kill(process)
    assert process.returncode == -9
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
