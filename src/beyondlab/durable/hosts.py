"""Processes that may die: a small host that forks one process a task, and tells how each of them ended.

Starting Python and importing an engine takes a second or more; doing it once and forking takes milliseconds, and the
forked process is as real and as mortal as any other (Android's zygote and the pre-fork servers work so). The host
itself has one thread, holds no state, and never runs a task.

A task is a function and its arguments, pickled with cloudpickle, which carries functions of a notebook by value. Its
result must be what JSON can hold.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beyondlab.kit import processes

_SIZE = struct.Struct("!I")


@dataclass(frozen=True)
class Ended:
    """How a task ended: ``value`` if it returned, ``signal`` (9 for SIGKILL) if it was killed. ``pid``: its process."""

    value: Any
    signal: int | None
    pid: int

    @property
    def killed(self) -> bool:
        return self.signal is not None


class TaskError(RuntimeError):
    """A task raised. The message is its traceback."""


class Host:
    """The host, in a ``with`` block. ``imports`` are modules that it imports once, for all its tasks."""

    def __init__(self, imports: Sequence[str] = (), *, timeout: float = 90.0) -> None:
        self._imports, self._timeout = tuple(imports), timeout
        self._process: processes.Process | None = None
        self.address: tuple[str, int] | None = None

    def __enter__(self) -> Host:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def start(self) -> Host:
        """Start, and wait until the modules are imported. Does nothing if it runs."""
        if self.running:
            return self
        argv = [sys.executable, "-m", "beyondlab.durable.hosts", *self._imports]
        self._process = processes.Process(argv, name="host of tasks", timeout=self._timeout, ready=self._listens)
        self._process.start()
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _listens(self, process: processes.Process) -> bool:
        for line in process.output(50).splitlines():
            if line.startswith("listening on "):
                self.address = ("127.0.0.1", int(line.split()[-1]))
                return True
        return False

    def run(self, function: Callable[..., Any], *args: Any, timeout: float = 150.0, **kwargs: Any) -> Ended:
        """Run ``function(*args, **kwargs)`` in a process of its own and wait for its end.

        Raises :class:`TaskError` if it raised, TimeoutError after ``timeout`` seconds (the process is then left to the
        host's end), RuntimeError if the host does not run.
        """
        import cloudpickle

        if not self.running:
            raise RuntimeError("the host of tasks does not run: use it in a with block")
        task = cloudpickle.dumps((function, args, kwargs))
        try:
            with socket.create_connection(self.address, timeout=timeout) as connection:
                connection.sendall(_SIZE.pack(len(task)) + task)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except TimeoutError:
            raise TimeoutError(f"waited {timeout:g} s for {getattr(function, '__name__', function)} to end") from None
        if not answer:
            raise RuntimeError(f"the host of tasks gave no answer. Its last lines:\n{self._process.output()}")
        ended = json.loads(answer)
        if "error" in ended:
            raise TaskError(ended["error"])
        return Ended(ended.get("value"), ended.get("signal"), ended["pid"])


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the other side hung up")
        data += part
    return data


def _supervise(connection: socket.socket) -> None:
    """In a process of its own: fork the one that does the task, wait for it, answer."""
    import cloudpickle

    task = _receive(connection, _SIZE.unpack(_receive(connection, _SIZE.size))[0])
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        connection.close()
        try:
            function, args, kwargs = cloudpickle.loads(task)
            said = {"value": function(*args, **kwargs)}
        except BaseException:
            said = {"error": traceback.format_exc()}
        with os.fdopen(writer, "w") as pipe:
            json.dump(said, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    answer = {"pid": pid, **(json.loads(said) if said else {})}
    if os.WIFSIGNALED(status):
        answer = {"pid": pid, "signal": os.WTERMSIG(status)}
    connection.sendall(json.dumps(answer).encode())
    connection.close()


def main(imports: Sequence[str]) -> None:
    """The host's program: import, listen on a port of loopback, fork for each connection."""
    import cloudpickle  # noqa: F401  imported once, for all

    for name in imports:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print("listening on", server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                status = 1
                try:
                    _supervise(connection)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
