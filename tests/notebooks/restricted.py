"""Run a command as a learner's machine would: an ordinary user, no KVM, no user namespaces, no network.

    python restricted.py [--copy FOLDER] -- COMMAND...

The command gets uid and gid 1000 without other groups, no_new_privs, an unreadable /dev/kvm, a user namespace in which
no further one can be made, a network of its own with loopback only, and a new, empty /tmp with its HOME in it. With
``--copy`` it runs in a copy of FOLDER, else in HOME. The interpreter (sys.prefix, sys.base_prefix) and the repository
are reachable even where they lie under folders that are closed to others, by mounts that only the command sees: the
file system itself is not changed. It all runs in a PID namespace of its own and ends with it.

Started by root it drops to uid 1000; started by anyone else it uses a user namespace that maps their one uid. Where
neither is possible it says why and exits with status 77.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
import sys
from pathlib import Path

UID = 1000
SKIP = 77
REPOSITORY = Path(__file__).resolve().parents[2]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

libc = ctypes.CDLL(None, use_errno=True)


class CannotRestrict(Exception):
    """This machine does not allow the restriction; the message says why."""


def call(what: str, name: str, *arguments: object) -> None:
    """A function of libc that returns 0 when it worked."""
    if getattr(libc, name)(*arguments):
        raise CannotRestrict(f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags: int, what: str) -> None:
    call(f"no new {what}", "unshare", flags)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    call(f"{kind or 'bind'} on {target}", "mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def bind(source: str, target: str) -> None:
    mount(source, target, "", MS_BIND | MS_REC)


def die_with_parent() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def is_open(folder: Path) -> bool:
    """Whether anyone may look into ``folder`` and pass through it."""
    return stat.S_IMODE(folder.stat().st_mode) & 0o5 == 0o5


class Reachable:
    """Paths that the command needs, held open before /tmp and closed folders are covered."""

    def __init__(self, paths: list[Path]) -> None:
        self.handles: dict[Path, int] = {}
        self.closed: set[Path] = set()
        for path in sorted({path.resolve() for path in paths}):
            self.closed |= {parent for parent in path.parents if not is_open(parent)}
            if is_open(path):
                self._hold(path)
            else:
                self.closed.add(path)
                for entry in path.iterdir():
                    self._hold(entry)

    def _hold(self, path: Path) -> None:
        self.handles[path] = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

    def uncover(self) -> None:
        """Cover what is closed with empty, open folders, and bind what is needed back into them."""
        for folder in sorted(self.closed):
            if folder.is_dir() and not is_open(folder):
                mount("tmpfs", str(folder), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
        for path, handle in self.handles.items():
            if os.path.lexists(path):
                continue
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            held = f"/proc/self/fd/{handle}"
            mode = os.fstat(handle).st_mode
            if stat.S_ISLNK(mode):
                path.symlink_to(os.readlink("", dir_fd=handle))
                continue
            path.mkdir() if stat.S_ISDIR(mode) else path.touch()
            bind(held, str(path))


def loopback_up() -> None:
    with socket.socket() as probe:
        flags = struct.unpack_from("16xh", fcntl.ioctl(probe, SIOCGIFFLAGS, struct.pack("16s16x", b"lo")))[0]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise CannotRestrict(f"{path}: {error.strerror}") from error


def prepare(copy: Path | None) -> Path:
    """Mounts and network, with all privileges in them; the folder to run in."""
    unshare(CLONE_NEWNS, "mount namespace")
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    needed = Reachable([Path(sys.prefix), Path(sys.base_prefix), REPOSITORY])
    original = os.open(copy, os.O_RDONLY | os.O_DIRECTORY) if copy else None
    for folder in ("/tmp", "/dev/shm"):
        if os.path.isdir(folder):
            mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    home, work, nothing = Path("/tmp/home"), Path("/tmp/work"), Path("/tmp/nothing")
    home.mkdir(mode=0o700)
    if original is not None:
        shutil.copytree(f"/proc/self/fd/{original}", work, symlinks=True)
        os.close(original)
    if os.geteuid() == 0:
        for path in (home, *([work, *work.rglob("*")] if copy else [])):
            os.chown(path, UID, UID, follow_symlinks=False)
    if os.path.exists("/dev/kvm"):
        nothing.touch(mode=0)
        bind(str(nothing), "/dev/kvm")
    needed.uncover()
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    loopback_up()
    os.environ.update(HOME=str(home), USER="learner", LOGNAME="learner", PYTHONDONTWRITEBYTECODE="1")
    for name in [name for name in os.environ if name in ("TMPDIR", "TEMP", "TMP") or name.startswith("XDG_")]:
        del os.environ[name]
    return work if copy else home


def first_process(copy: Path | None, command: list[str], mapped: int, ask: int, root: bool) -> int:
    """Process 1 of the PID namespace: prepares, runs the command, and gives its status."""
    folder = prepare(copy)
    if root:
        unshare(CLONE_NEWUSER, "user namespace")
        os.write(ask, b"x")
        os.read(mapped, 1)
    die_with_parent()
    write("/proc/sys/user/max_user_namespaces", "0")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            if root:
                os.setgroups([])
                os.setresgid(UID, UID, UID)
                os.setresuid(UID, UID, UID)
            call("no_new_privs", "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            os.chdir(folder)
            os.execvp(command[0], command)
        except (OSError, CannotRestrict) as error:
            print(f"restricted: {command[0]}: {error}", file=sys.stderr)
        finally:
            os._exit(127)
    while True:
        pid, status = os.wait()  # orphans too
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def guarded(function, *arguments: object) -> None:
    """End this process with what ``function`` returns, or with the status for "cannot"."""
    status = 1
    try:
        status = function(*arguments)
    except (CannotRestrict, OSError) as error:
        print(f"restricted: this machine does not allow it: {error}", file=sys.stderr)
        status = SKIP
    finally:
        sys.stderr.flush()
        os._exit(status)


def second_process(copy: Path | None, command: list[str]) -> int:
    """Stays outside of the PID namespace, to map the ids of the one inside."""
    die_with_parent()
    root = os.geteuid() == 0
    if root:
        unshare(CLONE_NEWPID | CLONE_NEWNET, "PID and network namespace")
    else:
        uid, gid = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET, "user namespace")
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{UID} {uid} 1")
        write("/proc/self/gid_map", f"{UID} {gid} 1")
    asked, ask = os.pipe()
    mapped, map_done = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(asked)
        os.close(map_done)
        guarded(first_process, copy, command, mapped, ask, root)
    os.close(ask)
    os.close(mapped)
    if os.read(asked, 1):
        for name in ("uid_map", "gid_map"):
            write(f"/proc/{child}/{name}", "0 0 65536")
        os.write(map_done, b"x")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def main(arguments: list[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, command = arguments[:split], arguments[split + 1 :]
    if not command or options and (len(options) != 2 or options[0] != "--copy"):
        print("usage: restricted.py [--copy FOLDER] -- COMMAND...", file=sys.stderr)
        return 2
    if sys.platform != "linux":
        print("restricted: this machine does not allow it: namespaces are part of Linux", file=sys.stderr)
        return SKIP
    copy = Path(options[1]).resolve() if options else None
    child = os.fork()
    if child == 0:
        guarded(second_process, copy, command)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
