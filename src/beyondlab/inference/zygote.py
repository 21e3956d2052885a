"""Snapshot after init, portable: a process that loads everything once and forks for each environment.

Android calls the first process a zygote. ``fork`` copies the page table, not the pages: the child has the whole
initialised process at once and pays for a page only when it writes to it (copy-on-write).

What it is: a snapshot of one process after init, restored in milliseconds, memory shared. What it is not: a snapshot
on disk. It cannot move to another machine, it lives only as long as its parent, threads do not survive the fork (one
that was still loading never finishes in the child), and all children share the parent's identity and kernel. SnapStart
and Firecracker's snapshots store the memory of a whole microVM instead (see the chapter on microVMs).

``python -m beyondlab.inference.zygote app.py``: loads the module, listens on a loopback port, forks for each line
that it gets (a JSON request) and answers with one line.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import socket
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beyondlab.kit import processes

_READY = re.compile(r"listening on port (\d+)")


@dataclass(frozen=True)
class Clone:
    """One forked environment and its first answer."""

    value: Any
    seconds: float
    """From the caller's request to its answer, fork included."""
    private: int
    """Bytes that belong to this child alone when it has answered."""
    shared: int
    """Resident bytes that it shares with its parent or with others."""


class Zygote:
    """A fork server for ``source``, the text of an ``app.py`` (see :mod:`beyondlab.inference.serving`)."""

    def __init__(self, source: str, *, timeout: float = 60.0) -> None:
        self._source, self._timeout = source, timeout

    def __enter__(self) -> Zygote:
        with ExitStack() as stack:
            root = Path(stack.enter_context(processes.scratch("zygote-")))
            (root / "app.py").write_text(self._source)
            argv = [sys.executable, "-m", "beyondlab.inference.zygote", "app.py"]
            env = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            env["BORN"] = repr(time.perf_counter())
            self.process = processes.Process(
                argv, name="zygote", env=env, cwd=root, ready=self._port, timeout=self._timeout, stop_timeout=0.5
            )
            stack.enter_context(self.process)
            self.port = int(self._port(self.process) or 0)
            self.init = time.perf_counter() - self.process.started
            """Seconds from starting the process until it could fork: paid once."""
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _port(process: processes.Process) -> str | None:
        found = _READY.search(process.output())
        return found and found[1]

    def clone(self, x: Any) -> Clone:
        """Fork one environment, let it answer, and let it go. Raises RuntimeError if it fails."""
        begin = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), self._timeout) as connection:
            connection.sendall(json.dumps({"x": x}).encode() + b"\n")
            line = connection.makefile("rb").readline()
        seconds = time.perf_counter() - begin
        document = json.loads(line or b"{}")
        if "answer" not in document:
            raise RuntimeError(f"the clone answered {document!r}; the zygote's last lines:\n{self.process.output()}")
        return Clone(document["answer"], seconds, document["private"], document["shared"])


def memory() -> tuple[int, int]:
    """Private and shared resident bytes of this process, from ``smaps_rollup``; zeros where there is none."""
    found = {"Private": 0, "Shared": 0}
    try:
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            kind = line.split("_")[0]
            if kind in found:
                found[kind] += int(line.split()[1]) * 1024
    except OSError:
        pass
    return found["Private"], found["Shared"]


def _child(connection: socket.socket, answer: Any) -> None:
    request = json.loads(connection.makefile("rb").readline())
    value = answer(request["x"])["answer"]
    private, shared = memory()
    connection.sendall(json.dumps({"answer": value, "private": private, "shared": shared}).encode() + b"\n")


def _serve(file: str) -> None:
    answer = runpy.run_path(file)["_answer"]
    server = socket.create_server(("127.0.0.1", 0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are collected by the kernel
    print("listening on port", server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            try:
                _child(connection, answer)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        connection.close()


if __name__ == "__main__":
    _serve(sys.argv[1])
