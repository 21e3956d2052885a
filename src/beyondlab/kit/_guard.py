"""The guard: a small process that outlives its owner and ends what the owner left behind.

Run by :mod:`beyondlab.kit.processes` as ``python -I -S _guard.py TOKEN SCRATCH OWNER [PATH]``, one for each owner (a
notebook's kernel). Its standard input is a pipe from the owner. When the pipe closes, or the owner's process ends, it
kills every process that carries the owner's token in its environment, removes the control groups that were noted and
the scratch folder, and exits.

It does not rely on PR_SET_PDEATHSIG, which fires when the *thread* that started a child ends, not the process.

Only the standard library, and little of it, so that it starts in some 15 ms. Without a Linux-like /proc it takes psutil
from PATH.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

VARIABLE = "BEYONDLAB_OWNER"
"""Environment variable of every process of a lab: ``owner.number``, or several of them joined by ``/`` where a lab's
process keeps a lab itself."""

SWEEP_LIMIT = 4.0
"""Seconds after which the guard gives up killing."""

FOLDERS = "folders"
"""File in the scratch folder: one a line, the empty folders (control groups) that are to be removed at the end."""

LINGER = 0.3
"""Seconds the guard keeps looking after a kill of its owner, for a child caught between fork and exec."""


def carries(value: str, token: str) -> bool:
    """Whether the variable's ``value`` names ``token``: an owner, or one process of it (``owner.number``)."""
    return any(part == token or part.partition(".")[0] == token for part in value.split("/"))


def carriers(token: str) -> list[int]:
    """Process ids of all live processes that carry ``token`` and can be read by this user, descendants included."""
    found = _from_proc(token) if os.path.exists("/proc/self/environ") else _from_psutil(token)
    return [pid for pid in found if pid != os.getpid()]


def _from_proc(token: str) -> list[int]:
    needle = f"{VARIABLE}=".encode()
    found, parents = set(), {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state in (b"Z", b"X"):
                continue
            parents[pid] = int(parent)
            with open(f"/proc/{name}/environ", "rb") as file:
                environ = file.read()
        except OSError:
            continue
        for entry in environ.split(b"\0"):
            if entry.startswith(needle) and carries(entry[len(needle) :].decode(errors="replace"), token):
                found.add(pid)
    grown = True
    while grown:  # a child may have emptied its environment
        children = {pid for pid, parent in parents.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return sorted(found)


def _from_psutil(token: str) -> list[int]:
    import psutil

    found: set[int] = set()
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and carries(process.environ().get(VARIABLE, ""), token):
                found |= {process.pid, *(child.pid for child in process.children(recursive=True))}
        except (psutil.Error, OSError):
            continue
    return sorted(found)


def sweep(token: str, *, limit: float = SWEEP_LIMIT, linger: float = 0.0) -> list[int]:
    """SIGKILL every carrier of ``token`` until none is found for ``linger`` seconds; those left after ``limit``."""
    begin = time.monotonic()
    quiet_since = None
    while True:
        left = carriers(token)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        now = time.monotonic()
        quiet_since = None if left else quiet_since or now
        if quiet_since is not None and now - quiet_since >= linger:
            return []
        if now - begin >= limit:
            return left
        time.sleep(0.02)


def remembered(scratch: str) -> list[str]:
    """The folders noted in the scratch folder."""
    try:
        with open(os.path.join(scratch, FOLDERS)) as notes:
            return notes.read().splitlines()
    except OSError:
        return []


def remove_folders(folders: list[str], *, limit: float = 2.0) -> list[str]:
    """Remove empty folders, the last first; those that are still there after ``limit`` seconds."""
    begin = time.monotonic()
    left = folders
    while True:
        for folder in reversed(left):
            try:
                os.rmdir(folder)
            except OSError:
                pass
        left = [folder for folder in left if os.path.isdir(folder)]
        if not left or time.monotonic() - begin >= limit:
            return left
        time.sleep(0.005)


def _wait_for_end(owner: int) -> bool:
    """Block until the owner closes the pipe or ends. Whether it said that it leaves in good order."""
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    try:
        poll.register(os.pidfd_open(owner), select.POLLIN)
    except (AttributeError, OSError):
        pass  # not Linux, or gone already: the pipe says it
    poll.poll()
    if any(fd == 0 for fd, _ in poll.poll(0)):
        return os.read(0, 1) != b""
    return False


def main(token: str, scratch: str, owner: str, *path: str) -> None:
    """The guard's life. It leaves the owner's process tree and terminal first."""
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.path.extend(path)
    in_order = _wait_for_end(int(owner))
    sweep(token, linger=0.0 if in_order else LINGER)
    remove_folders(remembered(scratch))
    if os.path.isdir(scratch):
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
