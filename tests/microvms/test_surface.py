"""Filters of system calls: an evaluator against programs with known answers, and this machine's own processes."""

import subprocess
import sys

import pytest
from beyondlab.microvms import surface
from beyondlab.microvms.surface import Instruction as I

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050001, 0x80000000
LOAD_NUMBER, LOAD_ARCH, LOAD_ARGUMENT = I(0x20, 0, 0, 0), I(0x20, 0, 0, 4), I(0x20, 0, 0, 16)


def test_an_allow_list():
    filter = [LOAD_NUMBER, I(0x15, 1, 0, 0), I(0x15, 0, 1, 60), I(0x06, 0, 0, ALLOW), I(0x06, 0, 0, ERRNO)]
    assert surface.allowed([filter]) == {0, 60}


def test_a_deny_list_and_a_range():
    filter = [LOAD_NUMBER, I(0x35, 0, 1, 400), I(0x06, 0, 0, KILL), I(0x06, 0, 0, ALLOW)]
    assert surface.allowed([filter]) == {n for n in surface.NUMBERS if n < 400}


def test_an_argument_is_left_open():
    filter = [LOAD_NUMBER, I(0x15, 0, 3, 16), LOAD_ARGUMENT, I(0x15, 0, 1, 0xAE80), I(0x06, 0, 0, ALLOW), I(0x06, 0, 0, KILL)]
    assert surface.outcomes(filter, 16) == {ALLOW, KILL}
    assert surface.allowed([filter]) == {16}


def test_another_architecture():
    filter = [LOAD_ARCH, I(0x15, 1, 0, surface.AUDIT_ARCH_X86_64), I(0x06, 0, 0, KILL), I(0x06, 0, 0, ALLOW)]
    assert surface.outcomes(filter, 0) == {ALLOW}
    assert surface.outcomes(filter, 0, arch=0x40000003) == {KILL}


def test_arithmetic_memory_and_registers():
    filter = [
        LOAD_NUMBER, I(0x02, 0, 0, 3), I(0x54, 0, 0, 0xF0), I(0x07, 0, 0, 0), I(0x60, 0, 0, 3), I(0x1C, 0, 0, 0),
        I(0x15, 0, 1, 7), I(0x06, 0, 0, ALLOW), I(0x06, 0, 0, KILL),
    ]  # fmt: skip
    assert surface.allowed([filter]) == {n for n in surface.NUMBERS if n - (n & 0xF0) == 7}


def test_all_filters_must_allow():
    one = [LOAD_NUMBER, I(0x15, 0, 1, 1), I(0x06, 0, 0, ALLOW), I(0x06, 0, 0, KILL)]
    none = [I(0x06, 0, 0, KILL)]
    assert surface.allowed([one, none]) == set()
    assert surface.allowed([]) == set(surface.NUMBERS)


@pytest.mark.parametrize(("filter", "fault"), [
    ([LOAD_NUMBER], "runs over its end, 1 instr"), ([LOAD_NUMBER, I(0x05, 0, 0, 9)], "runs over its end"), ([], "runs over its end"),
    ([LOAD_NUMBER, I(0x95, 0, 0, 1), I(0x06, 0, 0, ALLOW)], "code=0x95"),
])  # fmt: skip
def test_programs_that_the_kernel_would_not_take(filter, fault):
    with pytest.raises(ValueError, match=fault):
        surface.allowed([filter])


def test_a_program_has_whole_instructions():
    with pytest.raises(ValueError, match="7 bytes"):
        surface.program(bytes(7))
    assert surface.program(bytes.fromhex("1500010202000000")) == [I(0x15, 1, 2, 2)]


CONFINED = """
import ctypes, struct, sys, time
libc = ctypes.CDLL(None)
program = b"".join(struct.pack("<HBBI", *i) for i in
    [(0x20, 0, 0, 0), (0x15, 0, 1, 101), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(program)
head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 4, ctypes.addressof(buffer)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head, 0, 0) == 0
print("confined", flush=True)
time.sleep(30)
"""


def test_the_filter_of_a_live_process():
    with subprocess.Popen([sys.executable, "-c", CONFINED], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "confined\n"
            try:
                filters = surface.filters_of(child.pid)
            except surface.CannotRead as error:
                pytest.skip(str(error))
            assert surface.allowed(filters) == set(surface.NUMBERS) - {101}
            assert child.poll() is None, "it goes on"
        finally:
            child.kill()


def test_a_process_that_is_gone():
    with pytest.raises(surface.CannotRead, match="cannot be traced"):
        surface.filters_of(2**22 - 3)
