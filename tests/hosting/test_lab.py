"""The runner, driven for real: as this machine allows it, and as every machine does."""

from __future__ import annotations

import time

import pytest

from beyondlab.hosting import control, lab, metering, runner
from beyondlab.hosting.placement import Host
from beyondlab.hosting.runner import NoCapacity, Runner, Service
from beyondlab.hosting.tasks import Task
from beyondlab.kit import processes

pytestmark = pytest.mark.skipif(bool(lab.missing()), reason=str(lab.missing()))


@pytest.fixture(params=["best", "plain"])
def isolation(request):
    found = runner.best_isolation() if request.param == "best" else runner.PLAIN
    if request.param == "best" and found == runner.PLAIN:
        pytest.skip("this machine allows no more than the plain one")
    return found


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert processes.carriers(processes.owner_token()) == []


def test_four_descriptions_one_result(isolation):
    found = lab.run_descriptions(isolation=isolation)
    assert [found[p] for p in ("fargate", "aci", "cloud run", "kubernetes")] == ["hello"] * 4
    assert found["isolation"] == str(isolation)


def test_limits_hold_and_the_neighbour_lives(isolation):
    found = lab.hold_limits(isolation=isolation)
    assert 0 < found["CPU it did use"] < 0.5
    assert found["its exit status"] == 137 and found["its neighbour says"] == "here"


def test_the_service_does_what_was_rehearsed(isolation):
    found = lab.follow(isolation=isolation)
    assert found["events"] == control.rehearse(lab.SCRIPT)
    assert found["processes left"] == 0 == found["vCPU still taken"] and found["runs metered"] == 5


def test_stopping_on_time(isolation):
    found = lab.scale_in(isolation=isolation)
    assert (found["lost, not drained"], found["lost, drained"]) == (4, 0)
    assert found["ignores SIGTERM: killed"] and found["ignores SIGTERM: waited its 0.5 s"]
    assert not found["obeys SIGTERM: killed"]


def test_no_room_and_then_room():
    found = lab.full(isolation=runner.PLAIN)
    assert found["on one host"] == ["started task-1", "started task-2", "no capacity"]
    assert found["with a second"] == ["started task-4"]


def test_lazy_reads_less_and_sees_the_same():
    found = lab.size_against_start((1, 8), 1, isolation=runner.PLAIN)
    assert found["same"] and found["lazy: read"][-1] < found["whole: read"][-1] / 5


def test_phases_add_up():
    found = lab.start_phases(2, isolation=runner.PLAIN)
    assert list(found) == list(runner.PHASES) and all(min(m.samples) >= 0 for m in found.values())


def test_two_tasks_share_a_port_where_each_has_its_network():
    found = runner.best_isolation()
    if "net" not in found.namespaces:
        pytest.skip("no network namespaces here")
    with lab.open_runner(isolation=found) as running:
        running.registry.push(lab.IMAGE, lab.greeter_layers())
        first, second = running.start(lab.GREETER), running.start(lab.GREETER)
        assert first.port == second.port == 8080
        assert first.get("/")["greeting"] == second.get("/")["greeting"] == "hello"


def test_the_policy_is_used_and_the_meter_runs_on_the_given_clock():
    now = [0.0]
    hosts = [Host("large", 8, 16384), Host("small", 1, 2048)]
    with Runner(hosts, policy="best fit", isolation=runner.PLAIN, clock=lambda: now[0], rule=metering.RULES["aci"]) as running:
        running.registry.push(lab.IMAGE, lab.greeter_layers())
        name = running.start(lab.GREETER).name
        assert name in hosts[1].tasks and not hosts[0].tasks
        now[0] = 41.5
        running.stop(name)
        assert running.meter.ended == [(name, 41.5, 42.0, 1.0, 2048)]
        assert not hosts[1].tasks


def test_a_task_that_cannot_start_leaves_no_trace():
    with lab.open_runner(isolation=runner.PLAIN) as running:
        running.registry.push(lab.IMAGE, lab.greeter_layers())
        broken = Task("broken", lab.IMAGE, ("python", "app/none.py"), 1.0, 2048)
        with pytest.raises(processes.ProcessExited, match="ended before it was ready"):
            running.start(broken)
        with pytest.raises(LookupError, match="is not in the registry"):
            running.start(Task("x", "no:image", ("python",), 1.0, 2048))
        with pytest.raises(NoCapacity, match="no host has 16 vCPU"):
            running.start(Task("big", lab.IMAGE, ("python",), 16.0, 2048))
        assert not running.running and not running.meter.running
        assert all(not host.tasks for host in running.hosts)


def test_a_crash_is_seen_and_buried():
    with lab.open_runner(isolation=runner.PLAIN) as running:
        running.registry.push(lab.IMAGE, lab.greeter_layers())
        service = Service(running, lab.GREETER)
        service.want(1)
        with pytest.raises(ValueError, match="still runs"):
            running.bury(service.names[0])
        running.running[service.names[0]].kill()
        assert [action.what for action in service.step()] == ["bury", "start"]
        assert service.step() == []


def test_a_killed_interpreter_leaves_nothing():
    """A notebook's kernel is killed with tasks running: the guard ends them."""
    import os
    import signal
    import sys

    program = (
        "from beyondlab.hosting import lab, runner\nimport time\n"
        "from beyondlab.kit import processes\n"
        "r = lab.open_runner().__enter__(); r.registry.push(lab.IMAGE, lab.greeter_layers())\n"
        "r.start(lab.GREETER); r.start(lab.GREETER)\n"
        "print(processes.owner_token(), flush=True); time.sleep(60)\n"
    )
    with processes.Process([sys.executable, "-c", program], ready=lambda p: p.output(1), timeout=60) as child:
        token = child.output(1).strip()
        assert len(processes.carriers(token)) >= 4
        os.kill(child.pid, signal.SIGKILL)
        processes.wait_until(lambda: not processes.carriers(token), timeout=15, what="the guard to end the tasks")


def test_errors():
    with pytest.raises(ValueError, match="policy='worst'"):
        Runner([], policy="worst")
    with pytest.raises(ValueError, match="scale=2"):
        Runner([], scale=2)
    assert str(runner.PLAIN) == "no namespaces; limits by rlimits and the agent"
    assert time.monotonic() > 0
