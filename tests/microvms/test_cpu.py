"""The course's CPU against known results, and against KVM where there is one."""

import pytest
from beyondlab.kit import machine
from beyondlab.microvms import guests
from beyondlab.microvms.cpu import AX, BX, CX, DI, DX, SI, BadInstruction, Cpu
from beyondlab.microvms.vmm import Vm
from hypothesis import given, settings
from hypothesis import strategies as st

needs_kvm = pytest.mark.skipif(machine.look().kvm == "none", reason="there is no KVM here")


def cpu(code: str, **registers: int) -> Cpu:
    made = Cpu(bytearray(1 << 20))
    program = bytes.fromhex(code) + b"\xf4"
    made.memory[0x1000 : 0x1000 + len(program)] = program
    made.set_registers([0, 0, 0, 0, 0x1000, 0, 0, 0], [0] * 4, 0x1000, 2)
    for name, value in registers.items():
        made.general[{"ax": AX, "bx": BX, "cx": CX, "dx": DX, "si": SI, "di": DI}[name]] = value
    return made


@pytest.mark.parametrize(
    ("code", "registers", "wanted"),
    [
        ("b83412", {}, 0x1234),
        ("b034", {"ax": 0xFF00}, 0xFF34),
        ("b434", {}, 0x3400),
        ("01d8", {"ax": 0xFFFF, "bx": 2}, 1),
        ("29d8", {"ax": 1, "bx": 2}, 0xFFFF),
        ("31c0", {"ax": 7}, 0),
        ("6bc003", {"ax": 5}, 15),
        ("69c0ffff", {"ax": 5}, 0xFFFB),
        ("83c0ff", {"ax": 5}, 4),
        ("0501ff", {"ax": 0x00FF}, 0),
        ("48", {}, 0xFFFF),
        ("a10010", {}, 0x00A1),
        ("ac", {"si": 0x1000}, 0x00AC),
        ("5058", {"ax": 77}, 77),
        ("e2fe89c8", {"cx": 9, "ax": 3}, 0),
        ("e30289d8", {"ax": 5, "bx": 9}, 5),
    ],
)
def test_instructions(code, registers, wanted):
    made = cpu(code, **registers)
    assert made.run(100).kind == "halt"
    assert made.general[AX] == wanted


@pytest.mark.parametrize(
    ("jump", "a", "b", "taken"),
    [
        ("74", 5, 5, True), ("75", 5, 5, False), ("72", 1, 2, True), ("73", 1, 2, False), ("77", 2, 1, True),
        ("7c", 0xFFFF, 1, True), ("7f", 1, 0xFFFF, True), ("7d", 0x7FFF, 0x8000, True), ("78", 1, 2, True), ("70", 0x7FFF, 0xFFFF, True),
    ],
)  # fmt: skip
def test_jumps_after_a_comparison(jump, a, b, taken):
    made = cpu(f"39d8 {jump}03 b90100", ax=a, bx=b)
    made.run(100)
    assert (made.general[CX] == 0) is taken


def test_repeated_store_fills_memory():
    made = cpu("f3ab", ax=0xBEEF, cx=3, di=0x500)
    made.run(10)
    assert made.memory[0x500:0x508] == bytes.fromhex("efbeefbeefbe0000")
    assert made.general[CX] == 0 and made.general[DI] == 0x506


def test_ports_leave_and_are_answered():
    made = cpu("e524 e722")
    left = made.run(10)
    assert (left.kind, left.port, left.size) == ("in", 0x24, 2)
    made.answer(0x12345)
    assert made.run(10)[:4] == ("out", 0x22, 2, 0x2345)


def test_a_limit_ends_an_endless_loop():
    made = cpu("ebfe")
    assert made.run(1_000).kind == "limit"
    assert made.executed == 1_000


def test_what_it_does_not_have_it_names():
    with pytest.raises(BadInstruction, match="byte 0x0f at 0x0:0x1000"):
        cpu("0fa2").run(1)


def test_too_little_memory():
    with pytest.raises(ValueError, match="1,048,576"):
        Cpu(bytearray(100))


SAFE = ["40", "4b", "01d8", "29c3", "31d0", "21d9", "09c2", "39d8", "85c0", "89c6", "6bdb07", "69d25562", "0534f2",
        "83e97f", "80c4c1", "00e0", "28d8", "11c3", "19c2", "50", "59", "a3000f", "8b1e000f", "26891d", "740289c6", "780201d8", "e3024b90"]  # fmt: skip


@needs_kvm
@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SAFE), min_size=1, max_size=30), st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4))
def test_random_programs_end_as_on_kvm(program, values):
    code = b"".join(bytes([0xB8 + n]) + value.to_bytes(2, "little") for n, value in enumerate(values))
    code += bytes.fromhex("".join(program)) + b"\x90\x90\x90\xf4"
    ends = []
    for processor in ("kvm", "interpreter"):
        with Vm(1, processor=processor) as vm:
            vm.load(code)
            vm.run(exits=100)
            general, segments, ip, flags = vm._cpu.registers()
            ends.append((general, segments, ip, flags & 0x8C1, bytes(vm.memory[0xF00:0x1000]), bytes(vm.memory[:0x100])))
    assert ends[0] == ends[1]


@needs_kvm
def test_a_snapshot_of_one_processor_goes_on_on_the_other(tmp_path):
    answers = {}
    for made_on in ("kvm", "interpreter"):
        with Vm(1, processor=made_on, entropy=lambda: 1234) as vm:
            vm.boot(guests.SERVICE)
            vm.snapshot(tmp_path / "state", tmp_path / "memory")
        for runs_on in ("kvm", "interpreter"):
            with Vm.restore(tmp_path / "state", tmp_path / "memory", processor=runs_on) as vm:
                answers[made_on, runs_on] = [vm.request(n) for n in (0, 3, 50)]
    assert len(set(map(tuple, answers.values()))) == 1
