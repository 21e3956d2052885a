"""One model, two platforms: AWS's runtime client, and Google's functions-framework as Cloud Run runs it.

Both run the same module, ``app.py``: your loading code between a preamble, which offers ``mark(phase)`` and
``options()``, and an epilogue with the two entry points. An answer carries the stamps, from which
:func:`beyondlab.inference.phases.split` takes the phases of the cold start.

What is not here: isolation, the download of the code, the platform's placement. Packages are in the page cache after
the first start, so that ``imports`` is what a *second* start on a machine pays; weights can be evicted, see
:func:`evict`.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from beyondlab.inference import phases
from beyondlab.kit import check, processes
from beyondlab.kit.runtime_api import RuntimeApi

_PREAMBLE = """\
import os, time
MARKS = [("process", float(os.environ["BORN"])), ("runtime", time.perf_counter())]

def mark(phase):
    MARKS.append((phase, time.perf_counter()))

{names}
def options():
    import onnxruntime
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = chosen.inter_op_num_threads = 1
    return chosen

"""
_EPILOGUE = """

def _answer(x):
    begin = time.perf_counter()
    answer = predict(x)
    return {"answer": answer, "inference": (begin, time.perf_counter()), "marks": MARKS}

def handler(event, context):
    return _answer(event["x"])

def http(request):
    return _answer(request.get_json()["x"])
"""
_LAUNCH = """\
import os, time
os.environ["BORN"] = repr(time.perf_counter())
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = os.getcwd()
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def module(body: str, **names: Path | str) -> str:
    """The source of ``app.py``: ``body`` loads the model and defines ``predict(x)``; it can use ``names``, as texts."""
    given = "".join(f"{name} = {str(value)!r}\n" for name, value in names.items())
    return _PREAMBLE.replace("{names}", given) + body + _EPILOGUE


@dataclass(frozen=True)
class Answer:
    """What ``predict`` returned. ``seconds`` is the caller's time, ``inference`` that of ``predict`` alone."""

    value: Any
    seconds: float
    inference: float
    phases: dict[str, float]
    """Seconds of each phase since the start of the process; of use for the first answer only."""


class _Host:
    """A started process that answers. A context manager."""

    argv: tuple[str, ...]

    def __init__(self, body: str, *, timeout: float = 60.0, **names: Path | str) -> None:
        check.positive("timeout", timeout, "seconds")
        self._source, self._timeout = module(body, **names), timeout
        self._stack = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, argv: list[str], env: dict[str, str], ready: Any) -> None:
        root = Path(self._stack.enter_context(processes.scratch("serving-")))
        (root / "app.py").write_text(self._source)
        self.process = processes.Process(
            [sys.executable, "-c", _LAUNCH, *argv],
            name=argv[0],
            env=dict.fromkeys(_THREADS, "1") | {"PYTHONDONTWRITEBYTECODE": "1"} | env,
            cwd=root,
            ready=ready,
            timeout=self._timeout,
            stop_timeout=1.0,
        )
        self._stack.enter_context(self.process)

    def _made(self, document: Any, begin: float, answered: float) -> Answer:
        if "answer" not in document:
            raise RuntimeError(f"{self.process.name} answered {document!r}; its last lines:\n{self.process.output()}")
        inference = tuple(document["inference"])
        split = phases.split(self.process.started, document["marks"], inference, answered)
        return Answer(document["answer"], answered - begin, inference[1] - inference[0], split)

    def memory(self) -> int:
        """Resident bytes of the process and its children."""
        return self.process.memory()


class Lambda(_Host):
    """``python -m awslambdaric app.handler`` against a Runtime API of its own: one environment of AWS Lambda."""

    def __enter__(self) -> Lambda:
        with ExitStack() as stack:
            self._stack = stack
            self.api = stack.enter_context(RuntimeApi(function_name="model"))
            env = {
                "AWS_LAMBDA_RUNTIME_API": self.api.address,
                "AWS_LAMBDA_FUNCTION_NAME": "model",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
                "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/model",
                "AWS_LAMBDA_LOG_STREAM_NAME": "environment",
                "AWS_REGION": "local",
            }
            self._start(["awslambdaric", "app.handler"], env, lambda _: self.api.settled())
            if self.api.init_error is not None:
                raise RuntimeError(f"init failed: {self.api.init_error}")
            self._stack = stack.pop_all()
        return self

    def ask(self, x: Any) -> Answer:
        """One request. Raises RuntimeError if the function fails."""
        begin = time.perf_counter()
        answer = self.api.invoke({"x": x}, timeout=self._timeout)
        answered = begin + answer.seconds
        return self._made(json.loads(answer.body or b"{}"), begin, max(answered, time.perf_counter()))


class CloudRun(_Host):
    """``functions-framework --target http``: what runs in a Cloud Run function's container, with gunicorn in it.

    The framework imports the module, then binds its port, then forks its worker.
    """

    def __enter__(self) -> CloudRun:
        self.port = 0
        with ExitStack() as stack:
            self._stack = stack
            argv = ["functions_framework", "--target", "http", "--source", "app.py"]
            argv += ["--host", "127.0.0.1", "--port", "0"]
            self._start(argv, {"THREADS": "4"}, self._listens)
            self._stack = stack.pop_all()
        return self

    def _listens(self, process: processes.Process) -> bool:
        """Port 0 lets the system choose; the process's sockets tell which it was."""
        try:
            found = psutil.Process(process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        self.port = next((c.laddr.port for c in found if c.status == psutil.CONN_LISTEN), 0)
        return self.port > 0

    def ask(self, x: Any) -> Answer:
        """One request. Raises RuntimeError or OSError if the function fails."""
        begin = time.perf_counter()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/", json.dumps({"x": x}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=self._timeout) as response:
            body = response.read()
        return self._made(json.loads(body), begin, time.perf_counter())


def evict(path: Path) -> float:
    """Write the file out and drop it from the page cache; the share of it that is resident afterwards.

    ``posix_fadvise(POSIX_FADV_DONTNEED)`` needs no privilege, but it is advice: a file in memory (tmpfs), one that
    another process has mapped, or some network file systems stay. NaN where it cannot be told.
    """
    if not hasattr(os, "posix_fadvise"):
        return float("nan")
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    return resident(path)


def resident(path: Path) -> float:
    """Share of the file's pages that are in the page cache, by ``mincore``; NaN where it cannot be told.

    Since Linux 5.2 mincore answers truthfully only for files that the caller owns or may write: for others it reports
    every page as resident.
    """
    size = os.path.getsize(path)
    if not size or not hasattr(mmap, "MAP_SHARED"):
        return float("nan")
    pages = -(-size // mmap.PAGESIZE)
    access = mmap.PROT_READ | mmap.PROT_WRITE
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, access) as view:
        vector = (ctypes.c_ubyte * pages)()
        anchor = ctypes.c_char.from_buffer(view)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(size), vector)
        except AttributeError:
            return float("nan")
        finally:
            del anchor
        return float("nan") if failed else sum(byte & 1 for byte in bytes(vector)) / pages
