"""The probe, the initrd, the kernel's unpacking, and a real boot."""

import gzip
import os
import struct
import subprocess
import time

import pytest
from beyondlab.kit import machine
from beyondlab.microvms import linux

x86 = pytest.mark.skipif(machine.look().architecture != "x86_64", reason="the probe is for x86-64 processors")


def unable(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@x86
def test_the_probe_runs_and_calls(tmp_path):
    probe = linux.write_probe(tmp_path)
    done = subprocess.run([probe, "1000", "r"], capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (0, b"ready\ndone\n"), "mode r does nothing unless it is process 1"
    begin = time.perf_counter()
    subprocess.run([probe, "2000000"], timeout=20, check=True, capture_output=True)
    many = time.perf_counter() - begin
    begin = time.perf_counter()
    subprocess.run([probe], timeout=20, check=True, capture_output=True)
    assert many > 5 * (time.perf_counter() - begin)


def test_the_archive_holds_what_a_kernel_wants(tmp_path):
    archive = linux.initrd(b"#!init")
    names, place = [], 0
    while place < len(archive):
        assert archive[place : place + 6] == b"070701"
        fields = [int(archive[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = archive[place + 110 : place + 110 + length - 1].decode()
        begin = (place + 110 + length + 3) // 4 * 4
        names.append((name, fields[1], archive[begin : begin + size]))
        place = (begin + size + 3) // 4 * 4
    assert names == [("dev", 0o040755, b""), ("dev/console", 0o020600, b""), ("init", 0o100755, b"#!init"), ("TRAILER!!!", 0, b"")]


def image(payload, size):
    head = bytearray(0x800)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 1024, len(payload) + 4)
    return bytes(head) + payload + struct.pack("<I", size)


def test_a_kernel_is_unpacked():
    kernel = b"\x7fELF" + bytes(range(256)) * 20
    packed = gzip.compress(kernel)[:-4]
    assert linux.unpack(image(packed, len(kernel))) == kernel


def test_what_cannot_be_unpacked():
    with pytest.raises(linux.CannotUnpack, match="begins with 28b52ffd"):
        linux.unpack(image(b"\x28\xb5\x2f\xfd" + bytes(40), 10))
    with pytest.raises(linux.CannotUnpack, match="not the ELF file"):
        linux.unpack(image(gzip.compress(b"not a kernel")[:-4], 12))
    with pytest.raises(ValueError, match="HdrS"):
        linux.unpack(bytes(1000))


def test_this_machines_kernel_is_unpacked():
    path = linux.kernel_image()
    if path is None:
        unable("there is no kernel under /boot: apt-get install linux-image-cloud-amd64")
    assert linux.kernel_release(path) in path.name
    assert linux.unpack(path.read_bytes())[:4] == b"\x7fELF"


def test_linux_boots_to_user_space():
    if reason := linux.missing():
        unable(reason)
    with linux.Kernels() as kernels:
        boot = kernels.boot(calls=1_000, look=lambda pid: os.path.exists(f"/proc/{pid}"))
        folder = kernels.kernel.parent
    assert list(boot.marks) == list(linux.MARKS)
    assert sorted(boot.marks.values()) == list(boot.marks.values())
    assert sum(boot.phases().values()) == pytest.approx(boot.marks["system calls"])
    assert "Linux version" in boot.log and boot.seen is True
    assert boot.private > boot.overhead > 0
    assert not folder.exists() or not kernels.unpacked
