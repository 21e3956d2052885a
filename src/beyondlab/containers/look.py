"""What a process can read about its own walls, from /proc and /sys: nothing is changed, no right is needed.

Formats: namespaces(7), capabilities(7), proc(5) (status, mountinfo, cgroup) and Documentation/admin-guide/cgroup-v2.rst
of the Linux kernel. Capability names and numbers: include/uapi/linux/capability.h.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from beyondlab.kit import cgroups, machine
from beyondlab.kit.tables import Table, quantity, table

CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
).split()
"""Names by number, 0 to 40."""

DOCKER_DEFAULT = frozenset(
    "chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service sys_chroot kill "
    "audit_write".split()
)
"""The 14 capabilities that Docker leaves to a container by default (moby/profiles and its documentation)."""

SECCOMP = {0: "off", 1: "strict", 2: "filter"}
INIT_SYSTEMS = {"systemd", "init", "openrc-init", "runit", "s6-svscan", "launchd"}
NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "user", "cgroup", "time")


def namespaces(pid: int | str = "self") -> dict[str, int]:
    """Kind of namespace -> its number, for a process: two processes with the same number are in the same one."""
    found = {}
    for kind in NAMESPACES:
        try:
            found[kind] = int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]"))
        except (OSError, ValueError):
            continue
    return found


def capability_names(mask: int) -> list[str]:
    """The capabilities of a bit mask such as CapEff.

    >>> capability_names(0x400)
    ['net_bind_service']

    Raises ValueError for a negative mask.
    """
    if mask < 0:
        raise ValueError(f"mask={mask!r}: must not be negative")
    return [
        CAPABILITIES[bit] if bit < len(CAPABILITIES) else f"capability {bit}"
        for bit in range(mask.bit_length())
        if mask >> bit & 1
    ]


def status(text: str) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


class Mount(NamedTuple):
    """One line of mountinfo: where, which kind of file system, its options of the superblock."""

    path: str
    kind: str
    options: str


def mounts(text: str) -> list[Mount]:
    """The lines of /proc/PID/mountinfo. Optional fields end at a hyphen."""
    found = []
    for line in text.splitlines():
        before, hyphen, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if hyphen and len(fields) >= 6 and len(rest) >= 3:
            found.append(Mount(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4]), rest[0], rest[-1]))
    return found


_OCTAL = re.compile(r"\\([0-7]{3})")
"""How the kernel writes a blank, a tab, a line end and a backslash in a path."""


def overlay_layers(options: str) -> int:
    """How many read-only layers an overlay mount stacks: the folders of ``lowerdir``."""
    lower = next((o.partition("=")[2] for o in options.split(",") if o.startswith("lowerdir=")), "")
    stacked = sum(o.startswith("lowerdir+=") for o in options.split(","))
    return stacked or (lower.count(":") + 1 if lower else 0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def around() -> Table:
    """A table of the walls around this process: what, found, and what it says."""
    here = machine.look()
    if here.os != "Linux":
        return table(["Wall", "Found", "It says"], [["all", here.os, "they are part of Linux"]])
    about = status(_read("/proc/self/status"))
    held = capability_names(int(about.get("CapEff", "0"), 16))
    bounding = capability_names(int(about.get("CapBnd", "0"), 16))
    root = next((m for m in reversed(mounts(_read("/proc/self/mountinfo"))) if m.path == "/"), None)
    layers = overlay_layers(root.options) if root else 0
    seccomp = SECCOMP.get(int(about.get("Seccomp", "0")), "unknown")
    init = _read("/proc/1/comm").strip() in INIT_SYSTEMS
    frozen = about.get("NoNewPrivs") == "1"
    kinds = namespaces()
    bounds = (f"{name}: {'no limit' if value is None else quantity(value)}" for name, value in cgroups.limits())
    stacked = f"{root.kind}, {layers} layers" if layers else root.kind if root else "unknown"
    rows = {
        "namespaces": (f"{len(kinds)} kinds: {', '.join(kinds)}", "every Linux process is in one of each"),
        "process 1": (
            "an init system" if init else "no init system",
            "as on a machine" if init else "some program: the first of a container, or of a very small machine",
        ),
        "root file system": (
            stacked,
            "an image's layers, stacked" if layers else "not an image's layers, as far as one can see",
        ),
        "control groups": (f"version {here.cgroup}" if here.cgroup else "none", "; ".join(bounds)),
        "capabilities": (
            f"{len(held)} of {len(CAPABILITIES)} held, {len(bounding)} attainable",
            "Docker leaves 14 to root in a container; an ordinary user holds none",
        ),
        "seccomp": (
            seccomp,
            "system calls are filtered" if seccomp == "filter" else "every system call may be asked for",
        ),
        "no new privileges": (
            "yes" if frozen else "no",
            "sudo cannot make you root" if frozen else "sudo could make you root",
        ),
    }
    return table(["Wall", "Found", "It says"], [[name, *found] for name, found in rows.items()])
