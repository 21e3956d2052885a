"""Control groups: the right file and unit for each version, limits that bite, nothing left behind."""

import os
import subprocess
import sys
import textwrap

import pytest
from beyondlab.kit import cgroups, processes

V1 = "nr_periods 40\nnr_throttled 39\nthrottled_time 5900000000\nnr_bursts 0\nburst_time 0\n"
V2 = (
    "usage_usec 2012345\nuser_usec 2000000\nsystem_usec 12345\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
    "nr_periods 40\nnr_throttled 39\nthrottled_usec 5900000\nnr_bursts 0\nburst_usec 0\n"
)


def needs(*controllers):
    if reason := cgroups.missing(*controllers):
        pytest.skip(reason)


def test_both_versions_are_told_the_same():
    limits = {"memory": 64 << 20, "cpu": 0.5, "period": 0.02, "pids": 16}
    assert cgroups.settings(1, **limits) == {
        "memory": {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864"},
        "cpu": {"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": "10000"},
        "pids": {"pids.max": "16"},
    }
    assert cgroups.settings(2, **limits) == {
        "memory": {"memory.max": "67108864", "memory.swap.max": "0"},
        "cpu": {"cpu.max": "10000 20000"},
        "pids": {"pids.max": "16"},
    }


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({"memory": 4096}, "memory=4096"),
        ({"cpu": 0.001}, "cpu=0.001"),
        ({"cpu": float("inf")}, "cpu=inf"),
        ({"cpu": 1, "period": 2}, "period=2"),
        ({"pids": 0}, "pids=0"),
    ],
)
def test_limits_that_make_no_sense(limits, names):
    with pytest.raises(ValueError, match=names):
        cgroups.settings(2, **limits)
    with pytest.raises(ValueError, match="version=3"):
        cgroups.settings(3)


def test_the_counters_of_both_versions_read_the_same():
    assert cgroups.cpu_stat(V1) == cgroups.cpu_stat(V2) == cgroups.CpuStat(40, 39, 5.9)
    with pytest.raises(ValueError, match="no nr_periods"):
        cgroups.cpu_stat("usage_usec 5\nuser_usec 5\nsystem_usec 0\n")
    assert cgroups.oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n") == 3
    assert cgroups.oom_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 3\noom_group_kill 0\n") == 3
    with pytest.raises(ValueError, match="oom_kill"):
        cgroups.oom_kills("low 0\n")


def test_a_version_2_tree_is_understood(tmp_path, monkeypatch):
    """Version 2 on a machine of version 1: a tree of plain files, which hands its controllers to what is made in it."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.procs").write_text("")
    monkeypatch.setattr(cgroups, "_parents", lambda: (2, {name: [tmp_path] for name in ("memory", "cpu", "pids")}))
    monkeypatch.setattr(cgroups, "_switch_on", lambda parent, folder, wanted: True)
    monkeypatch.setattr(processes, "remove_folders", lambda folders: None)
    with cgroups.group(memory=32 << 20, cpu=0.25) as group:
        (folder,) = set(group.folders.values())
        (folder / "memory.swap.max").touch()
        assert (folder / "memory.max").read_text() == str(32 << 20)
        assert (folder / "cpu.max").read_text() == "25000 100000"
        assert group.doors == [str(folder / "cgroup.procs")]
        (folder / "cpu.stat").write_text(V2)
        (folder / "memory.events").write_text("oom 1\noom_kill 1\n")
        assert group.cpu_stat().throttled == 39 and group.oom_kills() == 1


def test_a_version_2_group_without_controllers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "_parents", lambda: (2, {"memory": [tmp_path], "cpu": [tmp_path]}))
    monkeypatch.setattr(cgroups, "_switch_on", lambda parent, folder, wanted: False)
    with pytest.raises(cgroups.CannotLimit, match="memory, cpu are not all available"):
        with cgroups.group(memory=32 << 20, cpu=0.25):
            pass
    assert list(tmp_path.iterdir()) == []


def test_no_control_groups_at_all(monkeypatch):
    monkeypatch.setattr(cgroups, "_parents", lambda: (0, {}))
    with pytest.raises(cgroups.CannotLimit, match="no control groups"):
        with cgroups.group(memory=32 << 20):
            pass
    with pytest.raises(ValueError, match="at least one limit"):
        with cgroups.group():
            pass
    with pytest.raises(ValueError, match="'disk'"):
        cgroups.missing("disk")


def test_a_cpu_limit_throttles_and_the_group_goes():
    needs("cpu")
    busy = "import os, sys, time; [open(d, 'w').write('0') for d in sys.argv[1:]]\nwhile time.process_time() < .08: pass"
    with cgroups.group(cpu=0.2, period=0.02) as group:
        folders = list(group.folders.values())
        subprocess.run([sys.executable, "-I", "-S", "-c", busy, *group.doors], check=True, timeout=20)
        counted = group.cpu_stat()
    assert counted.throttled >= 10 and counted.periods >= counted.throttled and counted.throttled_seconds > 0.1
    assert not any(folder.exists() for folder in folders)


def test_a_busy_group_is_said_to_stay(monkeypatch):
    needs("memory")
    monkeypatch.setattr(processes._guard.remove_folders, "__kwdefaults__", {"limit": 0.05})
    child = None
    with pytest.raises(OSError, match="still running"):
        with cgroups.group(memory=1 << 28) as group:
            child = subprocess.Popen(["sleep", "60"])
            for door in group.doors:
                with open(door, "w") as file:
                    file.write(str(child.pid))
    child.kill()
    child.wait()
    processes.wait_until(lambda: not processes._guard.remove_folders([str(f) for f in group.folders.values()]),
                         timeout=5, what="the group to go")  # fmt: skip


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_groups_go_when_their_owner_does(end):
    needs("memory")
    code = textwrap.dedent("""
        import os, signal, sys
        from beyondlab.kit import cgroups, processes
        block = cgroups.group(memory=1 << 28)
        group = block.__enter__()
        processes.Process(["sh", "-c", f"echo $$ > {group.doors[0]}; sleep 60"]).start()
        print(*group.folders.values(), flush=True)
        if sys.argv[1] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    """)
    done = subprocess.run([sys.executable, "-c", code, end], capture_output=True, text=True, timeout=30)
    folders = done.stdout.split()
    assert folders, done.stderr
    processes.wait_until(lambda: not any(map(os.path.exists, folders)), timeout=8, what=f"{folders} to be removed")
