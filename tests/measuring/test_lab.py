"""The real server and the two load generators."""

import urllib.error
import urllib.request

import numpy as np
import pytest

from beyondlab.kit import processes
from beyondlab.measuring import lab
from beyondlab.measuring.lab import Run, Server, in_system


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert not processes.carriers(processes.owner_token())


def test_an_open_loop_keeps_to_its_plan_while_the_server_is_slow():
    plan = np.arange(0.0, 1.0, 0.05)
    with Server() as server:
        run = server.open_loop(plan, 0.1)
    assert np.all(run.sent >= plan - 1e-3)
    assert np.sum(run.done < run.sent[-1]) < 15, "the last is sent long before the nineteen answers that a closed loop waits for"
    assert run.response[-1] > 0.8, "twenty requests of 0.1 s that came within a second queue up"
    assert np.all(run.served >= 0.1) and run.done.max() - run.sent.min() >= 20 * 0.1, "one at a time"


def test_a_closed_loop_waits_for_each_answer():
    with Server() as server:
        run = server.closed_loop(np.arange(0.0, 1.0, 0.05), 0.1)
    assert np.all(run.sent[1:] >= run.done[:-1])
    assert np.median(run.from_sending) < 0.2 and run.response[-1] > 0.8


def test_a_stall_is_seen_by_the_open_loop_and_hidden_by_the_closed():
    plan = np.arange(0.0, 2.0, 0.02)
    with Server() as server:
        closed = server.closed_loop(plan, 0.002, stall=(0.5, 0.8))
        opened = server.open_loop(plan, 0.002, stall=(0.5, 0.8))
    assert np.sum(closed.from_sending > 0.2) <= 10
    assert np.sum(opened.response > 0.2) > 20
    assert np.sum(closed.response > 0.2) > 20


def test_workers_serve_at_the_same_time():
    with Server(workers=4) as server:
        run = server.open_loop(np.zeros(4), 0.2)
    assert run.waited.max() < 0.2


def test_in_system_counts_what_is_there():
    times = np.arange(0.0, 10.0, 1.0)
    run = Run(times, times, times + 0.5, np.zeros(10), np.full(10, 0.5))
    assert run.observed_seconds == 9.5
    assert in_system(run) == pytest.approx(5 / 9.5, abs=0.001)
    with pytest.raises(ValueError, match="step=0"):
        in_system(run, step=0)


@pytest.mark.parametrize("query", ["seconds=-1", "seconds=61", "seconds=soon", "seconds=nan"])
def test_the_server_refuses_what_it_cannot_serve(query):
    with Server() as server:
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(server.url("work", 0).split("?")[0] + "?" + query, timeout=5)


@pytest.mark.parametrize(
    ("arrivals", "service", "complaint"),
    [
        ([], 0.1, "at least one moment"),
        ([[0.0]], 0.1, "shape"),
        ([0.0, 1.0], [0.1], "one entry for each"),
        ([1.0, 0.0], 0.1, r"arrivals\[1\]=0.0: must be sorted"),
        ([0.0, float("nan")], 0.1, "finite"),
        ([-1.0], 0.1, r"arrivals\[0\]=-1.0: .*at least 0"),
        ([31.0], 0.1, "30 s"),
        ([0.0], -0.1, "service"),
        ([0.0], 60.5, "service: must be at most 60 s"),
        ([0.0], float("inf"), "service"),
    ],
)
def test_bad_plans_are_refused(arrivals, service, complaint):
    with pytest.raises(ValueError, match=complaint):
        lab._plan(arrivals, service)


def test_a_server_needs_a_worker():
    with pytest.raises(ValueError, match="workers=0"):
        Server(workers=0)


def test_a_failing_request_is_raised_where_it_was_asked_for():
    with Server() as server:
        server._process.stop()
        with pytest.raises(OSError):
            server.open_loop([0.0], 0.01)
