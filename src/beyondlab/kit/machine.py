"""What this machine allows: the question every lab asks before it starts.

:func:`look` finds out once a process. What may hang or change the process is tried in a child with a time limit.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from beyondlab.kit import _probes
from beyondlab.kit.tables import Table, quantity, table

PROBE_LIMIT = 5.0
"""Seconds that a probe may take."""

_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2**63 for "no limit"


@dataclass(frozen=True)
class Machine:
    """What was found. ``memory_bytes`` and ``cores`` are what this process may use: limits of its control group and
    its processor affinity are taken into account, so that ``cores`` may be a fraction.
    """

    os: str
    kernel: str
    architecture: str
    processor: str
    cores: float
    memory_bytes: int
    python: str
    root: bool
    kvm: Literal["real", "emulated", "none"]
    kvm_reason: str
    user_namespaces: bool
    user_namespaces_reason: str
    cgroup: Literal[0, 1, 2]
    cgroup_writable: bool
    virtualisation: str

    def table(self, needs: Sequence[str] | None = None) -> Table:
        """One row a capability: what, found, what it means for a lab.

        ``needs`` names the capabilities to show: ``processor``, ``memory``, ``kernel``, ``virtualisation``, ``root``,
        ``kvm``, ``user_namespaces``, ``cgroup``; all of them by default. Raises ValueError for another name.
        """
        rows = self._rows()
        unknown = [name for name in needs or [] if name not in rows]
        if unknown:
            raise ValueError(f"needs={unknown[0]!r}: not a capability; there are {', '.join(rows)}")
        return table(
            ["This machine", "Found", "What it means for a lab"],
            [row for name, row in rows.items() if needs is None or name in needs],
        )

    def _rows(self) -> dict[str, tuple[str, str, str]]:
        kvm = {
            "real": "microVMs run at the speed of the processor",
            "emulated": "tiny guests only; timings say nothing about real microVMs",
            "none": "microVM labs show recorded figures",
        }[self.kvm]
        control = {
            True: "limits of memory and CPU can be set",
            False: "limits cannot be set; labs that need them show recorded figures",
        }[bool(self.cgroup and self.cgroup_writable)]
        return {
            "processor": (
                "Processor",
                f"{self.processor}, {_count(self.cores, 'core')}, {self.architecture}",
                "timings depend on it: compare ratios, not milliseconds"
                if self.cores >= 2
                else "a lab and its load share one core: timings are pessimistic",
            ),
            "memory": (
                "Memory",
                f"{quantity(self.memory_bytes / 1e9)} GB",
                "enough for every chapter" if self.memory_bytes >= 2e9 else "close other notebooks first",
            ),
            "kernel": ("Kernel", f"{self.os} {self.kernel}, Python {self.python}", _kernel_means(self.os)),
            "virtualisation": (
                "Runs in",
                self.virtualisation,
                "neighbours may disturb timings: repeat, and look at the spread",
            ),
            "root": (
                "User",
                "root" if self.root else "ordinary user",
                "may do everything that the kernel allows" if self.root else "all that most labs need",
            ),
            "kvm": ("KVM", f"{self.kvm}: {self.kvm_reason}", kvm),
            "user_namespaces": (
                "User namespaces",
                f"{'yes' if self.user_namespaces else 'no'}: {self.user_namespaces_reason}",
                "containers can be built from scratch" if self.user_namespaces else "container labs show recorded figures",
            ),
            "cgroup": (
                "Control groups",
                "none" if self.cgroup == 0 else f"version {self.cgroup}, {'' if self.cgroup_writable else 'not '}writable",
                control,
            ),
        }


def _kernel_means(system: str) -> str:
    return "labs run here" if system == "Linux" else "labs are made for Linux; here they show recorded figures"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


@cache
def look() -> Machine:
    """Look at this machine. The answer is kept for the process; ``look.cache_clear()`` forgets it."""
    linux = sys.platform == "linux"
    version, folders = _cgroup() if linux else (0, [])
    kvm = _probe("kvm") if linux else {"kvm": "none", "reason": "KVM is part of Linux"}
    namespaces = _probe("user-namespaces") if linux else {"reason": "they are part of Linux"}
    return Machine(
        os=platform.system(),
        kernel=platform.release(),
        architecture=platform.machine(),
        processor=_processor(),
        cores=_cores(version, folders),
        memory_bytes=_memory(version, folders),
        python=platform.python_version(),
        root=hasattr(os, "geteuid") and os.geteuid() == 0,
        kvm=kvm.get("kvm", "none"),
        kvm_reason=kvm["reason"],
        user_namespaces=namespaces.get("user_namespaces", False),
        user_namespaces_reason=namespaces["reason"],
        cgroup=version,
        cgroup_writable=bool(folders) and _probe("cgroup", str(folders[0])).get("writable", False),
        virtualisation=_virtualisation(),
    )


def _probe(*arguments: str, limit: float | None = None) -> dict[str, Any]:
    """What a probe of :mod:`._probes` prints. On failure, only a ``reason``. Never takes much over ``limit`` seconds."""
    limit = PROBE_LIMIT if limit is None else limit
    argv = [sys.executable, "-I", "-S", _probes.__file__, *arguments]
    status, output = _run(argv, limit)
    if status is None:
        return {"reason": f"the probe did not end within {limit:g} s"}
    try:
        return json.loads(output)
    except ValueError:
        return {"reason": f"the probe ended with status {status} and no answer"}


def _run(argv: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Exit status and standard output; no status if the program was killed after ``limit`` seconds."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return 127, ""
    try:
        output, _ = child.communicate(timeout=limit)
        return child.returncode, output
    except subprocess.TimeoutExpired:
        child.kill()
    try:
        child.communicate(timeout=1.0)
    except subprocess.TimeoutExpired:
        pass  # stuck in the kernel: it cannot be waited for
    return None, ""


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.partition(":")[0].strip() == "model name":
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        _, output = _run(["sysctl", "-n", "machdep.cpu.brand_string"], PROBE_LIMIT)
        if output.strip():
            return output.strip()
    return platform.processor() or platform.machine() or "unknown"


def _cgroup(root: Path = Path("/sys/fs/cgroup"), membership: str | None = None) -> tuple[Literal[0, 1, 2], list[Path]]:
    """Version, and the folders of this process's own group and all above it (v1: those of the memory and cpu trees)."""
    lines = [line.split(":", 2) for line in (membership or _read("/proc/self/cgroup")).splitlines()]
    if (root / "cgroup.controllers").exists():
        own = next((path for number, controllers, path in lines if number == "0" and not controllers), "/")
        return 2, list(_upwards(root, own))
    folders = []
    for controller in ("memory", "cpu"):
        own = next((path for _, controllers, path in lines if controller in controllers.split(",")), "/")
        if (root / controller).is_dir():
            folders += _upwards(root / controller, own)
    return (1, folders) if folders else (0, [])


def _upwards(root: Path, own: str) -> Iterator[Path]:
    folder = root / own.lstrip("/")
    if ".." in folder.parts or not folder.is_dir():  # a container sees its own group as the root
        folder = root
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _cores(version: int, folders: Sequence[Path]) -> float:
    if hasattr(os, "sched_getaffinity"):
        cores = float(len(os.sched_getaffinity(0)))
    else:
        cores = float(os.cpu_count() or 1)
    for folder in folders:
        if version == 2:
            quota, _, period = _read(folder / "cpu.max").partition(" ")
        else:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cores = min(cores, int(quota) / int(period))
    return cores


def _memory(version: int, folders: Sequence[Path]) -> int:
    import psutil

    total = psutil.virtual_memory().total
    for folder in folders:
        limit = _read(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if limit.isdigit() and int(limit) < _UNLIMITED:
            total = min(total, int(limit))
    return total


def _virtualisation() -> str:
    """A hint, from what the system says of itself: the hypervisor first, then whether it is a container in it."""
    if sys.platform != "linux":
        return "bare metal or unknown"
    container = _container()
    machine = _hypervisor()
    if container and machine:
        return f"{container} in a {machine}"
    return container or machine or "bare metal or unknown"


def _detect(kind: str) -> str:
    """What systemd-detect-virt says, where it is installed; otherwise nothing."""
    if shutil.which("systemd-detect-virt") is None:
        return ""
    _, output = _run(["systemd-detect-virt", kind], PROBE_LIMIT)
    return "" if output.strip() == "none" else output.strip()


def _container() -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes pod"
    if Path("/.dockerenv").exists():
        return "Docker container"
    if Path("/run/.containerenv").exists():
        return "Podman container"
    found = _detect("--container")
    return f"{found} container" if found else ""


def _hypervisor() -> str:
    names = {"kvm": "KVM", "qemu": "QEMU (emulated)", "amazon": "Amazon EC2", "microsoft": "Hyper-V", "wsl": "WSL"}
    found = _detect("--vm") or _read("/sys/hypervisor/type")
    if found:
        return f"{names.get(found, found)} guest"
    product = f"{_read('/sys/class/dmi/id/sys_vendor')} {_read('/sys/class/dmi/id/product_name')}".lower()
    for mark in ("kvm", "qemu", "vmware", "virtualbox", "xen", "amazon", "google", "microsoft"):
        if mark in product:
            return f"{names.get(mark, mark.capitalize())} guest"
    if "kvm" in _read("/sys/devices/system/clocksource/clocksource0/available_clocksource"):
        return "KVM guest"
    flags = next((line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("flags")), "")
    return "virtual machine" if "hypervisor" in flags.split() else ""
