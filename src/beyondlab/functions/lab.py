"""The lab of "AWS Lambda and its cold starts": AWS's own runtime client, kept by a small front end.

Each execution environment is one real process that runs ``python -m awslambdaric``, against a
:class:`beyondlab.kit.runtime_api.RuntimeApi` of its own. :class:`FunctionHost` does the work of the service around
them: one request an environment, a new environment when none is free, idle ones stopped after ``keep_alive``
seconds, error documents as Lambda writes them.

What it does not do: isolate (see the chapter on microVMs), limit memory, or copy memory for SnapStart. The wording of
the error documents follows rapid, the program inside every Lambda environment, as published in the repository
aws/aws-lambda-runtime-interface-emulator.
"""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from beyondlab.kit import check, processes
from beyondlab.kit.recordings import Lab
from beyondlab.kit.runtime_api import MAX_RESPONSE_BYTES, RuntimeApi

INIT_LIMIT = 10.0
"""Seconds that Lambda gives the init phase of an on-demand function."""
SNAP_INIT_LIMIT = 130.0
"""The same with SnapStart, unless the function's own time-out is longer (AWS, "Lambda execution environment lifecycle")."""


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if importlib.util.find_spec("awslambdaric") is None:
        return "awslambdaric, which AWS publishes for Linux only, is not installed"
    return None


lab = Lab("aws-lambda", missing=missing, components=["awslambdaric"])
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""


@dataclass(frozen=True)
class Invocation:
    """One request and what came of it. All times in seconds.

    ``waited`` is the caller's time, from the request to the answer; ``init`` the init phase it had to wait for (0 for
    a warm start); ``duration`` the time between handing the event to the runtime and its answer. ``payload`` is what
    the handler returned or, unless ``status`` is ``"ok"``, the error document.
    """

    status: Literal["ok", "error", "throttled"]
    payload: Any
    cold: bool = False
    init: float = 0.0
    duration: float = 0.0
    waited: float = 0.0
    environment: int | None = None
    kept: bool = False

    @property
    def error_type(self) -> str | None:
        """``errorType`` of the error document; None if the handler answered."""
        return None if self.status == "ok" else self.payload.get("errorType")

    @property
    def billed(self) -> float:
        """Seconds that Lambda bills since 2025-08-01: init and duration together, rounded up to a millisecond."""
        return math.ceil(1000 * (self.init + self.duration) - 1e-9) / 1000


class InitError(RuntimeError):
    """The init phase failed; ``document`` is the error document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document.get("errorMessage", "init failed"))
        self.document = document


class Environment:
    """One execution environment: a process of AWS's runtime client and its Runtime API. A context manager.

    ``code`` is the source of the handler's module, ``app.py``; the handler is ``app.handler`` unless named otherwise.
    With ``snap_start`` the runtime stops after its init where the snapshot is taken, until :meth:`restore`.
    ``init_limit``: seconds for the init phase; if None, Lambda's own limit.
    """

    def __init__(
        self,
        code: str,
        *,
        handler: str = "app.handler",
        memory_mb: int = 128,
        snap_start: bool = False,
        init_limit: float | None = None,
        number: int = 1,
    ) -> None:
        if not 128 <= memory_mb <= 10_240:
            raise ValueError(f"memory_mb={memory_mb!r}: Lambda allows 128 to 10,240 MB")
        if init_limit is None:
            init_limit = SNAP_INIT_LIMIT if snap_start else INIT_LIMIT
        check.positive("init_limit", init_limit, "seconds")
        self.number = number
        self.init = 0.0
        """Seconds from starting the process until it asked for work (or reached the snapshot)."""
        self.last_used = 0.0
        self._code, self._handler, self._memory_mb = code, handler, memory_mb
        self._snap_start, self._init_limit = snap_start, init_limit
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> Environment:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Environment:
        """Run the init phase. Raises :class:`InitError` if it fails or takes longer than ``init_limit``."""
        try:
            with self._lock:
                self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        root = Path(self._stack.enter_context(processes.scratch("lambda-")))
        (root / "app.py").write_text(self._code)
        self.api = self._stack.enter_context(RuntimeApi(snap_start=self._snap_start))
        env = {
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_FUNCTION_NAME": self.api.function_name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.api.function_name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"environment-{self.number}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start" if self._snap_start else "on-demand",
            "AWS_REGION": "local",
            "LAMBDA_TASK_ROOT": str(root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = processes.Process(
            [sys.executable, "-m", "awslambdaric", self._handler],
            name=f"environment {self.number}",
            env=env,
            cwd=root,
            ready=lambda _: self.api.settled(),
            timeout=self._init_limit,
            stop_timeout=0.5,
        )
        self._stack.callback(self.process.stop)
        try:
            self.process.start()
        except processes.ProcessExited as error:
            raise InitError(self.api.init_error or _exit_document(error.returncode)) from error
        except processes.NotReady as error:
            message = f"Error: Init phase timed out after {self._init_limit:.2f} seconds"
            raise InitError({"errorType": "Sandbox.Timedout", "errorMessage": message}) from error
        if self.api.init_error is not None:
            raise InitError(self.api.init_error)
        self.init = self.api.ready_at - self.process.started
        self.last_used = time.perf_counter()
        threading.Thread(target=self._watch, name=f"watch-{self.number}", daemon=True).start()

    def _watch(self) -> None:
        """Tell a waiting invocation when the process dies under it."""
        self.process.wait()
        self.api.abandon()

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def restore(self, *, timeout: float = 10.0) -> float:
        """Let an environment parked at its snapshot go on; seconds until it asked for work, hooks included."""
        begin = time.perf_counter()
        self.api.restore()
        processes.wait_until(
            lambda: self.api.restored_at is not None or self.api.restore_error is not None or not self.alive,
            timeout=timeout,
            what=f"environment {self.number} to ask for work after its restore",
        )
        if self.api.restored_at is None:
            raise InitError(self.api.restore_error or _exit_document(self.process.returncode))
        return self.api.restored_at - begin

    def invoke(self, event: Any, *, timeout: float = 3.0) -> Invocation:
        """One request. An environment whose process died or hangs is stopped: ``kept`` is False."""
        answer = self.api.invoke(event, timeout=timeout)
        kept = answer.kind in ("response", "error") and self.alive
        if answer.kind == "response":
            status, payload = "ok", json.loads(answer.body)
        elif answer.kind == "error":
            status, payload = "error", json.loads(answer.body)
        elif answer.kind == "too-large":
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            status, payload = "error", {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
        elif answer.kind == "timeout":
            message = f"RequestId: {answer.request_id} Error: Task timed out after {timeout:.2f} seconds"
            status, payload = "error", {"errorType": "Sandbox.Timedout", "errorMessage": message}
        else:
            status, payload = "error", _exit_document(self.process.returncode, answer.request_id)
        if not kept:
            self.stop()
        self.last_used = time.perf_counter()
        return Invocation(
            status, payload, duration=answer.seconds, waited=answer.seconds, environment=self.number, kept=kept
        )

    def memory(self) -> int:
        """Resident bytes of the process and its children."""
        return self.process.memory()

    def output(self, lines: int = 20) -> str:
        """The last lines that the process wrote."""
        return self.process.output(lines)

    def stop(self) -> None:
        """End the process, give back its port and its folder. May be called twice."""
        with self._lock:
            self._stack.close()


def _exit_document(status: int | None, request_id: str = "") -> dict[str, str]:
    if status is None:
        reason = "Error: Runtime exited for an unknown reason"
    elif status == 0:
        reason = "Error: Runtime exited without providing a reason"
    elif status > 0:
        reason = f"Error: Runtime exited with error: exit status {status}"
    else:
        reason = f"Error: Runtime exited with error: signal: {(signal.strsignal(-status) or str(-status)).lower()}"
    return {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {request_id} {reason}"}


@dataclass
class FunctionHost:
    """The front end of one function. A context manager; leaving it stops every environment.

    ``keep_alive`` and ``timeout`` in seconds. ``concurrency`` is the reserved concurrency: requests beyond it are
    throttled, None means no limit. Of the free environments the one used last is taken first.
    """

    code: str
    handler: str = "app.handler"
    timeout: float = 3.0
    keep_alive: float = 60.0
    concurrency: int | None = None
    memory_mb: int = 128
    started: int = field(default=0, init=False)
    """Environments started so far."""

    def __post_init__(self) -> None:
        check.positive("timeout", self.timeout, "seconds")
        check.positive("keep_alive", self.keep_alive, "seconds")
        if self.timeout > 900:
            raise ValueError(f"timeout={self.timeout!r}: Lambda allows at most 900 seconds")
        if self.concurrency is not None:
            check.whole("concurrency", self.concurrency, 1)
        self._lock = threading.Condition()
        self._idle: list[Environment] = []
        self._provisioned: set[int] = set()
        self._all: dict[int, Environment] = {}
        self._in_flight = 0
        self._open = False

    def __enter__(self) -> FunctionHost:
        self._open = True
        self._expirer = threading.Thread(target=self._expire, name="expire", daemon=True)
        self._expirer.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open = False
            self._lock.notify_all()
            environments = list(self._all.values())
            self._idle.clear()
        for environment in environments:
            self._discard(environment)
        self._expirer.join()

    @property
    def environments(self) -> int:
        """How many environments exist now, busy and idle."""
        with self._lock:
            return len(self._all)

    def provision(self, count: int) -> None:
        """Provisioned concurrency: start ``count`` environments now; they do not expire."""
        check.whole("count", count, 1)
        fresh = [self._new() for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Environment.start, fresh))
        with self._lock:
            self._provisioned.update(environment.number for environment in fresh)
            self._idle[:0] = fresh

    def invoke(self, event: Any) -> Invocation:
        """One synchronous request, as the Invoke call of Lambda does it."""
        begin = time.perf_counter()
        with self._lock:
            self._check_open()
            if self.concurrency is not None and self._in_flight >= self.concurrency:
                return Invocation("throttled", {"errorType": "TooManyRequestsException", "errorMessage": "Rate Exceeded."})
            self._in_flight += 1
            environment = self._take(begin)
        try:
            return self._serve(environment, event, begin)
        finally:
            with self._lock:
                self._in_flight -= 1

    def submit(self, pool: ThreadPoolExecutor, event: Any) -> Future[Invocation]:
        """:meth:`invoke` on a thread of ``pool``."""
        return pool.submit(self.invoke, event)

    def burst(self, events: list[Any]) -> list[Invocation]:
        """All of ``events`` at the same moment; answers in the order of the events."""
        with ThreadPoolExecutor(max(1, len(events))) as pool:
            return list(pool.map(self.invoke, events))

    def replay(self, arrivals: Any, event: Any = None) -> list[Invocation]:
        """One request at each of ``arrivals`` (seconds from now, ascending), whether or not earlier ones are done."""
        begin = time.perf_counter()
        futures = []
        with ThreadPoolExecutor(64) as pool:
            for arrival in arrivals:
                time.sleep(max(0.0, begin + float(arrival) - time.perf_counter()))
                futures.append(self.submit(pool, event))
            return [future.result() for future in futures]

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("the host is closed: use it inside its with block")

    def _new(self) -> Environment:
        with self._lock:
            self._check_open()
            self.started += 1
            environment = Environment(self.code, handler=self.handler, memory_mb=self.memory_mb, number=self.started)
            self._all[environment.number] = environment
            return environment

    def _take(self, now: float) -> Environment | None:
        """A provisioned environment if one is free, else the one used last unless its time is over.

        The lock is held.
        """
        for environment in reversed(self._idle):
            if environment.number in self._provisioned:
                break
        else:
            environment = self._idle[-1] if self._idle else None
            if environment is None or now - environment.last_used > self.keep_alive:
                return None
        self._idle.remove(environment)
        return environment

    def _serve(self, environment: Environment | None, event: Any, begin: float) -> Invocation:
        cold = environment is None
        if environment is None:
            environment = self._new()
            try:
                environment.start()
            except InitError as error:
                self._discard(environment)
                waited = time.perf_counter() - begin
                return Invocation("error", error.document, True, waited, 0.0, waited, environment.number)
        result = environment.invoke(event, timeout=self.timeout)
        with self._lock:
            keep = result.kept and self._open
            if keep:
                self._idle.append(environment)
                self._lock.notify_all()
        if not keep:
            self._discard(environment)
        return Invocation(
            status=result.status,
            payload=result.payload,
            cold=cold,
            init=environment.init if cold else 0.0,
            duration=result.duration,
            waited=time.perf_counter() - begin,
            environment=environment.number,
            kept=result.kept,
        )

    def _discard(self, environment: Environment) -> None:
        with self._lock:
            self._all.pop(environment.number, None)
            self._provisioned.discard(environment.number)
        environment.stop()

    def _expire(self) -> None:
        """Stop idle environments when their time is over."""
        while True:
            with self._lock:
                if not self._open:
                    return
                now = time.perf_counter()
                mortal = [e for e in self._idle if e.number not in self._provisioned]
                over = [e for e in mortal if now - e.last_used > self.keep_alive]
                for environment in over:
                    self._idle.remove(environment)
                if not over:
                    nearest = min((e.last_used for e in mortal), default=now) + self.keep_alive - now
                    self._lock.wait(max(nearest, 0.0) + 0.001)
            for environment in over:
                self._discard(environment)

