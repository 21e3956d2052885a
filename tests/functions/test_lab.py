"""AWS's runtime client under the course's front end."""

import os
import threading
import time

import psutil
import pytest

from beyondlab.functions import lab
from beyondlab.functions.lab import Environment, FunctionHost, InitError
from beyondlab.kit import processes

pytestmark = pytest.mark.skipif(lab.missing() is not None and os.environ.get("CI") != "true", reason=str(lab.missing()))

ECHO = "def handler(event, context): return event"
SLOW = "import time\ndef handler(event, context): time.sleep(0.4)"
TROUBLE = """
import os, sys, time
def handler(event, context):
    match event:
        case "raise": raise ValueError("no such order")
        case "exit": os._exit(3)
        case "leave": sys.exit(0)
        case "kill": os.kill(os.getpid(), 9)
        case "hang": time.sleep(60)
        case "too much": return "x" * 7_000_000
        case "no json": return object()
    return os.getpid()
"""


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(processes.carriers(processes.owner_token()))
    yield
    assert set(processes.carriers(processes.owner_token())) <= before


def test_cold_then_warm():
    with FunctionHost(ECHO) as host:
        first, second = host.invoke({"n": 1}), host.invoke({"n": 2})
    assert (first.payload, second.payload) == ({"n": 1}, {"n": 2})
    assert first.cold and first.init > 0.01 and first.waited > first.init
    assert not second.cold and second.init == 0 and second.environment == first.environment


@pytest.mark.parametrize(
    ("event", "error_type", "message", "kept"),
    [
        ("raise", "ValueError", "no such order", True),
        ("no json", "Runtime.MarshalError", "not JSON serializable", True),
        ("exit", "Runtime.ExitError", "Error: Runtime exited with error: exit status 3", False),
        ("leave", "Runtime.ExitError", "Error: Runtime exited without providing a reason", False),
        ("kill", "Runtime.ExitError", "Error: Runtime exited with error: signal: killed", False),
        ("hang", "Sandbox.Timedout", "Error: Task timed out after 0.50 seconds", False),
        ("too much", "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size (6291556 bytes)", False),
    ],
)
def test_trouble_gets_its_document_and_its_environment_what_it_deserves(event, error_type, message, kept):
    with FunctionHost(TROUBLE, timeout=0.5) as host:
        before = host.invoke("pid").payload
        answer = host.invoke(event)
        after = host.invoke("pid")
    assert (answer.status, answer.error_type, answer.kept) == ("error", error_type, kept)
    assert message in answer.payload["errorMessage"]
    assert after.cold is not kept and (after.payload == before) is kept
    assert kept or not psutil.pid_exists(before)


def test_a_handler_that_raises_names_request_and_line():
    with FunctionHost(TROUBLE) as host:
        document = host.invoke("raise").payload
    assert list(document) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert any('raise ValueError("no such order")' in line for line in document["stackTrace"])


@pytest.mark.parametrize(
    ("code", "error_type"),
    [("import nowhere", "Runtime.ImportModuleError"), ("x = 1", "Runtime.HandlerNotFound"), ("def (", "Runtime.UserCodeSyntaxError"),
     ("import os; os._exit(7)", "Runtime.ExitError")],
)  # fmt: skip
def test_init_fails_with_a_document(code, error_type):
    with FunctionHost(code) as host:
        answer = host.invoke(None)
        assert (answer.status, answer.error_type, answer.cold) == ("error", error_type, True)
        assert host.environments == 0


def test_init_has_a_limit():
    with pytest.raises(InitError, match="timed out after 0.50 seconds"):
        Environment("import time; time.sleep(30)", init_limit=0.5).start()


def test_one_environment_a_concurrent_request():
    with FunctionHost(SLOW) as host:
        assert sum(answer.cold for answer in host.burst([None] * 4)) == 4
        assert sum(answer.cold for answer in host.burst([None] * 4)) == 0
        assert host.environments == host.started == 4


def test_reserved_concurrency_turns_the_rest_away():
    with FunctionHost(SLOW, concurrency=2) as host:
        answers = host.burst([None] * 3)
    throttled = [answer for answer in answers if answer.status == "throttled"]
    assert len(throttled) == 1 and throttled[0].error_type == "TooManyRequestsException"


def test_provisioned_environments_start_beforehand_and_stay():
    with FunctionHost(SLOW, keep_alive=0.1) as host:
        host.provision(2)
        assert not any(answer.cold for answer in host.burst([None] * 2))
        time.sleep(0.4)
        assert host.environments == 2
        assert sum(answer.cold for answer in host.burst([None] * 3)) == 1


def test_idle_environments_expire_and_give_everything_back():
    with FunctionHost(TROUBLE, keep_alive=0.3) as host:
        pid = host.invoke("pid").payload
        processes.wait_until(lambda: host.environments == 0, timeout=5, what="the environment to expire")
        processes.wait_until(lambda: not psutil.pid_exists(pid), timeout=5, what="its process to end")
        assert host.invoke("pid").cold


def test_the_one_used_last_is_taken_first():
    with FunctionHost("import time\ndef handler(event, context): time.sleep(event)") as host:
        threads = [threading.Thread(target=host.invoke, args=(nap,)) for nap in (0.6, 0.3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended_last = max(host._idle, key=lambda environment: environment.last_used).number
        assert host.invoke(0).environment == ended_last


def test_snapstart_runs_the_hooks_in_order():
    code = """
from snapshot_restore_py import register_after_restore, register_before_snapshot
seen = ["init"]
register_before_snapshot(lambda: seen.append("before"))
register_after_restore(lambda: seen.append("after"))
def handler(event, context): return seen
"""
    with Environment(code, snap_start=True) as environment:
        assert environment.restore() < environment.init
        assert environment.invoke(None).payload == ["init", "before", "after"]


def test_a_failing_restore_hook_is_told():
    code = """
from snapshot_restore_py import register_after_restore
def broken(): raise OSError("no network yet")
register_after_restore(broken)
def handler(event, context): pass
"""
    with Environment(code, snap_start=True) as environment, pytest.raises(InitError, match="no network yet"):
        environment.restore()


def test_billing_rounds_the_sum_up_to_a_millisecond():
    """AWS's own log lines, 29 April 2025: duration 250.06 ms, init 100.77 ms, billed 351 ms (251 ms without init)."""
    invocation = lab.Invocation("ok", None, True, 0.10077, 0.25006)
    assert invocation.billed == 0.351
    assert lab.Invocation("ok", None, duration=0.25006).billed == 0.251
    assert lab.Invocation("ok", None, duration=0.002).billed == 0.002


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"timeout": 0}, "timeout=0"), ({"timeout": 901}, "timeout=901"), ({"keep_alive": -1}, "keep_alive=-1"),
     ({"keep_alive": float("inf")}, "keep_alive=inf"), ({"concurrency": 0}, "concurrency=0")],
)  # fmt: skip
def test_bad_settings_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        FunctionHost(ECHO, **change)


def test_a_closed_host_takes_no_request():
    host = FunctionHost(ECHO)
    with pytest.raises(RuntimeError, match="with block"):
        host.invoke(None)
    with host, pytest.raises(ValueError, match="count=0"):
        host.provision(0)
