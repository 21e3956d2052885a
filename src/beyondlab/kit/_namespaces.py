"""Starts a command in fresh namespaces: run by :mod:`.namespaces` as ``python -I -S _namespaces.py SPECIFICATION``.

SPECIFICATION is a JSON object: ``argv``, ``namespaces`` (names of :data:`FLAGS`), ``root`` (folder or null),
``hostname``, ``doors`` (cgroup.procs files to enter by), ``count``. With ``count`` it starts the command so many times
and prints the seconds that each start took until the command had ended, as JSON. Otherwise it runs the command once
and ends with its status (128 + number for a signal). 125 says that the namespaces could not be made, 127 that there is
no such command.

Three processes: this one; one that unshares; its child, process 1 of the new PID namespace, which becomes the command.
Each dies with its parent. Standard library only; unshare(2), mount(2), pivot_root(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time

FLAGS = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
"""Namespace -> CLONE_NEW… flag of linux/sched.h."""

CANNOT, NOT_FOUND = 125, 127
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
DEVICES = ("null", "zero", "full", "random", "urandom")

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A function of libc that returns 0 when it worked. Raises OSError."""
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def die_with_parent() -> None:
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def unshare(names: list[str]) -> None:
    """Enter new namespaces; in a new user namespace, as its root, which is this user outside."""
    uid, gid = os.getuid(), os.getgid()
    call("unshare", sum(FLAGS[name] for name in names))
    if "user" in names:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            write(f"/proc/self/{name}", text)


def loopback_up() -> None:
    import fcntl
    import socket
    import struct

    with socket.socket() as probe:
        flags = struct.unpack_from("16xh", fcntl.ioctl(probe, SIOCGIFFLAGS, struct.pack("16s16x", b"lo")))[0]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def enter(root: str) -> None:
    """Make ``root`` the root file system, with /proc, a few devices and a /tmp of its own; put the old one out of reach."""
    mount(root, root, None, MS_BIND | MS_REC)
    os.chdir(root)
    for name in ("proc", "dev", "tmp"):
        os.makedirs(name, exist_ok=True)
    mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k")
    for name in DEVICES:
        os.close(os.open(f"dev/{name}", os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/dev/{name}", f"dev/{name}", None, MS_BIND)
    call("syscall", SYS_PIVOT_ROOT[os.uname().machine], b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}


def become(specification: dict) -> int:
    """In process 1: prepare, and be replaced by the command; 127 if there is no such command."""
    die_with_parent()
    names, root = specification["namespaces"], specification["root"]
    if "uts" in names:
        name = specification["hostname"].encode()
        call("sethostname", name, len(name))
    if "net" in names:
        loopback_up()
    if "mount" in names:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        if root:
            enter(root)
        elif "pid" in names:
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
    environment |= {key: value for key, value in os.environ.items() if key == "BEYONDLAB_OWNER"}
    try:
        os.execvpe(specification["argv"][0], specification["argv"], environment)
    except OSError as error:
        print(f"{specification['argv'][0]}: {error.strerror}", file=sys.stderr, flush=True)
        return NOT_FOUND


def status_of(pid: int) -> int:
    """Wait for a child; its exit status, or 128 + number of the signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def child(function, *arguments: object) -> int:
    """Fork; the child runs ``function`` and ends with what it returns. Its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = CANNOT
    try:
        status = function(*arguments)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"namespaces: {what}{error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def between(specification: dict) -> int:
    """The process that enters the control groups and the namespaces. A PID namespace holds its children, not itself."""
    for door in specification["doors"]:
        write(door, "0")
    if specification["namespaces"]:
        unshare(specification["namespaces"])
    die_with_parent()
    return status_of(child(become, specification))


def start(specification: dict) -> int:
    if specification["namespaces"]:
        return status_of(child(between, specification))
    return status_of(child(plain, specification))


def plain(specification: dict) -> int:
    """No namespaces: fork, enter the control groups, exec."""
    for door in specification["doors"]:
        write(door, "0")
    return become(specification)


def main(text: str) -> int:
    specification = json.loads(text)
    if not specification["count"]:
        return start(specification)
    seconds = []
    for _ in range(specification["count"]):
        begin = time.perf_counter()
        status = start(specification)
        seconds.append(time.perf_counter() - begin)
        if status:
            return status
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
