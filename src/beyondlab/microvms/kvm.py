"""A virtual processor on /dev/kvm, with the same face as the course's :class:`~beyondlab.microvms.cpu.Cpu`.

The interface is that of ``linux/kvm.h`` and Documentation/virt/kvm/api.rst of the Linux kernel. ``fcntl.ioctl`` wants
numbers that fit a signed int, and may be interrupted by a signal: a guest that never leaves can be stopped from the
keyboard.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from beyondlab.kit import _probes as numbers
from beyondlab.microvms.cpu import Exit

KVM_EXIT_IO, KVM_EXIT_HLT = numbers.EXIT_IO, numbers.EXIT_HLT
_GENERAL = (0, 2, 3, 1, 6, 7, 4, 5)  # place in struct kvm_regs of ax, cx, dx, bx, sp, bp, si, di
_SEGMENT = (48, 0, 120, 72)  # offset in struct kvm_sregs of es, cs, ss, ds
_REGS, _SREGS = 144, 312


class KvmError(RuntimeError):
    """The guest left for a reason that the course's monitor does not handle."""


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping begins in this process."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class KvmCpu:
    """One virtual processor in a virtual machine of its own, on ``memory`` as the guest's physical memory.

    Registers are read and written as lists, as those of the interpreter; the processor is in real-address mode.
    Raises OSError where /dev/kvm cannot be opened. Close it to give back its file descriptors.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        import fcntl

        self._ioctl = fcntl.ioctl
        self._fds: list[int] = []
        try:
            device = self._keep(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
            vm = self._keep(fcntl.ioctl(device, numbers.KVM_CREATE_VM, 0))
            region = struct.pack("IIQQQ", 0, 0, 0, len(memory), address_of(memory))
            fcntl.ioctl(vm, numbers.KVM_SET_USER_MEMORY_REGION, region)
            self._vcpu = self._keep(fcntl.ioctl(vm, numbers.KVM_CREATE_VCPU, 0))
            size = fcntl.ioctl(device, numbers.KVM_GET_VCPU_MMAP_SIZE, 0)
            self._run = mmap.mmap(self._vcpu, size)
        except BaseException:
            self._close_fds()
            raise
        self.memory = memory
        self._answer: tuple[int, int] | None = None

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def close(self) -> None:
        """Destroy the virtual machine. May be called twice."""
        if self._fds:
            self._run.close()
            self._close_fds()

    def registers(self) -> tuple[list[int], list[int], int, int]:
        """General registers, segments, instruction pointer and flags; the last ``out`` or ``in`` completed."""
        self._complete()
        regs, sregs = bytearray(_REGS), bytearray(_SREGS)
        self._ioctl(self._vcpu, numbers.KVM_GET_REGS, regs)
        self._ioctl(self._vcpu, numbers.KVM_GET_SREGS, sregs)
        words = struct.unpack("<18Q", regs)
        general = [words[place] & 0xFFFF for place in _GENERAL]
        segments = [struct.unpack_from("<QIH", sregs, offset)[2] for offset in _SEGMENT]
        return general, segments, words[16] & 0xFFFF, words[17]

    def set_registers(self, general: list[int], segments: list[int], ip: int, flags: int) -> None:
        """Put the processor into a state that :meth:`registers` gave, of this or of another one."""
        sregs = bytearray(_SREGS)
        self._ioctl(self._vcpu, numbers.KVM_GET_SREGS, sregs)
        for offset, selector in zip(_SEGMENT, segments, strict=True):
            struct.pack_into("<QIH", sregs, offset, selector << 4, 0xFFFF, selector)
        self._ioctl(self._vcpu, numbers.KVM_SET_SREGS, sregs)
        words = [0] * 18
        for place, value in zip(_GENERAL, general, strict=True):
            words[place] = value
        words[16], words[17] = ip, flags | 2
        self._ioctl(self._vcpu, numbers.KVM_SET_REGS, bytearray(struct.pack("<18Q", *words)))

    def _complete(self) -> None:
        """KVM finishes an ``out`` or ``in`` only when the guest is entered again: enter it, and leave at once."""
        self._run[1] = 1  # immediate_exit
        try:
            self._ioctl(self._vcpu, numbers.KVM_RUN, 0)
        except InterruptedError:
            pass
        finally:
            self._run[1] = 0

    def answer(self, value: int) -> None:
        """What the port read by the last ``in`` gives."""
        if self._answer is not None:
            offset, size = self._answer
            self._run[offset : offset + size] = (value & (256**size - 1)).to_bytes(size, "little")
            self._answer = None

    def run(self) -> Exit:
        """Enter the guest until it uses a port or halts."""
        self._ioctl(self._vcpu, numbers.KVM_RUN, 0)
        (reason,) = struct.unpack_from("I", self._run, 8)
        if reason == KVM_EXIT_HLT:
            return Exit("halt")
        if reason != KVM_EXIT_IO:
            raise KvmError(f"the guest left for reason {reason}; the course's monitor knows {KVM_EXIT_IO} (I/O) and {KVM_EXIT_HLT} (halt)")
        outward, size, port, count, offset = struct.unpack_from("BBHIQ", self._run, 32)
        if count != 1:
            raise KvmError(f"the guest repeats an I/O instruction {count} times; the course's monitor takes one at a time")
        if outward:
            return Exit("out", port, size, int.from_bytes(self._run[offset : offset + size], "little"))
        self._answer = offset, size
        return Exit("in", port, size)

