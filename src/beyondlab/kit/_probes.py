"""Probes of the machine that may fail, hang or change the process they run in: each is run in a child.

Run by :mod:`beyondlab.kit.machine` as ``python -I -S _probes.py NAME``; prints one JSON object. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import sys
import time

CLONE_NEWUSER = 0x10000000

# The KVM interface: linux/kvm.h, Documentation/virt/kvm/api.rst of the Linux kernel.
KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
KVM_CREATE_VCPU, KVM_RUN = 0xAE41, 0xAE80
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS = 0x8090AE81, 0x4090AE82, 0x8138AE83, 0x4138AE84
EXIT_IO, EXIT_HLT = 2, 5

# mov dx,0x217; mov si,0x100f; next: lodsb; test al,al; jz end; out dx,al; jmp next; end: hlt; "hello\n"
HELLO = bytes.fromhex("ba1702 be0f10 ac 84c0 7403 ee ebf8 f4") + b"hello\n\0"
# mov ecx,200000; next: dec ecx; jnz next; hlt (16-bit mode, 32-bit operands)
LOOP = bytes.fromhex("66b9400d0300 6649 75fc f4")
LOOP_INSTRUCTIONS = 2 * 200_000 + 2
EMULATED_BELOW = 50e6
"""Instructions a second under which a machine's KVM is taken for an emulator: real ones reach more than 1e9."""


def kvm() -> dict[str, str | float]:
    """Run two guests of a few instructions each: one says hello, one loops 200,000 times against the clock."""
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        reasons = {
            errno.ENOENT: "there is no /dev/kvm",
            errno.EACCES: "this user may not open /dev/kvm",
            errno.EPERM: "this user may not open /dev/kvm",
        }
        return {"kvm": "none", "reason": reasons.get(error.errno, f"/dev/kvm does not open: {error.strerror}")}
    if os.uname().machine != "x86_64":
        return {"kvm": "none", "reason": "/dev/kvm opens, but the course's guests are for x86-64 processors"}
    try:
        import fcntl

        version = fcntl.ioctl(device, KVM_GET_API_VERSION, 0)
        if version != 12:
            return {"kvm": "none", "reason": f"/dev/kvm speaks version {version} of its interface, not 12"}
        said, _ = _run_guest(device, HELLO)
        if said != b"hello\n":
            return {"kvm": "none", "reason": f"a guest of 8 instructions said {said!r} instead of hello"}
        _, seconds = _run_guest(device, LOOP)
    except (OSError, RuntimeError) as error:
        return {"kvm": "none", "reason": f"/dev/kvm opens, but runs no guest: {error}"}
    rate = LOOP_INSTRUCTIONS / seconds
    kind = "emulated" if rate < EMULATED_BELOW else "real"
    return {"kvm": kind, "reason": f"a guest ran {rate / 1e6:,.3g} million instructions a second"}


def _run_guest(device: int, code: bytes) -> tuple[bytes, float]:
    """What a real-mode guest wrote to its port, and the seconds from its first instruction to its halt."""
    import fcntl
    import mmap

    vm = fcntl.ioctl(device, KVM_CREATE_VM, 0)
    memory = mmap.mmap(-1, 0x10000)
    memory[0x1000 : 0x1000 + len(code)] = code
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct.pack("IIQQQ", 0, 0, 0, len(memory), address))
    vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap.mmap(vcpu, fcntl.ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0))
    sregs = bytearray(312)
    fcntl.ioctl(vcpu, KVM_GET_SREGS, sregs)
    struct.pack_into("QIH", sregs, 0, 0, 0xFFFF, 0)  # code segment: base 0, limit, selector 0
    fcntl.ioctl(vcpu, KVM_SET_SREGS, sregs)
    regs = bytearray(144)
    struct.pack_into("QQ", regs, 128, 0x1000, 2)  # instruction pointer, flags
    fcntl.ioctl(vcpu, KVM_SET_REGS, regs)
    said = bytearray()
    begin = time.perf_counter()
    while True:
        fcntl.ioctl(vcpu, KVM_RUN, 0)
        (reason,) = struct.unpack_from("I", run, 8)
        if reason == EXIT_HLT:
            return bytes(said), time.perf_counter() - begin
        if reason != EXIT_IO:
            raise RuntimeError(f"the guest left for reason {reason}")
        _, size, _, count, offset = struct.unpack_from("BBHIQ", run, 32)
        said += run[offset : offset + size * count]


def user_namespaces() -> dict[str, str | bool]:
    """Really make a user namespace and become its root: settings of the kernel do not tell of a seccomp filter."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        unshare = libc.unshare
    except AttributeError:
        return {"user_namespaces": False, "reason": "this system has no namespaces"}
    if unshare(CLONE_NEWUSER):
        reason = os.strerror(ctypes.get_errno())
        return {"user_namespaces": False, "reason": f"the kernel refuses: {reason}"}
    try:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        return {"user_namespaces": False, "reason": f"a new one cannot be mapped: {error.strerror} on {name}"}
    if os.getuid() != 0:
        return {"user_namespaces": False, "reason": "a new one maps no user"}
    return {"user_namespaces": True, "reason": "one was made and mapped"}


def cgroup_writable(folder: str) -> dict[str, bool]:
    """Make a control group under ``folder`` and remove it."""
    trial = os.path.join(folder, f"beyondlab-probe-{os.getpid()}")
    try:
        os.mkdir(trial)
        os.rmdir(trial)
    except OSError:
        return {"writable": False}
    return {"writable": True}


if __name__ == "__main__":
    probes = {"kvm": kvm, "user-namespaces": user_namespaces, "cgroup": cgroup_writable}
    print(json.dumps(probes[sys.argv[1]](*sys.argv[2:])))
