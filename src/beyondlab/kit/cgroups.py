"""Control groups with limits, version 1 and version 2, in a ``with`` block; removed also when the interpreter is killed.

File names and units are those of Documentation/admin-guide/cgroup-v1, Documentation/admin-guide/cgroup-v2.rst and
Documentation/scheduler/sched-bwc.rst of the Linux kernel.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from beyondlab.kit import check, machine, processes

ROOT = Path("/sys/fs/cgroup")
_serial = itertools.count(1)


class CannotLimit(RuntimeError):
    """This machine does not let us make a control group; the message says why."""


@dataclass(frozen=True)
class CpuStat:
    """What the CPU controller has counted: elapsed periods, periods cut short, seconds of waiting (of all cores)."""

    periods: int
    throttled: int
    throttled_seconds: float


def settings(
    version: Literal[1, 2],
    *,
    memory: int | None = None,
    cpu: float | None = None,
    period: float = 0.1,
    pids: int | None = None,
) -> dict[str, dict[str, str]]:
    """What to write where: controller -> file -> text, in the order in which it must be written.

    ``memory`` in bytes, swap included as far as the kernel counts it; ``cpu`` in processors, so that the quota is
    ``cpu * period``; ``period`` in seconds, 0.001 to 1; ``pids`` a number of tasks. Raises ValueError for other values
    and for a quota under the kernel's least, 1 ms.
    """
    if version not in (1, 2):
        raise ValueError(f"version={version!r}: must be 1 or 2")
    if not 0.001 <= period <= 1:
        raise ValueError(f"period={period!r}: the kernel allows 0.001 to 1 second")
    found: dict[str, dict[str, str]] = {}
    if memory is not None:
        if not memory >= 1 << 20:
            raise ValueError(f"memory={memory!r}: must be at least {1 << 20} bytes, or no program starts")
        limit = str(int(memory))
        found["memory"] = (
            {"memory.max": limit, "memory.swap.max": "0"}
            if version == 2
            else {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
        )
    if cpu is not None:
        if not (math.isfinite(cpu) and cpu * period >= 0.001):
            raise ValueError(f"cpu={cpu!r}: the quota cpu * period must be at least 0.001 s; period={period!r}")
        quota, length = round(cpu * period * 1e6), round(period * 1e6)
        found["cpu"] = (
            {"cpu.max": f"{quota} {length}"}
            if version == 2
            else {"cpu.cfs_period_us": str(length), "cpu.cfs_quota_us": str(quota)}
        )
    if pids is not None:
        found["pids"] = {"pids.max": str(check.whole("pids", pids, 1))}
    return found


def _pairs(text: str) -> dict[str, int]:
    return {name: int(value) for name, _, value in (line.partition(" ") for line in text.splitlines()) if value.isdigit()}


def cpu_stat(text: str) -> CpuStat:
    """``cpu.stat`` of either version: version 1 writes ``throttled_time`` in ns, version 2 ``throttled_usec``.

    Raises ValueError if the text has no counters of throttling, as where the CPU controller is off.
    """
    found = _pairs(text)
    if not {"nr_periods", "nr_throttled"} <= found.keys():
        raise ValueError(f"text={text[:60]!r}: has no nr_periods and nr_throttled; is the CPU controller on?")
    seconds = found["throttled_usec"] / 1e6 if "throttled_usec" in found else found["throttled_time"] / 1e9
    return CpuStat(found["nr_periods"], found["nr_throttled"], seconds)


def oom_kills(text: str) -> int:
    """Processes killed for want of memory: from ``memory.oom_control`` (version 1) or ``memory.events`` (version 2).

    Raises ValueError if the text does not say.
    """
    found = _pairs(text)
    if "oom_kill" not in found:
        raise ValueError(f"text={text[:60]!r}: has no line oom_kill")
    return found["oom_kill"]


@dataclass(frozen=True)
class Group:
    """A control group: one folder (version 2), or one a controller (version 1)."""

    version: Literal[1, 2]
    folders: Mapping[str, Path]

    @property
    def doors(self) -> list[str]:
        """The ``cgroup.procs`` files: a process enters by writing its id, or 0 for itself, to each of them."""
        return sorted({str(folder / "cgroup.procs") for folder in self.folders.values()})

    def cpu_stat(self) -> CpuStat:
        """The counters of throttling so far. Raises KeyError if the group has no CPU limit."""
        return cpu_stat((self.folders["cpu"] / "cpu.stat").read_text())

    def oom_kills(self) -> int:
        """How many processes were killed for want of memory. Raises KeyError if the group has no memory limit."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return oom_kills((self.folders["memory"] / name).read_text())


class Limit(NamedTuple):
    """A limit of this process's control groups, in the unit of ``what``; None for no limit."""

    what: str
    value: float | None


def limits() -> list[Limit]:
    """The limits that hold for this process and can be seen from here: memory in bytes, CPU in processors, tasks."""
    version, folders = machine._cgroup()
    memory = [_number(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")) for folder in folders]
    cpus = list(_quotas(version, folders))
    tasks = [_number(folder / "pids.max") for folder in folders]
    return [
        Limit("memory, bytes", min((m for m in memory if m is not None and m < 1 << 60), default=None)),
        Limit("CPU, processors", min(cpus, default=None)),
        Limit("tasks", min((t for t in tasks if t is not None), default=None)),
    ]


def _number(file: Path) -> int | None:
    text = machine._read(file)
    return int(text) if text.isdigit() else None


def _quotas(version: int, folders: list[Path]) -> Iterator[float]:
    for folder in folders:
        if version == 2:
            quota, _, period = machine._read(folder / "cpu.max").partition(" ")
        else:
            quota, period = machine._read(folder / "cpu.cfs_quota_us"), machine._read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            yield int(quota) / int(period)


@contextmanager
def group(
    *, memory: int | None = None, cpu: float | None = None, period: float = 0.1, pids: int | None = None
) -> Iterator[Group]:
    """A new control group with these limits (see :func:`settings`), removed on leaving; all in it must have ended.

    Raises :class:`CannotLimit` where the machine does not allow it, ValueError for a limit that makes no sense.
    """
    wanted = settings(_parents()[0] or 2, memory=memory, cpu=cpu, period=period, pids=pids)
    with unlimited(*wanted) as made:
        for controller, files in wanted.items():
            for file, text in files.items():
                _write(made.folders[controller] / file, text)
        yield made


@contextmanager
def unlimited(*controllers: str) -> Iterator[Group]:
    """A new control group with these controllers and no limit yet, removed on leaving; all in it must have ended.

    Raises :class:`CannotLimit` where the machine does not allow it, ValueError if no controller is named.
    """
    if not controllers:
        raise ValueError("controllers=(): at least one limit is needed")
    version, parents = _parents()
    name = f"beyondlab-{processes.owner_token()}-{next(_serial)}"
    made: list[Path] = []
    try:
        folders = {each: _make(version, parents, each, controllers, name, made) for each in controllers}
        yield Group(version, folders)
    finally:
        processes.remove_folders(made)


@cache
def missing(*controllers: str) -> str | None:
    """Why no group with ``controllers`` (``memory``, ``cpu``, ``pids``) can be made here; None if it can. Really tried."""
    limits = {"memory": 1 << 30, "cpu": 1.0, "pids": 100}
    unknown = [name for name in controllers if name not in limits]
    if unknown:
        raise ValueError(f"controllers={unknown[0]!r}: must be among {', '.join(limits)}")
    if sys.platform != "linux":
        return "control groups are part of Linux"
    try:
        with group(**{name: limits[name] for name in controllers or limits}):
            return None
    except CannotLimit as error:
        return str(error)


def _parents(root: Path = ROOT) -> tuple[Literal[0, 1, 2], dict[str, list[Path]]]:
    """Version, and where a group may be made: controller -> folders, this process's own first, then all above it."""
    version, _ = machine._cgroup(root)
    lines = [line.split(":", 2) for line in machine._read("/proc/self/cgroup").splitlines()]
    found = {}
    for controller in ("memory", "cpu", "pids"):
        if version == 2:
            own = next((path for number, names, path in lines if number == "0" and not names), "/")
            found[controller] = list(machine._upwards(root, own))
        elif (root / controller).is_dir():
            own = next((path for _, names, path in lines if controller in names.split(",")), "/")
            found[controller] = list(machine._upwards(root / controller, own))
    return version, found


def _make(
    version: int,
    parents: Mapping[str, Sequence[Path]],
    controller: str,
    wanted: Sequence[str],
    name: str,
    made: list[Path],
) -> Path:
    """A folder in which ``controller`` is on; with version 2 the same one for all that are ``wanted``."""
    if version == 2 and made:
        return made[-1]
    reason = "this machine has no control groups" if not version else f"there is no {controller} controller"
    for parent in parents.get(controller, ()):
        folder = parent / name
        processes.remember_folder(folder)
        try:
            folder.mkdir()
            made.append(folder)
            if version == 1:
                return folder
            if not _switch_on(parent, folder, wanted):
                reason = f"the controllers {', '.join(wanted)} are not all available to a new group"
            else:
                return folder
        except OSError as error:
            reason = f"a control group cannot be made: {error.strerror}"
        processes.remove_folders([folder])
        made[:] = [path for path in made if path != folder]
    raise CannotLimit(reason)


def _switch_on(parent: Path, folder: Path, wanted: Sequence[str]) -> bool:
    """Version 2: whether the new group has the controllers, and lets this process move in."""
    on = (folder / "cgroup.controllers").read_text().split()
    return set(wanted) <= set(on) and os.access(parent / "cgroup.procs", os.W_OK)


def _write(file: Path, text: str) -> None:
    """Set one limit. A file that this kernel does not have, such as those for swap, is left out if it is of no harm."""
    if not file.exists() and "sw" in file.name:
        return
    try:
        file.write_text(text)
    except OSError as error:
        raise CannotLimit(f"{file.name} cannot be set to {text}: {error.strerror}") from error
