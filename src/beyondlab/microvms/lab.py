"""The lab of the chapter on microVMs: its experiments run where the machine has what each of them needs.

One recording, ``NAME``, is made of several labs, as each needs something else: /dev/kvm, QEMU and a kernel, user
namespaces, gVisor, Wasmtime. Where one cannot run, its recorded figures are shown, the others are measured.
"""

from __future__ import annotations

import importlib.util
import mmap
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from beyondlab.kit import machine, namespaces, processes
from beyondlab.kit.recordings import Lab, Result, read
from beyondlab.microvms import guests, isolation, linux
from beyondlab.microvms.client import BOOT_ARGS, Client

NAME = "microvms"
REAL = "firecracker"
"""Name of the real monitor's program."""


def _not_linux() -> str | None:
    if sys.platform != "linux":
        return "the course's monitor measures memory as Linux shows it"
    if mmap.PAGESIZE != guests.PAGE:
        return f"this kernel has pages of {mmap.PAGESIZE:,} bytes; the chapter counts pages of {guests.PAGE:,}"
    return None


def _no_kvm() -> str | None:
    here = machine.look()
    return here.kvm_reason if here.kvm == "none" else None


def _no_wasmtime() -> str | None:
    return None if importlib.util.find_spec("wasmtime") else "wasmtime is not installed"


def _no_probe() -> str | None:
    return None if machine.look().architecture == "x86_64" else "the course's test program is for x86-64 processors"


monitor = Lab(NAME, missing=_not_linux)
"""Experiments with the course's own monitor, on KVM or on its interpreter."""
kvm = Lab(NAME, missing=_no_kvm)
"""Experiments that need /dev/kvm."""
qemu = Lab(NAME, missing=linux.missing, binaries={"QEMU": linux.qemu_version, "Linux": lambda: linux.kernel_release(linux.kernel_image())})
"""Experiments that boot a Linux kernel."""

_walls = {
    "process": Lab(NAME, missing=lambda: _not_linux() or _no_probe()),
    "namespace": Lab(NAME, missing=lambda: _no_probe() or namespaces.missing()),
    "gvisor": Lab(NAME, missing=lambda: _no_probe() or isolation.gvisor_missing(), binaries={"runsc": isolation.gvisor_version}),
    "wasm": Lab(NAME, missing=_no_wasmtime, components=["wasmtime"]),
    "clone": monitor,
    "linux_vm": qemu,
}

process = _walls["process"].experiment(isolation.process)
namespace = _walls["namespace"].experiment(isolation.namespace)
gvisor = _walls["gvisor"].experiment(isolation.gvisor)
wasm = _walls["wasm"].experiment(isolation.wasm)
clone = _walls["clone"].experiment(isolation.clone)
linux_vm = _walls["linux_vm"].experiment(isolation.linux_vm)

WALLS = {
    "process": process,
    "namespaces": namespace,
    "gVisor, ptrace": gvisor,
    "Wasm, Wasmtime": wasm,
    "clone, our monitor": clone,
    "microVM, Linux": linux_vm,
}
"""Name of a row -> the experiment that measures it."""


def of_one_machine(rows: Mapping[str, Result], *names: str) -> dict[str, Result]:
    """These rows, to be held against each other: as measured if all were measured in this run, else all as recorded.

    A row that was measured here and one that was recorded elsewhere come from two processors.
    """
    if all(rows[name].live for name in names):
        return {name: rows[name] for name in names}
    recorded = read(NAME).results
    return {name: recorded[WALLS[name].__name__] for name in names}


def real_monitor() -> str | None:
    """The real ``firecracker`` program, where it is installed and KVM is real; None elsewhere."""
    return shutil.which(REAL) if machine.look().kvm == "real" else None


class Monitor:
    """One monitor process behind Firecracker's API: the real program where it can run, the course's elsewhere.

    A context manager. ``api`` is a client of its socket. ``real``: which of the two; by default :func:`real_monitor`
    decides. :meth:`guest` gives what to boot in it.
    """

    def __init__(self, *, real: bool | None = None) -> None:
        self._program = real_monitor() if real is not False else None
        if real and self._program is None:
            raise ValueError(f"real={real!r}: there is no {REAL} with real KVM here")
        self._stack = ExitStack()

    @property
    def real(self) -> bool:
        """Whether it is Firecracker itself."""
        return self._program is not None

    @property
    def name(self) -> str:
        """Which of the two, in words."""
        return "Firecracker" if self.real else "the course's"

    def __enter__(self) -> Monitor:
        try:
            self._folder = self._stack.enter_context(processes.scratch("vm-"))
            self.api = Client(self._folder / "api")
            program = [self._program] if self._program else [sys.executable, "-m", "beyondlab.microvms.firecracker"]
            self.process = processes.Process(
                [*program, "--api-sock", "api"],
                name="monitor",
                cwd=self._folder,
                ready=lambda _: self.api.get("/"),
                timeout=20.0,
            )
            self._stack.enter_context(self.process)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def guest(self) -> dict[str, Any]:
        """Arguments for :func:`beyondlab.microvms.client.boot`: a kernel this monitor can boot, and what goes with it."""
        if self.real:
            kernels = self._stack.enter_context(linux.Kernels())
            return {"kernel": kernels.kernel, "initrd": kernels.initrd, "arguments": f"{BOOT_ARGS} -- 0 p"}
        kernel = self._folder / "guest"
        kernel.write_bytes(guests.WATCHER)
        return {"kernel": kernel, "memory_mib": 16}

    def console(self) -> str:
        """What the guest wrote to its serial line."""
        return self.process.output(200)

    def wait_for(self, word: str, *, timeout: float = 10.0) -> None:
        """Wait until the guest has written ``word``. Raises TimeoutError after ``timeout`` seconds."""
        processes.wait_until(lambda: word in self.console(), timeout=timeout, what=f"the guest to say {word!r}")
