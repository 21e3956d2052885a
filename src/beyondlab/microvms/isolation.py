"""The same small program behind five walls: what a start, a system call and an instance cost, and what is let through.

A row is a mapping: ``start`` (milliseconds until the program had run and ended, or had answered), ``start p99`` (of as
many starts), ``memory`` (KiB that one more instance has to itself), ``call`` (nanoseconds that one call of the guest to
whoever serves it takes: of processor time for the first two walls, by the clock for the others), ``host kernel`` (nanoseconds of the host's kernel for one such call, where it was measured), ``overhead`` (KiB of it that are not guest memory),
``allowed`` (system calls that the wall lets through to the host's kernel, of ``surface.NUMBERS``).

Memory is what /proc calls private. The kernel's own bookkeeping, some tens of KiB a process, is not in it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from beyondlab.kit import namespaces, processes
from beyondlab.kit.recordings import Measurement, Result, measure
from beyondlab.kit.tables import Table, quantity, table
from beyondlab.microvms import guests, linux, model, surface
from beyondlab.microvms.vmm import Vm, clones, label, private_bytes, processor_here

RUNSC = "runsc"
_LIMIT = 60.0

Row = dict[str, Any]


def p99(samples: Sequence[float]) -> float:
    """99th percentile (linear interpolation); of fewer than 100 samples close to their largest."""
    if len(samples) < 2:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[98]


def _starts(milliseconds: Sequence[float]) -> Row:
    return {"start": measure("ms", milliseconds), "start p99": measure("ms", [p99(milliseconds)])}


def _surface(pids: Sequence[int]) -> int | None:
    """System calls that at least one of the processes may make; None where their filters cannot be read."""
    seen: set[int] = set()
    try:
        for pid in pids:
            seen |= surface.allowed(surface.filters_of(pid))
    except (surface.CannotRead, OSError):
        return None
    return len(seen)


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has used: in nanoseconds from its schedstat, else in ticks."""
    try:
        nanoseconds = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        nanoseconds = 0
    if nanoseconds:
        return nanoseconds / 1e9
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _watch(
    argv: list[str],
    calls: int,
    known: Callable[[psutil.Process], bool],
    server: Callable[[psutil.Process], bool],
    *,
    clock: Literal["cpu", "wall"] = "cpu",
    repetitions: int = 3,
    env: Mapping[str, str] | None = None,
) -> Row:
    """Run ``argv``, the probe in mode ``p``, so that it stays, and look at it: what its ``calls`` cost, memory of the
    processes ``known``, kernel time of all, and the calls allowed to the processes that serve its system calls.

    ``clock``: whether a call is counted in processor time of the ``known``, which other programs do not lengthen, or by
    the clock on the wall, from "ready" to "done".
    """
    costs, kernel, memory, allowed = [], [], [], None
    for _ in range(repetitions):
        with processes.Process(argv, env=env, ready=lambda p: "ready" in p.output(), timeout=_LIMIT, stop_timeout=1.0) as process:
            begin = time.perf_counter()
            over = lambda: "done" in process.output() or process.returncode is not None  # noqa: B023, E731
            processes.wait_until(over, timeout=_LIMIT, what="the probe", interval=0.001)
            wall = time.perf_counter() - begin
            if process.returncode is not None:
                raise RuntimeError(f"the probe ended with status {process.returncode}: {process.output(5)}")
            leader = psutil.Process(process.pid)
            family = [leader, *leader.children(recursive=True)]
            mine = [member.pid for member in family if known(member)]
            costs.append(1e9 / calls * (wall if clock == "wall" else sum(map(_cpu_seconds, mine))))
            kernel.append(1e9 / calls * sum(map(_system_seconds, family)))
            memory.append(linux.memory_of(mine)[1] / 1024)
            if allowed is None:
                allowed = _surface([member.pid for member in family if server(member)])
    row: Row = {"memory": measure("KiB", memory), "call": measure("ns", costs), "host kernel": measure("ns", kernel)}
    return row | ({} if allowed is None else {"allowed": allowed})


def _system_seconds(process: psutil.Process) -> float:
    try:
        return process.cpu_times().system
    except psutil.Error:
        return 0.0


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def process(starts: int = 150, calls: int = 1_000_000) -> Row:
    """A plain process: fork, exec, and the host's kernel itself."""
    with processes.scratch("probe-") as folder:
        probe = str(linux.write_probe(folder))
        times = namespaces.start_times([probe], starts, namespaces=())
        return _starts([1e3 * t for t in times]) | _watch([probe, str(calls), "p"], calls, lambda _: True, lambda _: True)


def namespace(starts: int = 100, calls: int = 1_000_000) -> Row:
    """A process in new mount, PID, host name, IPC and network namespaces: the core of a container."""
    with processes.scratch("probe-") as folder:
        probe = str(linux.write_probe(folder))
        times = namespaces.start_times([probe], starts)
        inside = lambda p: _name(p).startswith(probe)  # noqa: E731
        command = namespaces.command([probe, str(calls), "p"])
        return _starts([1e3 * t for t in times]) | _watch(command, calls, inside, inside)


def gvisor_missing() -> str | None:
    """Why gVisor cannot run here; None if it can."""
    if shutil.which(RUNSC) is None:
        return f"{RUNSC}, gVisor's runtime, is not installed"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return f"{RUNSC} needs root here"
    temporary = Path(tempfile.gettempdir()).resolve()
    if not all(os.stat(folder).st_mode & 0o001 for folder in (temporary, *temporary.parents)):
        return f"{RUNSC} drops its rights, and cannot reach a temporary folder that is closed to others"
    return namespaces.missing()


def gvisor_version() -> str:
    """Such as ``0.0~20221219.0`` (Debian's: of 2022)."""
    with processes.Process([RUNSC, "--version"], name="runsc") as asked:
        asked.wait(10.0)
        found = re.search(r"version (\S+)", asked.output())
    return found[1] if found else "unknown"


def _runsc(program: Path) -> list[str]:
    return [RUNSC, "--platform=ptrace", "--network=none", "--ignore-cgroups", "do", str(program)]


def gvisor(starts: int = 6, calls: int = 8_000) -> Row:
    """The program on gVisor's kernel in user space, the Sentry; every system call of it is caught with ptrace."""
    with processes.scratch("probe-") as folder:
        folder.parent.chmod(0o711)  # the sandbox has no rights, and its state lies in this folder
        folder.chmod(0o711)
        argv, env = _runsc(linux.write_probe(folder)), {"TMPDIR": str(folder)}
        times = []
        for _ in range(starts):
            with processes.Process(argv, name=RUNSC, env=env) as sandbox:
                status = sandbox.wait(_LIMIT)
                times.append(1e3 * (time.perf_counter() - sandbox.started))
                if status:
                    raise RuntimeError(f"runsc ended with status {status}: {sandbox.output(5)}")
        sentry = lambda p: "runsc-sandbox" in _name(p)  # noqa: E731
        return _starts(times) | _watch([*argv, str(calls), "p"], calls, lambda _: True, sentry, clock="wall", env=env)


_WAT = """
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "handle") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "calls") (param $n i32)
    (loop $again
      (drop (call $yield))
      (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
"""


def wasm(instances: int = 1_000, calls: int = 200_000) -> Row:
    """A WebAssembly instance in Wasmtime, in this process: ``instances`` of them alive at once.

    The call is WASI's ``sched_yield``, which Wasmtime passes on to the host. What an instance may ask for is what was
    linked to it, one function here: no system call is within its reach.
    """
    import wasmtime

    engine = wasmtime.Engine()
    compiled = wasmtime.Module(engine, _WAT)
    module = wasmtime.Module.deserialize(engine, compiled.serialize())
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    resident = psutil.Process().memory_info
    _give_back()
    before, times, alive = resident().rss, [], []
    for number in range(instances):
        begin = time.perf_counter()
        store = wasmtime.Store(engine)
        store.set_wasi(wasmtime.WasiConfig())
        instance = linker.instantiate(store, module)
        answer = instance.exports(store)["handle"](store, number)
        times.append(1e3 * (time.perf_counter() - begin))
        if answer != number + 1:
            raise RuntimeError(f"the instance answered {answer} instead of {number + 1}")
        alive.append((store, instance))
    memory = (resident().rss - before) / 1024 / instances
    store, instance = alive[0]
    call = instance.exports(store)["calls"]
    costs = []
    for _ in range(5):
        begin = time.perf_counter()
        call(store, calls)
        costs.append(1e9 * (time.perf_counter() - begin) / calls)
    return _starts(times) | {"memory": measure("KiB", [memory]), "call": measure("ns", costs), "allowed": 0}


def _give_back() -> None:
    """Return freed memory to the system, so that what instances need shows as growth."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_EXITS = bytes.fromhex("b9e803 ba8000 ee e2fd f4")  # mov cx,1000; mov dx,0x80; next: out dx,al; loop next; hlt


def clone(count: int = 100) -> Row:
    """A clone of a snapshot in the course's monitor: from the request for it to its first answer.

    The call is an exit to the monitor, written in Python. ``runs on`` says what the processor is.
    """
    with processes.scratch("clone-") as folder:
        state, memory = folder / "state", folder / "memory"
        with Vm(64) as vm:
            vm.boot(guests.RENEWING)
            vm.snapshot(state, memory)
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            with Vm.restore(state, memory) as vm:
                vm.request(1)
                times.append(1e3 * (time.perf_counter() - begin))
        with clones(count, state, memory) as alive:
            for vm in alive:
                vm.request(1)
            private = private_bytes([vm.memory for vm in alive]) / count / 1024
    costs = []
    for _ in range(5):
        with Vm() as vm:
            vm.load(_EXITS)
            begin = time.perf_counter()
            vm.run()
            costs.append(1e9 * (time.perf_counter() - begin) / 1_000)
    return _starts(times) | {
        "memory": measure("KiB", [private]), "call": measure("ns", costs), "runs on": label(processor_here())
    }  # fmt: skip


def linux_vm(starts: int | None = None, calls: int = 50_000) -> Row:
    """A Linux kernel of its own under QEMU's microvm machine, the console quiet: from the start of QEMU to its init.

    The call is one of the program to *its* kernel; it does not leave the virtual machine. QEMU runs with its seccomp
    filter on. ``starts``: by default 2 where the processor is emulated, 12 with KVM.
    """
    starts = starts or {"kvm": 12, "tcg": 2}[linux.accelerator()]
    with linux.Kernels() as kernels:
        boots = [kernels.boot(calls=calls, quiet=True, sandbox=True, look=lambda pid: _surface([pid])) for _ in range(starts)]
    row = _starts([1e3 * boot.marks["init says ready"] for boot in boots]) | {
        "memory": measure("KiB", [boot.private / 1024 for boot in boots]),
        "overhead": measure("KiB", [boot.overhead / 1024 for boot in boots]),
        "call": measure("ns", [1e9 * boot.phases()["system calls"] / calls for boot in boots]),
        "runs on": {"kvm": "KVM", "tcg": "TCG, QEMU's emulation"}[linux.accelerator()],
    }
    return row | ({} if boots[0].seen is None else {"allowed": boots[0].seen})


def comparison(rows: Mapping[str, Result]) -> Table:
    """The rows side by side, each with where its figures are from."""
    lines = []
    for name, row in rows.items():
        memory = row["memory"].value
        lines.append(
            [
                name,
                "measured" if row.live else row.label.partition(",")[0],
                f"{quantity(row['start'].value)} / {quantity(row['start p99'].value)} ms",
                quantity(row["start"].repetitions),
                f"{quantity(memory)} KiB" if memory < 1024 else f"{quantity(memory / 1024)} MiB",
                f"{model.density(memory):,}",
                f"{quantity(row['call'].value)} ns",
                row.get("allowed", "not read"),
            ]
        )
    header = ["Wall", "Figures", "Start p50 / p99", "n", "Memory", "In 8 GiB", "A call", "Let through"]
    return table(header, lines, align="llrrrrrr")


FIRECRACKER_BOOT_MS, FIRECRACKER_MIB = 1e3 / model.STARTS_PER_CORE, 5.0
"""Published: core milliseconds of a start at five a core a second; memory of the monitor itself, at most."""
RESTORE_MS = 50.0
"""Published (Brooker et al., USENIX ATC 2023): start of a container on AWS Lambda, as low as this."""


def walls(rows: Mapping[str, Result]) -> list[model.Wall]:
    """What :func:`beyondlab.microvms.model.decide` chooses from: our own figures, and Firecracker's published ones.

    ``rows`` are named as the experiments: ``process``, ``namespace``, ``gvisor``, ``wasm``, ``linux_vm``. A microVM that
    boots has the guest's own kernel in memory; that is ours, Debian's, for want of a published figure. One that is
    restored shares it with its siblings until it writes.
    """
    plain = rows["process"]["call"].value

    def ours(name: str, key: str, strength: int, native: bool = True) -> model.Wall:
        row = rows[key]
        extra = max(0.0, row["call"].value - plain) if key in ("gvisor", "wasm") else 0.0
        return model.Wall(name, row["start"].value, row["memory"].value, extra, strength, native, row.label)

    kernel = rows["linux_vm"]["memory"].value - rows["linux_vm"]["overhead"].value
    published = "Firecracker's design document and specification"
    return [
        ours("process", "process", 1),
        ours("namespaces", "namespace", 2),
        ours("gVisor, ptrace", "gvisor", 3),
        ours("Wasm, Wasmtime", "wasm", 3, native=False),
        model.Wall("Firecracker, booted", FIRECRACKER_BOOT_MS, FIRECRACKER_MIB * 1024 + kernel, 0.0, 3, True, published),
        model.Wall("Firecracker, restored", RESTORE_MS, FIRECRACKER_MIB * 1024, 0.0, 3, True, published),
    ]
