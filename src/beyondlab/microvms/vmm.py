"""The course's virtual machine monitor: one guest, a handful of devices, snapshots and clones.

The processor is KVM's where there is one and the course's interpreter elsewhere; ``Vm.processor`` says which. A
snapshot is two files, as Firecracker's: the registers, and the guest's memory, sparse. A clone maps the second one
copy-on-write.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from beyondlab.kit import machine
from beyondlab.microvms import guests
from beyondlab.microvms.cpu import Cpu, Exit
from beyondlab.microvms.kvm import KvmCpu, address_of
from beyondlab.microvms.rate_limiter import RateLimiter, TokenType

SECTOR_BYTES = 512
_MIB = 1 << 20

Processor = Literal["kvm", "interpreter"]


class SnapshotError(ValueError):
    """A snapshot cannot be read."""


def processor_here() -> Processor:
    """``kvm`` where this machine runs guests in it, emulated or not; ``interpreter`` elsewhere."""
    return "kvm" if machine.look().kvm != "none" else "interpreter"


def label(processor: Processor) -> str:
    """What runs the guest, in words, for tables and figures."""
    if processor == "interpreter":
        return "the course's interpreter, no virtual machine"
    return {"real": "KVM", "emulated": "KVM, itself emulated here"}.get(machine.look().kvm, "KVM")


class Vm:
    """One virtual machine. A context manager; leaving it gives its memory and descriptors back.

    ``memory_mib``: the guest's memory, 1 to 4,096 MiB. ``processor``: ``kvm`` or ``interpreter``, by default
    :func:`processor_here`. ``entropy``: gives the words that the guest reads from ``guests.ENTROPY``; the host's
    randomness by default. ``drive``: a file that the guest reads in sectors; ``limiter``: what it may read.

    Raises ValueError for a memory size or a processor that there is none of.
    """

    def __init__(
        self,
        memory_mib: int = 1,
        *,
        processor: Processor | None = None,
        entropy: Callable[[], int] | None = None,
        drive: str | os.PathLike[str] | None = None,
        limiter: RateLimiter | None = None,
        memory: mmap.mmap | None = None,
    ) -> None:
        if not (isinstance(memory_mib, int) and 1 <= memory_mib <= 4096):
            raise ValueError(f"memory_mib={memory_mib!r}: must be a whole number from 1 to 4,096")
        self.processor: Processor = processor or processor_here()
        if self.processor not in ("kvm", "interpreter"):
            raise ValueError(f"processor={processor!r}: must be 'kvm' or 'interpreter'")
        self.memory = mmap.mmap(-1, memory_mib * _MIB) if memory is None else memory
        self.console = bytearray()
        """What the guest wrote to its serial line."""
        self.exits = 0
        """How often the guest left, for a port or to halt."""
        self.generation = 1
        self._entropy = entropy or (lambda: secrets.randbelow(1 << 16))
        self._drive = Path(drive).read_bytes() if drive is not None else b""
        self._limiter = limiter or RateLimiter()
        self._offset = 0
        self._cpu: KvmCpu | Cpu = KvmCpu(self.memory) if self.processor == "kvm" else Cpu(self.memory)

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. May be called twice."""
        self._cpu.close()
        with suppress(BufferError):
            self.memory.close()

    def load(self, code: bytes, at: int = guests.ORIGIN) -> None:
        """Put ``code`` into the guest's memory and the processor in front of it.

        Raises ValueError if it does not fit under 64 KiB, where the course's guests live.
        """
        if not 0 < at <= at + len(code) <= 0x10000:
            raise ValueError(f"code of {len(code):,} bytes at {at:#x}: must end under 0x10000")
        self.memory[at : at + len(code)] = code
        self._cpu.set_registers([0, 0, 0, 0, at, 0, 0, 0], [0] * 4, at, 2)

    def run(self, *, until: Sequence[int] = (), argument: int = 0, exits: int = 10**9) -> Exit:
        """Run the guest, serving its devices, until it writes to one of the ports ``until`` or halts.

        ``argument`` is what it reads from ``guests.ARGUMENT``. Raises TimeoutError after ``exits`` exits.
        """
        for _ in range(exits):
            left = self._cpu.run()
            self.exits += 1
            if left.kind == "in":
                self._cpu.answer(self._read(left.port, argument))
            elif left.kind == "out":
                self._write(left)
                if left.port in until:
                    return left
            else:
                return left
        raise TimeoutError(f"the guest left {exits:,} times without writing to {', '.join(map(hex, until)) or 'its end'}")

    def _read(self, port: int, argument: int) -> int:
        if port == guests.ARGUMENT:
            return argument
        if port == guests.ENTROPY:
            return self._entropy()
        if port == guests.GENERATION:
            return self.generation
        if port == guests.DATA:
            word = int.from_bytes(self._drive[self._offset : self._offset + 2], "little")
            self._offset += 2
            return word
        return 0xFFFF

    def _write(self, left: Exit) -> None:
        if left.port == guests.SERIAL:
            self.console.append(left.value & 0xFF)
        elif left.port == guests.SECTOR:
            for tokens, kind in ((1, TokenType.OPS), (SECTOR_BYTES, TokenType.BYTES)):
                while not self._limiter.consume(tokens, kind):
                    time.sleep(self._limiter.blocked_for())
                    self._limiter.event()
            self._offset = left.value * SECTOR_BYTES

    def boot(self, code: bytes) -> None:
        """Load a guest and run it to the end of its init, as it says by writing to ``guests.READY``."""
        self.load(code)
        self.run(until=[guests.READY])

    def request(self, argument: int = 0) -> int:
        """Give a booted service one request; its answer."""
        return self.run(until=[guests.ANSWER], argument=argument).value

    def limit(self, document: dict[str, dict[str, int]]) -> None:
        """Change the buckets of the drive's rate limiter that ``document`` names, as Firecracker's API has them."""
        self._limiter.update(document)

    def snapshot(self, state: str | os.PathLike[str], memory: str | os.PathLike[str]) -> None:
        """Write registers to the file ``state`` and the memory to ``memory``; pages of zeros take no space."""
        general, segments, ip, flags = self._cpu.registers()
        document = {
            "format": 1,
            "memory_mib": len(self.memory) // _MIB,
            "general": general,
            "segments": segments,
            "ip": ip,
            "flags": flags,
            "generation": self.generation,
        }
        zero = bytes(guests.PAGE)
        with open(memory, "wb") as file:
            file.truncate(len(self.memory))
            for offset in _touched(self.memory):
                page = self.memory[offset : offset + guests.PAGE]
                if page != zero:
                    file.seek(offset)
                    file.write(page)
        Path(state).write_text(json.dumps(document))

    @classmethod
    def restore(
        cls,
        state: str | os.PathLike[str],
        memory: str | os.PathLike[str],
        *,
        copy: bool = False,
        new_generation: bool = True,
        **options: Any,
    ) -> Vm:
        """A virtual machine that goes on where the snapshot was taken. ``options`` as for :class:`Vm`.

        Its memory is the file mapped copy-on-write, or, with ``copy``, a full copy of it. ``new_generation``: tell the
        guest, through ``guests.GENERATION``. Raises :class:`SnapshotError` for files that are no snapshot.
        """
        try:
            document = json.loads(Path(state).read_bytes())
            general, segments = document["general"], document["segments"]
            words = [document[name] for name in ("ip", "flags", "generation", "memory_mib")]
            if (len(general), len(segments)) != (8, 4) or not all(type(w) is int and w >= 0 for w in (*general, *segments, *words)):
                raise ValueError("registers that are no whole numbers")
            ip, flags, generation, size = *words[:3], words[3] * _MIB
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError(f"{Path(state).name}: not a snapshot of the course's monitor ({error})") from error
        with open(memory, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise SnapshotError(f"{Path(memory).name}: must have {size:,} bytes, as {Path(state).name} says")
            if copy:
                mapped = mmap.mmap(-1, size)
                file.readinto(mapped)
            else:
                mapped = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        vm = cls(words[3], memory=mapped, **options)
        vm._cpu.set_registers([r & 0xFFFF for r in general], [r & 0xFFFF for r in segments], ip & 0xFFFF, flags & 0xFFFF_FFFF)
        vm.generation = generation + new_generation
        return vm

    def private_bytes(self) -> int:
        """Bytes of the guest's memory that only this process has: what this clone costs.

        Read from /proc/self/smaps (Linux); the kernel's own bookkeeping is not in it.
        """
        return private_bytes([self.memory])


def _touched(memory: mmap.mmap) -> Iterator[int]:
    """Offsets of the pages that may hold something: a page never touched is not worth reading, for it would be made."""
    try:
        with open("/proc/self/pagemap", "rb") as file:
            file.seek(address_of(memory) // mmap.PAGESIZE * 8)
            entries = memoryview(file.read(len(memory) // mmap.PAGESIZE * 8)).cast("Q")
    except OSError:
        entries = None
    for offset in range(0, len(memory), guests.PAGE):
        if entries is None or entries[offset // mmap.PAGESIZE] >> 61:  # present, swapped, or a page of a file
            yield offset


def private_bytes(memories: Sequence[mmap.mmap]) -> int:
    """Bytes of these mappings that only this process has, from one reading of /proc/self/smaps.

    Of a file that is mapped copy-on-write these are the pages that were copied; dirty pages of the file itself, which
    wait to be written back, belong to nobody's mapping.
    """
    wanted = {f"{address_of(memory):x}" for memory in memories}
    total, counted = 0, ""
    with open("/proc/self/smaps") as file:
        for line in file:
            first, _, rest = line.partition(" ")
            if "-" in first and not first.endswith(":"):
                found = first.partition("-")[0].lstrip("0") in wanted
                counted = ("Anonymous:" if rest[3] == "p" else "Private_Dirty:") if found else ""
            elif first == counted:
                total += int(rest.split()[0]) * 1024
    return total


@contextmanager
def clones(count: int, state: Path, memory: Path, **options: Any) -> Iterator[list[Vm]]:
    """``count`` virtual machines restored from one snapshot, ended when the block is left."""
    made: list[Vm] = []
    try:
        for _ in range(count):
            made.append(Vm.restore(state, memory, **options))
        yield made
    finally:
        for vm in made:
            vm.close()
