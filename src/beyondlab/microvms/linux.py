"""A real Linux kernel, booted to user space by QEMU's ``microvm`` machine with an initrd that is built here.

Kernel and QEMU come from packages (on Debian: linux-image-cloud-amd64, qemu-system-x86). The initrd holds one program of
some 180 bytes of machine code (:data:`PROBE`), so no compiler is needed.
"""

from __future__ import annotations

import bz2
import ctypes
import ctypes.util
import gzip
import lzma
import os
import re
import shutil
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyondlab.kit import machine, processes

QEMU = "qemu-system-x86_64"
BOOT_LIMIT = 40.0
"""Seconds that a boot may take; with KVM it is well under one, emulated two to five."""

MEMORY_MIB = 128

_MACHINE = "microvm,acpi=off,pit=on,pic=on,rtc=on,isa-serial=on"
_ARGUMENTS = "console=ttyS0 reboot=t panic=-1"
_EMULATED = "tsc=unstable lpj=4000000 noreplace-smp cryptomgr.notests"
"""An emulated machine has no clock good enough to calibrate others by: the kernel is told not to try. Nor shall it patch
itself for its one processor or test its ciphers: emulated, both together are a fifth of a boot."""

_CODE = bytes.fromhex(
    "58 5b"  # pop rax; pop rbx: number of arguments, name
    "4531e4 4531ed"  # xor r12d,r12d; xor r13d,r13d: calls to make, mode
    "83f802 7c21"  # cmp eax,2; jl go
    "5e 89c7"  # pop rsi; mov edi,eax
    "0fb60e 48ffc6 83e930 7809"  # digit: movzx ecx,[rsi]; inc rsi; sub ecx,48; js mode
    "456be40a 4101cc ebec"  # imul r12d,r12d,10; add r12d,ecx; jmp digit
    "83ff03 7c05"  # mode: cmp edi,3; jl go
    "5e 440fb62e"  # pop rsi; movzx r13d,[rsi]
    "488d3578000000 ba06000000 e861000000"  # go: lea rsi,[ready]; mov edx,6; call say
    "4585e4 740c"  # test r12d,r12d; jz finished
    "b86e000000 0f05 41ffcc 75f4"  # call: mov eax,110 (getppid); syscall; dec r12d; jnz call
    "488d355c000000 ba05000000 e83f000000"  # finished: lea rsi,[done]; mov edx,5; call say
    "4180fd70 7509"  # cmp r13b,'p'; jne restart
    "b822000000 0f05 ebf7"  # wait: mov eax,34 (pause); syscall; jmp wait
    "4180fd72 7521"  # restart: cmp r13b,'r'; jne end
    "b827000000 0f05 ffc8 7516"  # mov eax,39 (getpid); syscall; dec eax; jnz end: only as process 1
    "b8a9000000 bfaddee1fe be69191228 ba67452301 0f05"  # reboot(magic, magic, RESTART)
    "b83c000000 31ff 0f05"  # end: exit(0)
    "b801000000 bf01000000 0f05 c3"  # say: write(1, rsi, edx); ret
)
_TEXT = _CODE + b"ready\ndone\n"
_BASE = 0x400000


def _elf(code: bytes) -> bytes:
    """A static 64-bit ELF executable of one segment, ``code``, entered at its beginning."""
    headers = 64 + 56
    size = headers + len(code)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, _BASE + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + code


PROBE = _elf(_TEXT)
"""``probe CALLS MODE``: says "ready", calls getppid so often, says "done", and ends; with mode ``p`` it stays instead,
with mode ``r`` it restarts the machine, but only as process 1."""


def write_probe(folder: Path) -> Path:
    """Write :data:`PROBE` into ``folder`` as an executable file; its path."""
    file = folder / "probe"
    file.write_bytes(PROBE)
    file.chmod(0o755)
    return file


def _entry(number: int, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    path = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)


def initrd(init: bytes = PROBE) -> bytes:
    """A cpio archive (format "newc", as Documentation/driver-api/early-userspace of Linux has it) with ``init`` in it."""
    return b"".join(
        [
            _entry(1, "dev", 0o040755),
            _entry(2, "dev/console", 0o020600, device=(5, 1)),
            _entry(3, "init", 0o100755, init),
            _entry(0, "TRAILER!!!", 0),
        ]
    )


def kernel_image() -> Path | None:
    """The newest readable kernel under /boot, one for the cloud first; None if there is none."""
    found = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(found, key=lambda path: ("cloud" in path.name, _natural(path.name)), default=None)


def _natural(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def kernel_release(image: Path) -> str:
    """The release that a bzImage says it is, such as ``6.1.0-56-cloud-amd64`` (Documentation/arch/x86/boot.rst)."""
    data = image.read_bytes()[:0x10000]
    if data[0x202:0x206] != b"HdrS":
        raise ValueError(f"image={image.name!r}: not a bzImage")
    begin = struct.unpack_from("<H", data, 0x20E)[0] + 0x200
    return data[begin : data.index(b"\0", begin)].decode().split()[0]


class CannotUnpack(ValueError):
    """The kernel is compressed in a way that cannot be undone here."""


def unpack(image: bytes) -> bytes:
    """The uncompressed kernel, an ELF file, inside a bzImage.

    Its place stands in the header (Documentation/arch/x86/boot.rst). Raises :class:`CannotUnpack` for a format that
    neither the standard library nor the system's liblz4 knows, ValueError if it is no bzImage.
    """
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS":
        raise ValueError(f"image: {len(image):,} bytes that are no bzImage: the mark HdrS is missing")
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[begin : begin + length]
    (size,) = struct.unpack("<I", payload[-4:])
    formats = {
        b"\x1f\x8b": lambda: gzip.decompress(payload),
        b"\xfd7zXZ": lambda: lzma.LZMADecompressor().decompress(payload),
        b"BZh": lambda: bz2.BZ2Decompressor().decompress(payload),
        b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(payload),
        b"\x02\x21\x4c\x18": lambda: _lz4(payload[4:-4]),
    }
    for mark, decompress in formats.items():
        if payload.startswith(mark):
            kernel = decompress()[:size]
            break
    else:
        raise CannotUnpack(f"the kernel is compressed in a format that begins with {payload[:4].hex()}")
    if kernel[:4] != b"\x7fELF" or len(kernel) != size:
        raise CannotUnpack(f"unpacked {len(kernel):,} bytes that are not the ELF file of {size:,} bytes that was promised")
    return kernel


def _lz4(payload: bytes) -> bytes:
    """Legacy LZ4 frames: blocks of 8 MiB, each with its compressed length before it."""
    name = ctypes.util.find_library("lz4")
    if name is None:
        raise CannotUnpack("the kernel is compressed with LZ4, and there is no liblz4 here")
    library = ctypes.CDLL(name)
    block = ctypes.create_string_buffer(8 << 20)
    kernel, place = bytearray(), 0
    while place + 4 <= len(payload):
        (length,) = struct.unpack_from("<I", payload, place)
        place += 4
        written = library.LZ4_decompress_safe(payload[place : place + length], block, length, len(block))
        if length == 0 or written < 0:
            raise CannotUnpack("the LZ4 data of the kernel is damaged")
        kernel += memoryview(block)[:written]
        place += length
    return bytes(kernel)


def missing() -> str | None:
    """Why no Linux can be booted here; None if it can."""
    if machine.look().architecture != "x86_64":
        return "the course boots an x86-64 kernel"
    if shutil.which(QEMU) is None:
        return f"{QEMU} is not installed"
    if kernel_image() is None:
        return "there is no readable kernel under /boot"
    return None


def qemu_version() -> str:
    """Such as ``7.2.22``."""
    with processes.Process([QEMU, "--version"], name="qemu", timeout=10.0) as process:
        process.wait(10.0)
        found = re.search(r"version (\S+)", process.output())
    return found[1] if found else "unknown"


def accelerator() -> str:
    """``kvm`` where it is real; ``tcg``, QEMU's emulation, elsewhere: an emulated KVM boots no ordinary kernel."""
    return "kvm" if machine.look().kvm == "real" else "tcg"


@dataclass(frozen=True)
class Boot:
    """One boot. ``marks`` are seconds from the start of QEMU until a phase was over, in order; ``log`` the serial line.

    ``private``: bytes that the QEMU process has to itself at the end of the marks; ``overhead``: those of them that are
    not the guest's memory. ``seen``: what the ``look`` of :meth:`Kernels.boot` gave.
    """

    marks: dict[str, float]
    log: str
    private: int
    overhead: int
    seen: Any = None

    def phases(self) -> dict[str, float]:
        """Seconds of each phase by itself."""
        names, times = list(self.marks), [0.0, *self.marks.values()]
        return {name: after - before for name, before, after in zip(names, times, times[1:])}


MARKS = {
    "QEMU and firmware": r"Linux version",
    "kernel": r"Run /init as init process",
    "init says ready": r"^ready",
    "system calls": r"^done",
}
"""Phase -> what the serial line shows when it is over."""


class Kernels:
    """The kernel and the initrd of a boot as files in a scratch folder, written once. A context manager."""

    def __enter__(self) -> Kernels:
        image = kernel_image()
        if image is None:
            raise FileNotFoundError("there is no readable kernel under /boot")
        self._scratch = processes.scratch("linux-")
        folder = self._scratch.__enter__()
        self.release = kernel_release(image)
        self.initrd = folder / "initrd"
        self.initrd.write_bytes(initrd())
        try:
            self.kernel, self.unpacked = folder / "vmlinux", True
            self.kernel.write_bytes(unpack(image.read_bytes()))
        except CannotUnpack:
            self.kernel, self.unpacked = image, False
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.__exit__(None, None, None)

    def boot(
        self, *, calls: int = 0, quiet: bool = False, sandbox: bool = False, look: Callable[[int], Any] = lambda _: None
    ) -> Boot:
        """Boot, run the probe with ``calls`` system calls, and stop QEMU. ``quiet``: the kernel prints nothing.
        ``look`` is asked of the process id of QEMU when all is done, and before it is stopped.

        Raises :class:`beyondlab.kit.processes.NotReady`, with the serial log, if it takes over :data:`BOOT_LIMIT`.
        """
        wanted = {name: mark for name, mark in MARKS.items() if not (quiet and name in ("QEMU and firmware", "kernel"))}
        marks: dict[str, float] = {}
        with processes.Process(self.command(calls=calls, quiet=quiet, sandbox=sandbox), name="microVM") as process:
            deadline = process.started + BOOT_LIMIT
            log = ""
            while len(marks) < len(wanted):
                before, log = log, process.output(2_000)
                now = time.perf_counter() - process.started
                for name, mark in wanted.items() if log != before else ():
                    if name not in marks and re.search(mark, log, flags=re.M):
                        marks[name] = now
                if process.returncode is not None and len(marks) < len(wanted):
                    raise processes.ProcessExited("the microVM ended before its init was done", process.returncode, log[-2_000:])
                if time.perf_counter() > deadline:
                    missed = next(name for name in wanted if name not in marks)
                    raise processes.NotReady(f"waited {BOOT_LIMIT:g} s for the microVM: {missed}. {log[-300:]}", log)
                time.sleep(0.002)
            _, private = memory_of([process.pid])
            overhead = private - _guest_memory(process.pid)
            seen = look(process.pid)
        return Boot(marks, log, private, overhead, seen)

    def command(self, *, calls: int = 0, quiet: bool = False, sandbox: bool = False) -> list[str]:
        """QEMU's command line. ``sandbox``: with its seccomp filter."""
        tcg = accelerator() == "tcg"
        arguments = [_ARGUMENTS, *([_EMULATED] if tcg else []), *(["quiet loglevel=0"] if quiet else []), f"-- {calls} p"]
        filters = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"] if sandbox else []
        return [
            QEMU, "-M", _MACHINE, "-accel", accelerator(), *(["-cpu", "host"] if not tcg else []),
            "-m", str(MEMORY_MIB), "-smp", "1", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-serial", "stdio", "-kernel", str(self.kernel), "-initrd", str(self.initrd),
            "-append", " ".join(arguments), *filters,
        ]  # fmt: skip


def _guest_memory(pid: int) -> int:
    """Private bytes of the mapping that is exactly as large as the guest's memory."""
    size, private, ours = MEMORY_MIB << 10, 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Size":
            ours = int(value.split()[0]) == size
        elif ours and name in ("Private_Clean", "Private_Dirty"):
            private += int(value.split()[0]) * 1024
    return private


def memory_of(pids: Sequence[int]) -> tuple[int, int]:
    """Resident and private bytes of processes, summed, from /proc/PID/smaps_rollup; those that have ended count nothing."""
    resident = private = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:] if line.endswith("kB")}
        resident += values.get("Rss", 0)
        private += values.get("Private_Clean", 0) + values.get("Private_Dirty", 0)
    return resident, private
