"""Real programs in a ``with`` block: started, waited for, stopped, and never left behind.

Every program runs in a session of its own and carries a random token in its environment. It is stopped when the block
is left, on an exception, on an interrupt, when the interpreter ends, and, by a guard process (``_guard``), when
the interpreter is killed. Not caught: a program that empties its environment, makes its own session and detaches from
its parent, all three.

Linux is tested; macOS should work; Windows is not supported.
"""

from __future__ import annotations

import atexit
import math
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from beyondlab.kit import _guard, check

_TAIL_LINES = 12
_SCRATCH_PREFIX = "beyondlab-"


class NotReady(TimeoutError):
    """A process was not ready in time. ``output`` holds its last lines."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class ProcessExited(RuntimeError):
    """A process ended before it was ready. ``returncode`` is negative for a signal; ``output`` its last lines."""

    def __init__(self, message: str, returncode: int, output: str) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.output = output


class _Owner:
    """What this interpreter has to look after: its token, its guard, its scratch folder, its running processes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """A new identity: at the start, and in a forked child, which owns nothing of its parent."""
        self.pid = os.getpid()
        self.token = secrets.token_hex(8)
        self.scratch = Path(tempfile.gettempdir(), _SCRATCH_PREFIX + self.token)
        self.pipe: int | None = None
        self.count = 0
        self.running: weakref.WeakSet[Process] = weakref.WeakSet()

    def after_fork(self) -> None:
        if self.pipe is not None:
            os.close(self.pipe)
        self.lock = threading.Lock()
        self.reset()

    def next_token(self) -> str:
        """The token of one more process, the guard being awake."""
        with self.lock:
            self._wake()
            self.count += 1
            return f"{self.token}.{self.count}"

    def folder(self) -> Path:
        """The scratch folder, which the guard removes."""
        with self.lock:
            self._wake()
            self.scratch.mkdir(mode=0o700, exist_ok=True)
            return self.scratch

    def _wake(self) -> None:
        """Start the guard unless it lives. The lock is held."""
        if self.pipe is not None:
            poll = select.poll()
            poll.register(self.pipe, select.POLLERR)
            if not poll.poll(0):
                return
            os.close(self.pipe)
            self.pipe = None
        reader, writer = os.pipe()
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", _guard.__file__, self.token, str(self.scratch), str(self.pid),
                 str(Path(psutil.__file__).parents[1])],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={key: value for key, value in os.environ.items() if key != _guard.VARIABLE},
                cwd="/",
                start_new_session=True,
                check=True,
            )  # fmt: skip
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self.pipe = writer

    def leave(self) -> None:
        """Stop everything and let the guard go: the interpreter ends in good order."""
        for process in list(self.running):
            process.stop()
        _guard.remove_folders(_guard.remembered(str(self.scratch)))
        with self.lock:
            if self.pipe is None:
                return
            shutil.rmtree(self.scratch, ignore_errors=True)
            try:
                os.write(self.pipe, b"q")
            except OSError:
                pass
            os.close(self.pipe)
            self.pipe = None


_owner = _Owner()
atexit.register(_owner.leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_owner.after_fork)


def owner_token() -> str:
    """The token that every process started by this interpreter carries in ``BEYONDLAB_OWNER``."""
    return _owner.token


def carriers(token: str) -> list[int]:
    """Ids of the live processes that carry ``token`` (see :func:`owner_token`), and of their descendants."""
    return _guard.carriers(token)


class Process:
    """A real program. A context manager; or :meth:`start` and :meth:`stop` where lifetimes do not nest.

    ``argv`` is the program and its arguments; no shell is involved. ``env`` adds to the environment, a value of None
    removes. ``ready`` is asked again and again until it is true; an OSError in it counts as not ready. ``timeout``:
    seconds it may take to be ready. ``stop_timeout``: seconds between the polite SIGTERM and SIGKILL. What the program
    writes goes to a file without a name, see :meth:`output`; its standard input is empty.

    Raises ValueError for an empty ``argv`` or a time that is not positive.
    """

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        name: str | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        ready: Callable[[Process], Any] | None = None,
        timeout: float = 10.0,
        stop_timeout: float = 3.0,
    ) -> None:
        if isinstance(argv, (str, bytes)) or not argv:
            raise ValueError(f"argv={argv!r}: must be a list of the program and its arguments")
        check.positive("timeout", timeout, "seconds")
        check.non_negative("stop_timeout", stop_timeout, "seconds")
        self.argv = [os.fspath(part) for part in argv]
        self.name = name or Path(self.argv[0]).name
        self.started = math.nan
        """``time.perf_counter()`` just before the program was started."""
        self._env, self._cwd, self._ready = dict(env or {}), cwd, ready
        self._timeout, self._stop_timeout = timeout, stop_timeout
        self._lifecycle = threading.RLock()
        self._reaping = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._spool: int | None = None
        self._owner_pid = 0
        self._stopped = True
        self._returncode: int | None = None

    def __enter__(self) -> Process:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._popen is None:
            state = "not started"
        elif self.returncode is None:
            state = f"running, pid {self.pid}"
        else:
            state = _how_it_ended(self.returncode)
        return f"<Process {self.name}: {state}>"

    def start(self) -> Process:
        """Start the program and wait until it is ready. Does nothing if it runs.

        Raises :class:`NotReady` after ``timeout`` seconds, :class:`ProcessExited` if the program ends before it is
        ready, and OSError if it cannot be started. The program is stopped in each case.
        """
        try:
            with self._lifecycle:
                if self._stopped:
                    self._spawn()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _spawn(self) -> None:
        token = _owner.next_token()
        self._owner_pid = os.getpid()
        environment = dict(os.environ)
        for key, value in self._env.items():
            if value is None:
                environment.pop(key, None)
            else:
                environment[key] = value
        outer = os.environ.get(_guard.VARIABLE)
        environment[_guard.VARIABLE] = f"{outer}/{token}" if outer else token
        with tempfile.TemporaryFile() as spool:
            self.started = time.perf_counter()
            popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=spool,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self._cwd,
                start_new_session=True,
            )
            if self._spool is not None:
                self._close_spool()
            self._spool = os.dup(spool.fileno())
        self._close_spool = weakref.finalize(self, os.close, self._spool)
        self._token, self._popen, self._returncode, self._stopped = token, popen, None, False
        _owner.running.add(self)

    def _wait_until_ready(self) -> None:
        deadline = self.started + self._timeout
        last_error = ""
        while self._ready is not None:
            try:
                if self._ready(self):
                    return
            except OSError as error:
                last_error = f" (last: {error})"
            if self.returncode is not None:
                output = self.output(_TAIL_LINES)
                message = f"{self.name} ended before it was ready: {_how_it_ended(self.returncode)}"
                raise ProcessExited(f"{message}. {_last_words(output)}", self.returncode, output)
            if time.perf_counter() > deadline:
                output = self.output(_TAIL_LINES)
                message = f"waited {self._timeout:g} s for {self.name} to be ready{last_error}"
                raise NotReady(f"{message}. {_last_words(output)}", output)
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """Process id. Raises RuntimeError before the start."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, the negative number of the signal that ended it, or None while it runs."""
        with self._reaping:
            if self._returncode is None and self._popen is not None:
                self._returncode = self._look()
            return self._returncode

    def _look(self) -> int | None:
        """The exit status without collecting the process: its id stays its own until :meth:`stop`."""
        if hasattr(os, "waitid"):
            try:
                seen = os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return self._popen.poll()
            if seen is None:
                return None
            return seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the program to end by itself; its return code. Raises TimeoutError after ``timeout`` seconds."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        handle = self._handle()
        try:
            while (status := self.returncode) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {timeout:g} s for {self.name} to end")
                if handle is None:
                    time.sleep(min(left, 0.01))
                else:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(None if math.isinf(left) else math.ceil(left * 1000))
        finally:
            if handle is not None:
                os.close(handle)
        return status

    def _handle(self) -> int | None:
        """A descriptor that becomes readable when the process ends, where the system has such a thing."""
        pid = self.pid
        if self.returncode is None and hasattr(os, "pidfd_open"):
            try:
                return os.pidfd_open(pid)
            except OSError:
                return None
        return None

    def output(self, lines: int = 20) -> str:
        """The last ``lines`` lines of what the program has written so far, standard error included."""
        if self._spool is None:
            return ""
        size = os.fstat(self._spool).st_size
        kept, chunk = b"", 65536
        while size > 0 and kept.count(b"\n") <= lines:
            begin = max(0, size - chunk)
            kept = os.pread(self._spool, size - begin, begin) + kept
            size = begin
        return "\n".join(kept.decode(errors="replace").splitlines()[-lines:]) if lines > 0 else ""

    def memory(self) -> int:
        """Resident bytes of the process and its descendants (shared pages count in each); 0 when it has ended."""
        total = 0
        for process in self._family():
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def _family(self) -> list[psutil.Process]:
        try:
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)] if self.returncode is None else []
        except psutil.Error:
            return []

    def stop(self) -> None:
        """End the program and everything it started. May be called at any time, from any thread, twice.

        SIGTERM to its process group, ``stop_timeout`` seconds of grace, SIGKILL to the group, then to each descendant
        and to each process that carries its token, whatever session it moved to.
        """
        with self._lifecycle:
            if self._stopped or os.getpid() != self._owner_pid:
                return
            family = self._family()
            try:
                if self.returncode is None:
                    self._signal_group(signal.SIGTERM)
                    self.wait(self._stop_timeout)
            except TimeoutError:
                pass
            finally:
                self._kill(family)
                self._stopped = True
                _owner.running.discard(self)

    def _kill(self, family: list[psutil.Process]) -> None:
        self._signal_group(signal.SIGKILL)
        for process in family[1:]:
            try:
                process.kill()
            except psutil.Error:
                continue
        _guard.sweep(self._token)
        with self._reaping:
            status = self._popen.wait()
            self._returncode = status if self._returncode is None else self._returncode

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"


def _last_words(output: str) -> str:
    return f"Its last lines:\n{output}" if output else "It wrote nothing."


def wait_until(probe: Callable[[], Any], *, timeout: float, what: str, interval: float = 0.005) -> Any:
    """Ask ``probe`` every ``interval`` seconds until it answers something true, and return that.

    An OSError in the probe, such as a refused connection, counts as "not yet". Raises TimeoutError, naming ``what``
    was waited for, after ``timeout`` seconds.
    """
    check.positive("timeout", timeout, "seconds")
    check.non_negative("interval", interval, "seconds")
    deadline = time.monotonic() + timeout
    last_error = ""
    while True:
        try:
            if answer := probe():
                return answer
        except OSError as error:
            last_error = f" (last: {error})"
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}{last_error}")
        time.sleep(interval)


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago.

    Another program may take it before yours does: where a program can bind port 0 and tell its port, let it.
    """
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def remember_folder(folder: Path) -> None:
    """Have the empty ``folder``, such as a control group, removed by the guard if this interpreter is killed.

    Call it before the folder is made; :func:`remove_folders` removes it when its work is done.
    """
    with (_owner.folder() / _guard.FOLDERS).open("a") as notes:
        notes.write(f"{folder}\n")


def remove_folders(folders: Sequence[Path]) -> None:
    """Remove empty folders, waiting up to 2 s for one that is busy. Raises OSError if one stays."""
    left = _guard.remove_folders([str(folder) for folder in folders])
    if left:
        raise OSError(f"{left[0]} cannot be removed: something in it is still running")


@contextmanager
def scratch(prefix: str = "lab-") -> Iterator[Path]:
    """A temporary folder, removed with all it holds on leaving, on an error, and when this interpreter is killed."""
    folder = tempfile.mkdtemp(prefix=prefix, dir=_owner.folder())
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
