import dataclasses
import os
import sys
import time

import pytest
from beyondlab.kit import _probes, machine


@pytest.fixture
def fresh():
    machine.look.cache_clear()
    yield
    machine.look.cache_clear()


def test_look_is_plausible_and_kept():
    found = machine.look()
    assert found is machine.look()
    assert 0 < found.cores <= os.cpu_count()
    assert 1e8 < found.memory_bytes < 1e14
    assert found.root == (os.geteuid() == 0)
    assert found.processor and found.kernel and found.virtualisation and found.kvm_reason
    assert found.python.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")


def test_kvm_agrees_with_the_device():
    found = machine.look()
    if not os.path.exists("/dev/kvm"):
        assert (found.kvm, found.kvm_reason) == ("none", "there is no /dev/kvm")
    elif not os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert (found.kvm, found.kvm_reason) == ("none", "this user may not open /dev/kvm")
    elif found.kvm != "none":
        assert "instructions a second" in found.kvm_reason
        with open("/proc/cpuinfo") as file:
            flags = file.read().split()
        if found.kvm == "real" and os.uname().machine == "x86_64":
            assert "vmx" in flags or "svm" in flags


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", "did not end within 0.3 s"),
        ("import os; os.kill(os.getpid(), 11)", "ended with status -11"),
        ("print('not JSON')", "ended with status 0 and no answer"),
    ],
)
def test_a_probe_that_hangs_or_dies_gives_a_reason(fresh, monkeypatch, tmp_path, code, reason):
    broken = tmp_path / "broken.py"
    broken.write_text(code)
    monkeypatch.setattr(_probes, "__file__", str(broken))
    monkeypatch.setattr(machine, "PROBE_LIMIT", 0.3)
    begin = time.perf_counter()
    found = machine.look()
    assert time.perf_counter() - begin < 4
    assert found.kvm == "none" and reason in found.kvm_reason
    assert found.user_namespaces is False and reason in found.user_namespaces_reason
    assert found.cgroup_writable is False


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_without_linux(fresh, monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    found = machine.look()
    assert (found.kvm, found.user_namespaces, found.cgroup, found.cgroup_writable) == ("none", False, 0, False)
    assert found.kvm_reason == "KVM is part of Linux"
    assert "recorded" in repr(found.table(["kvm"]))


def test_table_shows_what_is_needed():
    found = dataclasses.replace(machine.look(), kvm="emulated", kvm_reason="a guest ran 4 million", cores=1.5)
    assert [row[0] for row in found.table(["cgroup", "kvm"]).rows] == ["KVM", "Control groups"]
    assert "timings say nothing" in found.table(["kvm"])._repr_markdown_()
    assert "1.5 cores" in repr(found.table(["processor"]))
    assert len(found.table().rows) == 8
    with pytest.raises(ValueError, match="needs='gpu'.*kvm"):
        found.table(["gpu"])


def test_cgroup_v2_limits(tmp_path):
    own = tmp_path / "pod" / "container"
    own.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (own / "cpu.max").write_text("max 100000\n")
    (own / "memory.max").write_text("max\n")
    (tmp_path / "pod" / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "pod" / "memory.max").write_text("1073741824\n")
    version, folders = machine._cgroup(tmp_path, "0::/pod/container\n")
    assert (version, folders) == (2, [own, own.parent, tmp_path])
    assert machine._cores(version, folders) == 0.5
    assert machine._memory(version, folders) == 2**30


def test_cgroup_v1_limits(tmp_path):
    for controller in ("memory", "cpu"):
        (tmp_path / controller / "docker").mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory" / "docker" / "memory.limit_in_bytes").write_text("2147483648\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("25000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    version, folders = machine._cgroup(tmp_path, "5:memory:/docker\n3:cpu,cpuacct:/gone/in/container\n")
    assert version == 1
    assert machine._memory(version, folders) == 2**31
    assert machine._cores(version, folders) == 0.25


def test_no_cgroup(tmp_path):
    assert machine._cgroup(tmp_path, "") == (0, [])


def test_cgroup_writable_really_tries(tmp_path):
    assert _probes.cgroup_writable(str(tmp_path)) == {"writable": True}
    assert list(tmp_path.iterdir()) == []
    assert _probes.cgroup_writable(str(tmp_path / "missing")) == {"writable": False}
