"""Processes start, get ready, stop, and leave nothing behind: whatever happens to them, their block or their owner."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from beyondlab.kit import processes
from beyondlab.kit.processes import NotReady, Process, ProcessExited

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]


def gone(pids, within=5.0):
    processes.wait_until(lambda: not any(map(alive, pids)), timeout=within, what=f"{pids} to be gone")


def printed(process: Process, count: int = 1) -> list[int]:
    """The numbers that the process has printed, once there are ``count``."""
    return processes.wait_until(
        lambda: len(numbers := [int(word) for word in process.output().split()]) >= count and numbers,
        timeout=5,
        what="numbers",
    )


# A tree: a child in the group, one in a session of its own, one more that also emptied its environment.
TREE = """
    import os, subprocess, sys, time
    sleep = [sys.executable, "-I", "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]
    for options in ({}, {"start_new_session": True}, {"start_new_session": True, "env": {}}):
        print(subprocess.Popen(sleep, **options).pid, flush=True)
    time.sleep(60)
"""


def test_output_is_captured_and_the_environment_is_changed(monkeypatch):
    monkeypatch.setenv("TAKEN_AWAY", "1")
    code = "import os, sys; print(os.environ.get('TAKEN_AWAY'), os.environ['ADDED'], os.getcwd(), flush=True); sys.exit('to stderr')"
    with Process(python(code), env={"TAKEN_AWAY": None, "ADDED": "2"}, cwd="/") as process:
        assert process.wait(5) == 1
        assert process.output() == "None 2 /\nto stderr"
        assert process.output(1) == "to stderr"
        assert process.output(0) == ""


def test_output_of_a_talkative_process_does_not_block_it():
    with Process(python("print('\\n'.join(f'{i:09}' for i in range(300_000)))")) as process:
        assert process.wait(10) == 0
        assert process.output(2) == "000299998\n000299999"
        assert len(process.output(20_000).splitlines()) == 20_000


def test_ready_is_awaited():
    code = "import time; time.sleep(.1); print('ready', flush=True); time.sleep(60)"
    with Process(python(code), ready=lambda process: "ready" in process.output()) as process:
        assert time.perf_counter() - process.started >= 0.1
        assert process.memory() > 1_000_000
        assert process.returncode is None
    assert process.returncode == -signal.SIGTERM
    assert process.memory() == 0


def test_not_ready_says_what_it_waited_for():
    code = "import time; print('loading the model', flush=True); time.sleep(60)"
    process = Process(python(code), name="model server", ready=lambda _: socket.create_connection(("127.0.0.1", 1)), timeout=0.4)
    with pytest.raises(NotReady, match=r"(?s)waited 0.4 s for model server.*refused.*loading the model") as caught:
        process.start()
    assert isinstance(caught.value, TimeoutError)
    assert not alive(process.pid)


def test_an_early_end_is_not_waited_out():
    begin = time.perf_counter()
    with pytest.raises(ProcessExited, match=r"(?s)exit status 3.*no such model") as caught:
        Process(python("print('no such model'); raise SystemExit(3)"), ready=lambda _: False, timeout=30).start()
    assert caught.value.returncode == 3
    assert time.perf_counter() - begin < 5


def test_an_error_in_ready_stops_the_process():
    process = Process(SLEEP, ready=lambda _: {}["missing"])
    with pytest.raises(KeyError):
        process.start()
    assert not alive(process.pid)


def test_a_program_that_does_not_exist():
    with pytest.raises(FileNotFoundError):
        Process(["/nonexistent/program"]).start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"argv": []}, r"argv=\[\]"),
        ({"argv": "sleep 1"}, "argv='sleep 1'"),
        ({"argv": SLEEP, "timeout": 0}, "timeout=0"),
        ({"argv": SLEEP, "timeout": float("nan")}, "timeout=nan"),
        ({"argv": SLEEP, "stop_timeout": -1}, "stop_timeout=-1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Process(**arguments)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_leaving_by_an_error_stops_the_whole_tree(error):
    with pytest.raises(error), Process(python(TREE), stop_timeout=0.5) as process:
        tree = [process.pid, *printed(process, 3)]
        assert all(map(alive, tree))
        assert process.memory() > psutil.Process(process.pid).memory_info().rss
        raise error
    gone(tree, within=0.5)


def test_a_tree_whose_leader_has_ended_is_stopped_too():
    code = TREE.replace("time.sleep(60)\n", "").rstrip() + "\n    sys.exit(0)\n"
    with Process(python(code)) as process:
        assert process.wait(5) == 0
        members = printed(process, 3)[:2]  # the third emptied its environment, made its own session and is orphaned
        stray = printed(process, 3)[2]
        assert all(map(alive, members))
    gone(members, within=0.5)
    os.kill(stray, signal.SIGKILL)


def test_sigterm_is_followed_by_sigkill():
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with Process(python(code), ready=lambda process: process.output(), stop_timeout=0.2) as process:
        begin = time.perf_counter()
    assert 0.2 <= time.perf_counter() - begin < 2
    assert process.returncode == -signal.SIGKILL


def test_a_polite_process_may_clean_up():
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit('bye')); print(1, flush=True); time.sleep(60)"
    with Process(python(code), ready=lambda process: process.output()) as process:
        pass
    assert (process.returncode, process.output(1)) == (1, "bye")


def test_stopping_one_leaves_the_others():
    with Process(SLEEP) as other:
        with Process(SLEEP):
            pass
        assert alive(other.pid)


def test_start_and_stop_are_idempotent_and_thread_safe():
    process = Process(SLEEP)
    process.stop()
    pids = set()
    threads = [threading.Thread(target=lambda: pids.add(process.start().pid)) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(pids) == 1
    threads = [threading.Thread(target=process.stop) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    gone(pids, within=0.1)
    first = process.pid
    assert process.start().pid != first
    process.stop()


def test_wait_from_another_thread_while_it_is_stopped():
    seen = []
    with Process(SLEEP) as process:
        waiter = threading.Thread(target=lambda: seen.append(process.wait(10)))
        waiter.start()
        with pytest.raises(TimeoutError, match="waited 0.05 s for"):
            process.wait(0.05)
    waiter.join(5)
    assert seen == [-signal.SIGTERM]


def test_a_process_outlives_the_thread_that_started_it():
    process = Process(SLEEP)
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert alive(process.pid)
    process.stop()
    gone([process.pid])


def test_a_forked_child_stops_nothing_of_its_parent():
    with Process(SLEEP) as process:
        child = os.fork()
        if child == 0:
            try:
                process.stop()
                processes._owner.leave()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert alive(process.pid)


def test_free_port_can_be_bound():
    port = processes.free_port()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_wait_until_returns_what_the_probe_found():
    found = iter([0, None, "yes"])
    assert processes.wait_until(lambda: next(found), timeout=1, what="a yes") == "yes"
    with pytest.raises(TimeoutError, match=r"waited 0.02 s for the moon .*No such file"):
        processes.wait_until(lambda: open("/nonexistent/moon"), timeout=0.02, what="the moon")


def test_scratch_is_removed_also_after_an_error():
    with pytest.raises(RuntimeError), processes.scratch("trial-") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x")
        raise RuntimeError
    assert not folder.exists()
    assert folder.name.startswith("trial-")


# An owner with a process tree, a listening port in it, and a scratch folder. It prints what it has.
OWNER = """
    import os, sys, threading, time
    from beyondlab.kit import processes
    tree = sys.argv[1]
    listen = ("import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
              "print(s.getsockname()[1], flush=True); time.sleep(60)")
    with processes.scratch() as folder:
        (folder / "kept.txt").write_text("x")
        with processes.Process([sys.executable, "-c", tree], ready=lambda p: len(p.output().split()) == 3) as one, \\
             processes.Process([sys.executable, "-c", listen], ready=lambda p: p.output()) as two:
            print(processes.owner_token(), folder, two.output(), one.pid, two.pid, one.output().replace("\\n", " "), flush=True)
            {end}
"""


def owner(end: str):
    """A started owner: process, token, scratch folder, port, and the ids of all its processes."""
    code = textwrap.dedent(OWNER).replace("{end}", end)
    started = subprocess.Popen([sys.executable, "-c", code, textwrap.dedent(TREE)], stdout=subprocess.PIPE, text=True)
    token, folder, port, *pids = started.stdout.readline().split()
    return started, token, Path(folder), int(port), [int(pid) for pid in pids]


def guards(token: str) -> list[int]:
    return [
        p.pid for p in psutil.process_iter(["cmdline", "status"])
        if token in (p.info["cmdline"] or []) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]  # fmt: skip


def test_nothing_is_left_when_the_owner_is_killed():
    started, token, folder, port, pids = owner("time.sleep(60)")
    with started:
        assert len(pids) == 5 and all(map(alive, pids))
        assert set(pids) <= set(processes.carriers(token))
        assert folder.is_dir() and len(guards(token)) == 1
        socket.create_connection(("127.0.0.1", port)).close()
        started.kill()
        started.wait()
        gone([*pids, *guards(token)], within=5)
    assert not processes.carriers(token)
    assert not folder.exists() and not folder.parent.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("one.__class__(['sleep', '60']).start(); import signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -2),
        ("os._exit(4)", 4),
        ("os.fork() or (time.sleep(6), os._exit(0)); os._exit(5)", 5),
    ],
    ids=["normal", "sys.exit", "interrupt", "os._exit", "forked child lives on"],
)
def test_nothing_is_left_when_the_owner_ends(end, status):
    started, token, folder, port, pids = owner(end)
    with started:
        assert started.wait(10) == status
        gone([*pids, *guards(token)], within=5)
    assert not processes.carriers(token) and not folder.parent.exists()


def test_the_guard_holds_nothing_of_ours():
    with socket.create_server(("127.0.0.1", 0)), processes.scratch():
        (guard,) = guards(processes.owner_token())
        held = {os.readlink(entry) for entry in Path(f"/proc/{guard}/fd").iterdir()}
        assert {link.partition(":")[0] for link in held} <= {"pipe", "/dev/null", "anon_inode"}
        assert psutil.Process(guard).cwd() == "/"
        assert guard not in {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_killed_guard_is_replaced():
    with processes.scratch():
        (first,) = guards(processes.owner_token())
        os.kill(first, signal.SIGKILL)
        gone([first])
        with Process(SLEEP):
            (second,) = guards(processes.owner_token())
            assert second != first


def test_a_lab_within_a_lab_ends_with_the_outer_one():
    inner = """
        import sys, time
        from beyondlab.kit import processes
        with processes.Process([sys.executable, "-c", "import time; time.sleep(60)"]) as inner:
            print(inner.pid, flush=True)
            time.sleep(60)
    """
    with Process([sys.executable, "-c", textwrap.dedent(inner)], stop_timeout=0) as process:
        (pid,) = printed(process)
        assert pid in processes.carriers(processes.owner_token())
    gone([pid], within=0.5)
