"""The course's monitor: devices, snapshots, clones, uniqueness."""

import json

import pytest
from beyondlab.kit import machine
from beyondlab.microvms import guests, model
from beyondlab.microvms.rate_limiter import RateLimiter
from beyondlab.microvms.vmm import SnapshotError, Vm, clones, private_bytes

PROCESSORS = ["interpreter", *(["kvm"] if machine.look().kvm != "none" else [])]
both = pytest.mark.parametrize("processor", PROCESSORS)


def snapshot(folder, processor, code=guests.SERVICE, mib=4, **options):
    with Vm(mib, processor=processor, **options) as vm:
        vm.boot(code)
        vm.snapshot(folder / "state", folder / "memory")
    return folder / "state", folder / "memory"


@both
def test_hello(processor):
    with Vm(processor=processor) as vm:
        vm.load(guests.HELLO)
        assert vm.run().kind == "halt"
        assert vm.console == b"hello\n"
        assert vm.exits == 7


@both
def test_a_clone_answers_as_the_original_would_have(processor, tmp_path):
    with Vm(4, processor=processor, entropy=lambda: 7) as vm:
        vm.boot(guests.SERVICE)
        vm.snapshot(tmp_path / "s", tmp_path / "m")
        original = [vm.request(n) for n in (1, 20, 0)]
    with Vm.restore(tmp_path / "s", tmp_path / "m", processor=processor) as clone:
        assert [clone.request(n) for n in (1, 20, 0)] == original


@both
def test_a_clone_does_not_change_the_snapshot_nor_its_siblings(processor, tmp_path):
    files = snapshot(tmp_path, processor)
    before = files[1].read_bytes()
    with clones(2, *files, processor=processor) as (one, other):
        one.request(100)
        assert one.memory[:] != before
        assert other.memory[:] == before
    assert files[1].read_bytes() == before


@both
def test_a_clone_has_only_what_it_wrote_to_itself(processor, tmp_path):
    files = snapshot(tmp_path, processor, mib=16)
    with Vm.restore(*files, processor=processor) as clone, Vm.restore(*files, processor=processor, copy=True) as copied:
        assert clone.private_bytes() == 0
        clone.request(60)
        own = clone.private_bytes() // guests.PAGE - 1  # the seed's page
        assert abs(own - model.distinct_pages(60, guests.PAGES)) < 12
        assert copied.private_bytes() == 16 << 20


@both
def test_two_clones_draw_the_same_number_until_they_renew_their_seed(processor, tmp_path):
    files = snapshot(tmp_path, processor)
    with clones(3, *files, processor=processor) as made:
        assert len({vm.request() for vm in made}) == 1
    words = iter(range(5_000, 6_000))
    files = snapshot(tmp_path, processor, guests.RENEWING)
    with clones(3, *files, processor=processor, entropy=lambda: next(words)) as made:
        answers = [vm.request() for vm in made]
        assert len(set(answers)) == 3
        assert [vm.request() for vm in made] != answers
    assert next(words) == 5_003, "each clone drew one seed"


@both
def test_without_a_new_generation_the_repair_does_nothing(processor, tmp_path):
    files = snapshot(tmp_path, processor, guests.RENEWING)
    with clones(2, *files, processor=processor, new_generation=False) as made:
        assert len({vm.request() for vm in made}) == 1


@both
def test_the_drive_is_read_in_sectors_under_its_limiter(processor, tmp_path):
    content = bytes(range(256)) * 128
    (tmp_path / "disk").write_bytes(content)
    wanted = sum(int.from_bytes(content[i : i + 2], "little") for i in range(0, len(content), 2)) & 0xFFFF
    limiter = RateLimiter.from_document({"ops": {"size": 60, "refill_time": 60}})
    with Vm(processor=processor, drive=tmp_path / "disk", limiter=limiter) as vm:
        vm.load(guests.READER)
        assert vm.request() == wanted


def test_memory_of_mappings_is_read_by_address():
    with Vm(2, processor="interpreter") as vm:
        assert private_bytes([vm.memory]) == 0
        vm.memory[5 * 4096] = 1
        assert private_bytes([vm.memory]) == 4096


def test_no_snapshot(tmp_path):
    state, memory = snapshot(tmp_path, "interpreter")
    memory.write_bytes(b"short")
    with pytest.raises(SnapshotError, match=r"memory: must have 4,194,304 bytes"):
        Vm.restore(state, memory)
    good = json.loads(state.read_text())
    changed = [{"format": 1}, [], None, good | {"general": [0] * 7}, good | {"memory_mib": "4"}, good | {"ip": -1}, good | {"ip": 1.5}, good | {"flags": True}]
    for document in changed:
        state.write_text(json.dumps(document))
        with pytest.raises(SnapshotError, match=r"state: not a snapshot"):
            Vm.restore(state, memory)
    state.write_bytes(b"\xff\xfe")
    with pytest.raises(SnapshotError, match=r"state: not a snapshot"):
        Vm.restore(state, memory)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vm(0), "memory_mib=0"),
        (lambda: Vm(5000), "1 to 4,096"),
        (lambda: Vm(processor="arm"), "processor='arm'"),
        (lambda: Vm(processor="interpreter").load(bytes(70_000)), "must end under 0x10000"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_guest_that_never_answers(tmp_path):
    with Vm(processor="interpreter") as vm:
        vm.load(guests.WATCHER)
        with pytest.raises(TimeoutError, match="500 times"):
            vm.run(exits=500)
