"""Namespaces isolate, limits kill, and nothing stays behind."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from beyondlab.kit import cgroups, namespaces, processes


@pytest.fixture
def able():
    if reason := namespaces.missing():
        pytest.skip(reason)


@pytest.fixture
def root(tmp_path):
    """A root file system of one program and the libraries it asks for."""
    sh = Path(shutil.which("sh")).resolve()
    needed = subprocess.run(["ldd", str(sh)], capture_output=True, text=True).stdout.split()
    for file in [str(sh), *(word for word in needed if word.startswith("/"))]:
        target = tmp_path / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (tmp_path / "bin").mkdir(exist_ok=True)
    shutil.copy(sh, tmp_path / "bin" / "sh")
    return tmp_path


def test_a_command_is_alone(able):
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "pid", "uts", "ipc", "net")}
    script = "echo $$; hostname; id -u; for n in mnt pid uts ipc net; do readlink /proc/self/ns/$n; done; ls /proc"
    finished = namespaces.run(["sh", "-c", script], hostname="lonely")
    first, name, uid, *rest = finished.output.split()
    assert (finished.status, first, name, uid) == (0, "1", "lonely", "0")
    assert not set(rest[:5]) & set(before.values())
    assert sum(word.isdigit() for word in rest) <= 3
    assert {name: os.readlink(f"/proc/self/ns/{name}") for name in before} == before


def test_a_user_namespace_makes_root_of_an_ordinary_user(able):
    names = (*namespaces.ISOLATED, "user")
    try:
        finished = namespaces.run(["sh", "-c", "id -u; cat /proc/self/uid_map"], namespaces=names)
    except namespaces.CannotIsolate as error:
        pytest.skip(str(error))
    assert finished.output.split() == ["0", "0", str(os.getuid()), "1"]


def test_a_root_of_its_own(able, root):
    (root / "mark").write_text("here\n")
    script = 'read word < /mark; echo $word /*; echo x > /dev/null && echo written; [ -e /etc/passwd ] || echo nothing else'
    finished = namespaces.run(["/bin/sh", "-c", script], root=root)
    lines = finished.output.splitlines()
    assert finished.status == 0, finished.output
    assert lines[0].split()[0] == "here" and "/mark" in lines[0] and "/proc" in lines[0] and "/home" not in lines[0]
    assert lines[1:] == ["written", "nothing else"]
    assert not os.path.ismount(root) and not os.path.ismount(root / "proc")
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_status_signal_and_missing_command(able):
    assert namespaces.run(["sh", "-c", "exit 7"]).status == 7
    assert namespaces.run(["sh", "-c", "sh -c 'kill -9 $$'"]).status == 137
    missing = namespaces.run(["no-such-command"])
    assert missing.status == 127 and "No such file" in missing.output
    with pytest.raises(TimeoutError, match="waited 0.2 s"):
        namespaces.run(["sleep", "60"], timeout=0.2)


def test_over_the_memory_limit_it_is_killed(able):
    if reason := cgroups.missing("memory"):
        pytest.skip(reason)
    grow = ["sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done"]
    assert namespaces.run(grow, memory=24 << 20, timeout=30) == namespaces.Finished(137, "", 1)
    assert namespaces.run(["true"], memory=24 << 20) == namespaces.Finished(0, "", 0)


def test_start_times(able):
    times = namespaces.start_times(["true"], 5)
    assert len(times) == 5 and all(0 < seconds < 10 for seconds in times)
    assert len(namespaces.start_times(["true"], 3, namespaces=())) == 3
    with pytest.raises(RuntimeError, match="status 1"):
        namespaces.start_times(["false"], 3)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"argv": []}, "argv="),
        ({"argv": "true"}, "argv='true'"),
        ({"argv": ["true"], "namespaces": ["disk"]}, "namespaces='disk'"),
        ({"argv": ["true"], "root": "/no/such/folder"}, "root='/no/such/folder'"),
        ({"argv": ["true"], "root": "/", "namespaces": ["pid"]}, "needs a mount namespace"),
        ({"argv": ["true"], "hostname": ""}, "hostname=''"),
        ({"argv": ["true"], "count": -1}, "count=-1"),
    ],
)
def test_bad_arguments(arguments, names):
    with pytest.raises(ValueError, match=names):
        namespaces.command(**arguments)


def test_a_refusal_is_told(monkeypatch):
    monkeypatch.setattr(namespaces, "_to_its_end", refuse := lambda *_: (_ for _ in ()).throw(namespaces.CannotIsolate("unshare: no")))
    namespaces.missing.cache_clear()
    try:
        assert namespaces.missing() == "unshare: no"
    finally:
        namespaces.missing.cache_clear()
    assert refuse


def test_as_an_ordinary_user_without_namespaces_it_says_why():
    restricted = Path(__file__).parents[1] / "notebooks" / "restricted.py"
    code = "from beyondlab.kit import cgroups, namespaces; print(namespaces.missing(), cgroups.missing(), sep='|')"
    done = subprocess.run([sys.executable, restricted, "--", sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip(done.stderr)
    isolate, limit = done.stdout.strip().split("|")
    assert isolate.startswith("unshare: ") and limit != "None", done.stderr


@pytest.mark.parametrize("memory", ["None", "1 << 28"])
def test_nothing_stays_when_the_parent_is_killed(able, memory):
    if memory != "None" and (reason := cgroups.missing("memory")):
        pytest.skip(reason)
    code = textwrap.dedent(f"""
        import os, signal
        from beyondlab.kit import namespaces, processes
        block = namespaces.start(["sh", "-c", "echo up; sleep 61 & sleep 62 & wait"], memory={memory})
        process = block.__enter__()
        processes.wait_until(lambda: "up" in process.output(), timeout=10, what="the container")
        print(processes.owner_token(), *processes.carriers(processes.owner_token()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    token, *pids = done.stdout.split()
    assert len(pids) >= 4, done.stderr
    processes.wait_until(lambda: not any(map(psutil.pid_exists, map(int, pids))), timeout=8, what="the processes to end")
    left = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"beyondlab-{token}*"], capture_output=True, text=True)
    if left.stdout:
        processes.wait_until(lambda: not any(map(os.path.exists, left.stdout.split())), timeout=8, what="the groups to go")


def test_nothing_stays_after_the_block(able):
    with namespaces.start(["sh", "-c", "echo up; sleep 61 & wait"]) as process:
        processes.wait_until(lambda: "up" in process.output(), timeout=10, what="the container")
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        assert len(family) >= 3
    processes.wait_until(lambda: not any(map(psutil.pid_exists, family)), timeout=5, what="the processes to end")
