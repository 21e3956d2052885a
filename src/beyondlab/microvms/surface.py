"""What a process may ask of its kernel: the seccomp filters that it runs under, read from the kernel itself.

A filter is a program of classic BPF over the number and the arguments of a system call (linux/seccomp.h,
linux/filter.h). Here each number is tried with all arguments left open: a call counts as allowed if there are arguments
with which it is. Reading another process's filter needs CAP_SYS_ADMIN (PTRACE_SECCOMP_GET_FILTER, ptrace(2)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

AUDIT_ARCH_X86_64 = 0xC000003E
NUMBERS = (*range(337), *range(424, 470))
"""The system calls of x86-64 in Linux 6.18 (arch/x86/entry/syscalls/syscall_64.tbl): 383."""

_ALLOWED = {0x7FFF0000, 0x7FFC0000}  # SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
_ACTION = 0xFFFF0000
_SEIZE, _INTERRUPT, _DETACH, _GET_FILTER = 0x4206, 0x4207, 17, 0x420C
_WALL = 0x40000000
_STOP_LIMIT = 2.0


class CannotRead(RuntimeError):
    """The filter of a process cannot be read; the message says why."""


class Instruction(NamedTuple):
    """One instruction of classic BPF."""

    code: int
    jt: int
    jf: int
    k: int


def program(data: bytes) -> list[Instruction]:
    """The instructions of a filter as the kernel gives it: 8 bytes each. Raises ValueError for another length."""
    if not data or len(data) % 8:
        raise ValueError(f"data: {len(data)} bytes; a filter has 8 for each instruction")
    return [Instruction(*fields) for fields in struct.iter_unpack("<HBBI", data)]


def outcomes(filter: Sequence[Instruction], number: int, arch: int = AUDIT_ARCH_X86_64) -> set[int]:
    """All actions that a filter may give for one system call, whatever its arguments.

    Number and architecture are known, everything else is open: a comparison with something open goes both ways. Raises
    ValueError for an instruction that is not classic BPF, and for a filter that runs over its end.
    """
    found: set[int] = set()
    seen: set[tuple] = set()
    todo: list[tuple[int, int | None, int | None, tuple[tuple[int, int | None], ...]]] = [(0, 0, 0, ())]
    known = {0: number, 4: arch}
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        place, a, x, memory = state
        if place >= len(filter):
            raise ValueError(f"filter: runs over its end, {len(filter)} instructions")
        code, jt, jf, k = filter[place]
        kind, rest = code & 7, code & ~7
        after = place + 1
        if kind == 6:  # return
            found.add((k if rest & 0x18 == 0 else a or 0) & _ACTION)
        elif kind in (0, 1):  # load A, load X
            cells = dict(memory)
            mode = rest & 0xE0
            value = {0x00: k, 0x20: known.get(k), 0x60: cells.get(k), 0x80: 64}.get(mode)
            todo.append((after, value, x, memory) if kind == 0 else (after, a, value, memory))
        elif kind in (2, 3):  # store A, store X
            cells = dict(memory) | {k: a if kind == 2 else x}
            todo.append((after, a, x, tuple(sorted(cells.items()))))
        elif kind == 4:
            todo.append((after, _compute(rest, a, x if rest & 8 else k), x, memory))
        elif kind == 5:
            if rest & 0xF0 == 0:
                todo.append((after + k, a, x, memory))
            else:
                holds = _compare(rest & 0xF0, a, x if rest & 8 else k)
                todo += [(after + jt, a, x, memory)] if holds in (True, None) else []
                todo += [(after + jf, a, x, memory)] if holds in (False, None) else []
        elif kind == 7:
            todo.append((after, a, a, memory) if rest & 0xF8 == 0 else (after, x, x, memory))
        else:
            raise ValueError(f"code={code:#x} at {place}: no instruction of classic BPF")
    return found


def _compute(operation: int, a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return None
    results = {0x00: a + b, 0x10: a - b, 0x20: a * b, 0x40: a | b, 0x50: a & b, 0x60: a << (b & 31), 0x70: a >> (b & 31), 0x80: -a, 0xA0: a ^ b}
    result = results.get(operation & 0xF0)
    return None if result is None else result & 0xFFFFFFFF


def _compare(operation: int, a: int | None, b: int | None) -> bool | None:
    if a is None or b is None:
        return None
    results = {0x10: a == b, 0x20: a > b, 0x30: a >= b, 0x40: bool(a & b)}
    if operation not in results:
        raise ValueError(f"code={operation | 5:#x}: no comparison of classic BPF")
    return results[operation]


def allowed(filters: Sequence[Sequence[Instruction]], numbers: Sequence[int] = NUMBERS) -> set[int]:
    """Numbers of the system calls that all ``filters`` allow with some arguments."""
    return {n for n in numbers if all(outcomes(one, n) & _ALLOWED for one in filters)}


def filters_of(pid: int, *, tid: int | None = None) -> list[list[Instruction]]:
    """The seccomp filters of a thread; none if it runs without.

    The thread is stopped for a moment. Raises :class:`CannotRead` where the kernel does not allow it.
    """
    tid = tid or pid
    if platform.machine() != "x86_64":
        raise CannotRead("the course reads filters of x86-64 processes")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def trace(what: str, request: int, address: int = 0, data: object = None) -> int:
        answer = libc.ptrace(request, tid, address, data)
        if answer < 0:
            number = ctypes.get_errno()
            if request == _GET_FILTER and number in (errno.ENOENT, errno.EINVAL):
                return -1
            raise CannotRead(f"{what}: {os.strerror(number)}")
        return answer

    trace("the process cannot be traced", _SEIZE)
    try:
        trace("the process cannot be stopped", _INTERRUPT)
        _wait_for_stop(tid)
        found: list[list[Instruction]] = []
        while (length := trace("its filter cannot be read", _GET_FILTER, len(found))) > 0:
            buffer = ctypes.create_string_buffer(8 * length)
            trace("its filter cannot be read", _GET_FILTER, len(found), buffer)
            found.append(program(buffer.raw))
        return found
    finally:
        libc.ptrace(_DETACH, tid, None, None)


def _wait_for_stop(tid: int) -> None:
    deadline = time.monotonic() + _STOP_LIMIT
    while time.monotonic() < deadline:
        pid, status = os.waitpid(tid, _WALL | os.WNOHANG)
        if pid and os.WIFSTOPPED(status):
            return
        if pid:
            raise CannotRead(f"the process ended: {signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status}")
        time.sleep(0.001)
    raise CannotRead(f"waited {_STOP_LIMIT:g} s for the process to stop")
