"""A small CPU: enough of the 16-bit x86 instruction set to run the course's guests where there is no KVM.

It interprets, some hundred thousand instructions a second, and isolates nothing: what it shares with a virtual machine
is what the guest sees. Real-address mode, as in Intel's *Software Developer's Manual*, volume 2; no interrupts, no
32-bit operands. Instructions outside the subset raise :class:`BadInstruction`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import NamedTuple

AX, CX, DX, BX, SP, BP, SI, DI = range(8)
REGISTERS = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
SEGMENTS = ("es", "cs", "ss", "ds")
ES, CS, SS, DS = range(4)
CARRY, PARITY, ZERO, SIGN, OVERFLOW = 1 << 0, 1 << 2, 1 << 6, 1 << 7, 1 << 11
_ARITHMETIC = CARRY | PARITY | ZERO | SIGN | OVERFLOW
_PARITY = [PARITY if bin(value).count("1") % 2 == 0 else 0 for value in range(256)]
ADDRESSES = 1 << 20
"""Bytes that real-address mode reaches; addresses wrap around, as they do with the A20 line closed."""


class BadInstruction(RuntimeError):
    """The guest ran into an instruction that the course's CPU does not have."""


class Exit(NamedTuple):
    """Why the guest left: ``kind`` is ``out`` (with ``value``), ``in`` (an answer is wanted), ``halt`` or ``limit``."""

    kind: str
    port: int = 0
    size: int = 0
    value: int = 0


class Cpu:
    """One processor on ``memory``, which may be any mutable sequence of at least 1 MiB of bytes.

    ``general`` and ``segments`` hold its registers; ``executed`` counts instructions, an iteration of a repeated one
    as one. Raises ValueError if the memory is smaller.
    """

    def __init__(self, memory: MutableSequence[int]) -> None:
        if len(memory) < ADDRESSES:
            raise ValueError(f"memory: has {len(memory):,} bytes; the course's CPU needs at least {ADDRESSES:,}")
        self.memory = memory
        self.general = [0] * 8
        self.segments = [0] * 4
        self.ip, self.flags, self.executed = 0, 2, 0
        self._pending = 0

    def registers(self) -> tuple[list[int], list[int], int, int]:
        """General registers, segments, instruction pointer and flags."""
        return list(self.general), list(self.segments), self.ip, self.flags

    def set_registers(self, general: list[int], segments: list[int], ip: int, flags: int) -> None:
        """Put the processor into a state that :meth:`registers` gave, of this or of another one."""
        self.general, self.segments = list(general), list(segments)
        self.ip, self.flags, self._pending = ip, flags | 2, 0

    def close(self) -> None:
        """Nothing to give back."""

    def answer(self, value: int) -> None:
        """What the port read by the last ``in`` gives."""
        if self._pending == 1:
            self.general[AX] = self.general[AX] & 0xFF00 | value & 0xFF
        elif self._pending == 2:
            self.general[AX] = value & 0xFFFF
        self._pending = 0

    def run(self, limit: int = 10**9) -> Exit:
        """Run until the guest uses a port or halts, for ``limit`` instructions at most."""
        until = self.executed + limit
        while self.executed < until:
            self.executed += 1
            left = self._step()
            if left is not None:
                return left
        return Exit("limit")

    def _byte(self) -> int:
        value = self.memory[((self.segments[CS] << 4) + self.ip) & 0xFFFFF]
        self.ip = (self.ip + 1) & 0xFFFF
        return value

    def _word(self) -> int:
        return self._byte() | self._byte() << 8

    def _signed(self) -> int:
        value = self._byte()
        return value - 256 if value > 127 else value

    def _load(self, address: int, wide: bool) -> int:
        low = self.memory[address & 0xFFFFF]
        return low | self.memory[address + 1 & 0xFFFFF] << 8 if wide else low

    def _store(self, address: int, wide: bool, value: int) -> None:
        self.memory[address & 0xFFFFF] = value & 0xFF
        if wide:
            self.memory[address + 1 & 0xFFFFF] = value >> 8 & 0xFF

    def _register(self, number: int, wide: bool) -> int:
        if wide:
            return self.general[number]
        return self.general[number & 3] >> (8 if number > 3 else 0) & 0xFF

    def _set_register(self, number: int, wide: bool, value: int) -> None:
        if wide:
            self.general[number] = value & 0xFFFF
        elif number > 3:
            self.general[number & 3] = self.general[number & 3] & 0xFF | (value & 0xFF) << 8
        else:
            self.general[number] = self.general[number] & 0xFF00 | value & 0xFF

    def _operand(self, override: int | None) -> tuple[int, int | None, int]:
        """Register field, address or None, and register number of a ModRM byte."""
        modrm = self._byte()
        mode, register, rm = modrm >> 6, modrm >> 3 & 7, modrm & 7
        if mode == 3:
            return register, None, rm
        g = self.general
        if mode == 0 and rm == 6:
            offset, segment = self._word(), DS
        else:
            parts = ((BX, SI), (BX, DI), (BP, SI), (BP, DI), (SI,), (DI,), (BP,), (BX,))[rm]
            segment = SS if BP in parts else DS
            offset = sum(g[part] for part in parts) + (self._signed() if mode == 1 else self._word() if mode == 2 else 0)
        base = self.segments[segment if override is None else override] << 4
        return register, base + (offset & 0xFFFF), rm

    def _get(self, address: int | None, rm: int, wide: bool) -> int:
        return self._register(rm, wide) if address is None else self._load(address, wide)

    def _put(self, address: int | None, rm: int, wide: bool, value: int) -> None:
        if address is None:
            self._set_register(rm, wide, value)
        else:
            self._store(address, wide, value)

    def _result(self, value: int, wide: bool) -> int:
        """Set zero, sign and parity after ``value``; the value cut to its size."""
        top = 0x8000 if wide else 0x80
        value &= 2 * top - 1
        self.flags |= _PARITY[value & 0xFF] | (0 if value else ZERO) | (SIGN if value & top else 0)
        return value

    def _alu(self, what: int, a: int, b: int, wide: bool) -> int | None:
        """One of add, or, adc, sbb, and, sub, xor, cmp; None where nothing is to be stored."""
        top = 0x8000 if wide else 0x80
        carry = self.flags & CARRY if what in (2, 3) else 0
        self.flags &= ~_ARITHMETIC
        if what in (1, 4, 6):
            return self._result(a | b if what == 1 else a & b if what == 4 else a ^ b, wide)
        minus = what in (3, 5, 7)
        value = a - b - carry if minus else a + b + carry
        if not 0 <= value < 2 * top:
            self.flags |= CARRY
        overflows = (a ^ b) & (a ^ value) if minus else (a ^ value) & (b ^ value)
        self.flags |= OVERFLOW if overflows & top else 0
        cut = self._result(value, wide)
        return None if what == 7 else cut

    def _condition(self, code: int) -> bool:
        f = self.flags
        less = bool(f & SIGN) != bool(f & OVERFLOW)
        holds = (f & OVERFLOW, f & CARRY, f & ZERO, f & (CARRY | ZERO), f & SIGN, f & PARITY, less, f & ZERO or less)[code >> 1]
        return bool(holds) != bool(code & 1)

    def _jump(self, distance: int, taken: bool = True) -> None:
        if taken:
            self.ip = (self.ip + distance) & 0xFFFF

    def _string(self, what: int, repeat: bool, override: int | None) -> None:
        wide, g = bool(what & 1), self.general
        step = (2 if wide else 1) * (-1 if self.flags & 0x400 else 1)
        count = g[CX] if repeat else 1
        self.executed += max(0, count - 1)
        for _ in range(count):
            source = (self.segments[DS if override is None else override] << 4) + g[SI]
            if what & 0xFE == 0xAC:
                self._set_register(AX, wide, self._load(source, wide))
            else:
                value = self._register(AX, wide) if what & 0xFE == 0xAA else self._load(source, wide)
                self._store((self.segments[ES] << 4) + g[DI], wide, value)
                g[DI] = (g[DI] + step) & 0xFFFF
            if what & 0xFE in (0xA4, 0xAC):
                g[SI] = (g[SI] + step) & 0xFFFF
        if repeat:
            g[CX] = 0

    def _port(self, op: int) -> Exit:
        size = 2 if op & 1 else 1
        port = self._byte() if op < 0xEC else self.general[DX]
        if op & 2:
            return Exit("out", port, size, self.general[AX] & (0xFFFF if size == 2 else 0xFF))
        self._pending = size
        return Exit("in", port, size)

    def _step(self) -> Exit | None:
        override, repeat = None, False
        begin = self.ip
        op = self._byte()
        while op in (0x26, 0x2E, 0x36, 0x3E, 0xF3):
            if op == 0xF3:
                repeat = True
            else:
                override = op >> 3 & 3
            op = self._byte()
        wide, g = bool(op & 1), self.general
        if op < 0x40 and op & 7 < 6:
            self._two_operands(op, wide, override)
        elif op < 0x50 and op >= 0x40:
            carry = self.flags & CARRY
            g[op & 7] = self._alu(5 if op & 8 else 0, g[op & 7], 1, True)
            self.flags = self.flags & ~CARRY | carry
        elif op < 0x58 and op >= 0x50:
            value = g[op & 7]
            g[SP] = (g[SP] - 2) & 0xFFFF
            self._store((self.segments[SS] << 4) + g[SP], True, value)
        elif op < 0x60 and op >= 0x58:
            value = self._load((self.segments[SS] << 4) + g[SP], True)
            g[SP] = (g[SP] + 2) & 0xFFFF
            g[op & 7] = value
        elif op & 0xF0 == 0x70:
            self._jump(self._signed(), self._condition(op & 15))
        elif op & 0xF0 == 0xB0:
            self._set_register(op & 7, op > 0xB7, self._word() if op > 0xB7 else self._byte())
        elif op & 0xFE in (0xA4, 0xAA, 0xAC):
            self._string(op, repeat, override)
        elif op & 0xF4 == 0xE4:
            return self._port(op)
        elif op == 0xF4:
            return Exit("halt")
        else:
            handler = _OTHERS.get(op)
            if handler is None:
                raise BadInstruction(f"byte {op:#04x} at {self.segments[CS]:#x}:{begin:#06x} begins no instruction of the course's CPU")
            handler(self, op, override)
        return None

    def _two_operands(self, op: int, wide: bool, override: int | None) -> None:
        what = op >> 3
        if op & 7 > 3:
            value = self._alu(what, self._register(AX, wide), self._word() if wide else self._byte(), wide)
            if value is not None:
                self._set_register(AX, wide, value)
            return
        register, address, rm = self._operand(override)
        there, here = self._get(address, rm, wide), self._register(register, wide)
        if op & 2:
            value = self._alu(what, here, there, wide)
            if value is not None:
                self._set_register(register, wide, value)
        else:
            value = self._alu(what, there, here, wide)
            if value is not None:
                self._put(address, rm, wide, value)

    def _immediate(self, op: int, override: int | None) -> None:
        what, address, rm = self._operand(override)
        wide = bool(op & 1)
        operand = self._word() if op == 0x81 else self._signed() & (0xFFFF if wide else 0xFF)
        value = self._alu(what, self._get(address, rm, wide), operand, wide)
        if value is not None:
            self._put(address, rm, wide, value)

    def _multiply(self, op: int, override: int | None) -> None:
        register, address, rm = self._operand(override)
        factor = self._get(address, rm, True)
        other = self._word() if op == 0x69 else self._signed() & 0xFFFF
        product = (factor - (factor >> 15 << 16)) * (other - (other >> 15 << 16))
        fits = -0x8000 <= product < 0x8000
        self.flags = self.flags & ~(CARRY | OVERFLOW) | (0 if fits else CARRY | OVERFLOW)
        self.general[register] = product & 0xFFFF

    def _move(self, op: int, override: int | None) -> None:
        register, address, rm = self._operand(override)
        wide = bool(op & 1)
        if op == 0x8C:
            self._put(address, rm, True, self.segments[register & 3])
        elif op == 0x8E:
            self.segments[register & 3] = self._get(address, rm, True)
        elif op & 2:
            self._set_register(register, wide, self._get(address, rm, wide))
        else:
            self._put(address, rm, wide, self._register(register, wide))

    def _accumulator(self, op: int, override: int | None) -> None:
        wide = bool(op & 1)
        address = (self.segments[DS if override is None else override] << 4) + self._word()
        if op < 0xA2:
            self._set_register(AX, wide, self._load(address, wide))
        else:
            self._store(address, wide, self._register(AX, wide))

    def _test(self, op: int, override: int | None) -> None:
        register, address, rm = self._operand(override)
        wide = bool(op & 1)
        self._alu(4, self._get(address, rm, wide), self._register(register, wide), wide)

    def _loop(self, op: int, override: int | None) -> None:
        distance = self._signed()
        if op == 0xE2:
            self.general[CX] = (self.general[CX] - 1) & 0xFFFF
            self._jump(distance, self.general[CX] != 0)
        else:
            self._jump(distance, self.general[CX] == 0)

    def _go(self, op: int, override: int | None) -> None:
        distance = self._signed() if op == 0xEB else self._word()
        self._jump(distance)

    def _nothing(self, op: int, override: int | None) -> None:
        """One byte that does nothing here: no operation, or the direction flag cleared."""
        if op == 0xFC:
            self.flags &= ~0x400


_OTHERS: dict[int, Callable[[Cpu, int, int | None], None]] = {
    **dict.fromkeys((0x80, 0x81, 0x83), Cpu._immediate),
    **dict.fromkeys((0x69, 0x6B), Cpu._multiply),
    **dict.fromkeys((0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8E), Cpu._move),
    **dict.fromkeys((0xA0, 0xA1, 0xA2, 0xA3), Cpu._accumulator),
    **dict.fromkeys((0x84, 0x85), Cpu._test),
    **dict.fromkeys((0xE2, 0xE3), Cpu._loop),
    **dict.fromkeys((0xE9, 0xEB), Cpu._go),
    **dict.fromkeys((0x90, 0xFC), Cpu._nothing),
}
