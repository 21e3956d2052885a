"""The lab of "Stateful serverless": what the notebook's experiments call.

One recording, ``NAME``, of three labs, as each needs something else: processes that can be forked and killed
(everywhere but Windows); DBOS, NATS and an MQTT client (from PyPI); workerd (from npm). Where one cannot run, its recorded
figures are shown, the others are measured.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from beyondlab.durable import crashes, durable_objects, entities, processor, replay
from beyondlab.durable.crashes import Crash
from beyondlab.durable.hosts import Host
from beyondlab.durable.sensors import Reading
from beyondlab.kit import nats, processes
from beyondlab.kit.recordings import Lab, measure

NAME = "stateful"
SLEEP = 2.0
"""Seconds that the patient order sleeps."""


def _no_fork() -> str | None:
    return None if hasattr(os, "fork") else "the lab forks and kills processes, which this system cannot do"


def _missing() -> str | None:
    for name in ("dbos", "nats", "paho"):
        if importlib.util.find_spec(name) is None:
            return f"the package {name} is not installed"
    return _no_fork() or nats.missing()


killing = Lab(NAME, missing=_no_fork)
"""Experiments with the engine that the chapter builds."""
lab = Lab(NAME, missing=_missing, components=["dbos", "nats-py", "paho-mqtt"], binaries={"nats-server": nats.version})
"""Experiments with DBOS and NATS."""
workerd = Lab(NAME, missing=lambda: _no_fork() or durable_objects.missing(), binaries={"workerd": durable_objects.version})
"""Experiments with Durable Objects."""


@functools.cache
def _host() -> Host:
    return Host(["nats", "beyondlab.durable.crashes", "beyondlab.durable.dbos_orders", "beyondlab.durable.processor"])


def host() -> Host:
    """The host of the notebook's tasks, which lives as long as the notebook: DBOS is imported once."""
    return _host().start()


def rows(found: Sequence[Crash]) -> list[list[Any]]:
    """Point, result, and how often each effect is in the two ledgers, a list for each order: what a recording can hold."""
    return [[crash.point, crash.result, crash.attempts, crash.keyed] for crash in found]


def crash_of(row: Sequence[Any]) -> Crash:
    """The other way round."""
    point, result, attempts, keyed = row
    return Crash(point, True, result, dict(attempts), dict(keyed))


def _summary(shipped: Sequence[Crash], cancelled: Sequence[Crash]) -> dict[str, Any]:
    both = [*shipped, *cancelled]
    return {
        "orders killed": len(both),
        "finished as they should": sum(c.result == r for cs, r in ((shipped, "shipped"), (cancelled, "cancelled")) for c in cs),
        "an effect twice, without a key": sum(bool(crash.duplicates) for crash in both),
        "an effect twice, with a key": sum(max(crash.keyed.values()) > 1 for crash in both),
        "every effect once, with a key": crashes.exactly_once(shipped, "shipped") and crashes.exactly_once(cancelled, "cancelled"),
        "shipped": rows(shipped),
        "cancelled": rows(cancelled),
    }


def kill_ours(run: Callable[..., Any], workflow: Callable[..., Any]) -> dict[str, Any]:
    """SIGKILL at every point of an order that is shipped and of one that is cancelled, on the engine ``run``."""
    found = []
    with processes.scratch("ours-") as folder, Host(["beyondlab.durable.crashes"]) as small:
        for name, broken in (("shipped", ()), ("cancelled", ("ship",))):
            engine = crashes.OurEngine(run, workflow, broken=broken)
            _, points = crashes.undisturbed(engine.start, folder / f"{name}-alive", host=small)
            found.append(crashes.survey(engine.start, engine.resume, points, folder / name, host=small))
    return _summary(*found)


def kill_dbos() -> dict[str, Any]:
    """The same orders on DBOS: one SIGKILL finds each at another point; one new process resumes them all."""
    with processes.scratch("dbos-") as folder:
        return _summary(*crashes.dbos_survey(folder / "survey", host=host()))


def kill_workerd() -> dict[str, Any]:
    """The same orders in Durable Objects: workerd is killed at every point and started again on the same storage."""
    with processes.scratch("workerd-") as folder:
        shipped = durable_objects.survey(folder / "shipped")
        cancelled = durable_objects.survey(folder / "cancelled", broken=["ship"])
    return _summary(shipped, cancelled)


def wake() -> dict[str, Any]:
    """An order sleeps on DBOS; its process is killed; four new processes find it, each with other code.

    Seconds from falling asleep to waking, with a death between, and how many of them after the restart; and what became
    of it: unchanged; changed, with the version that DBOS computes; changed, but called the same version; patched.
    """
    from beyondlab.durable import dbos_orders

    cases = {
        "the same code": ("as it was", None),
        "changed code": ("changed", None),
        "changed, called the same version": ("changed", "1"),
        "patched, the same version": ("patched", "1"),
    }
    with processes.scratch("asleep-") as folder:
        for version in (None, "1"):
            bed = folder / f"version-{version}"
            bed.mkdir()
            host().run(dbos_orders.fall_asleep, str(bed / "dbos.sqlite"), str(bed / "world"), "order", SLEEP, version)
        for name, (_, version) in cases.items():
            shutil.copytree(folder / f"version-{version}", folder / name)

        def one(name: str) -> dict[str, Any]:
            code, version = cases[name]
            place = folder / name
            files = str(place / "dbos.sqlite"), str(place / "world")
            return host().run(dbos_orders.wake_up, *files, "order", SLEEP, version, code, SLEEP + 0.5 if name == "changed code" else 120.0).value

        with ThreadPoolExecutor(len(cases)) as pool:
            found = dict(zip(cases, pool.map(one, cases)))
    same = found["the same code"]
    said = {
        "asked to sleep, s": SLEEP,
        "slept with a death between, s": round(same["awake"] - (same["due"] - SLEEP), 2),
        "of that after the restart, s": round(max(0.0, same["due"] - same["launched"]), 2),
    }
    for name in cases:
        status, result = found[name]["status"], found[name]["result"]
        said[name] = f"{status}: {str(result).partition('(')[0]}" if status == "ERROR" else f"{status}: {result}" if result else status
    said["a new order, patched, begins with"] = found["patched, the same version"]["new order begins with"]
    return said


def count(functions: dict[str, Callable[..., Any]], *, writers: int = 64, each: int = 4) -> dict[str, Any]:
    """``writers`` increment a counter ``each`` times: with each of ``functions`` on NATS's store, and with an entity.

    Counts by name, and the attempts of those functions that return how often they tried.
    """
    said: dict[str, Any] = {"increments": writers * each}
    with nats.Server() as server:
        for name, function in functions.items():
            found = entities.concurrently(server, function, key="counter", writers=writers, each=each)
            said[name] = found["counted"]
            if found["attempts"]:
                said[f"{name}: attempts"] = found["attempts"]
        said["entity"] = entities.with_entities(server, key="counter", writers=writers, each=each)["counted"]
    return said


def count_workerd(writers: int = 64, each: int = 4) -> dict[str, Any]:
    """The same counter as a Durable Object, its runtime killed after the last increment."""
    with processes.scratch("counter-") as folder:
        found = durable_objects.counter(folder, writers=writers, each=each)
    return {"increments": found["wanted"], "Durable Object, after SIGKILL": found["counted"]}


JOBS: dict[str, dict[str, Any]] = {
    "never killed": {},
    "killed twice": {"deaths": (0.28, 0.3)},
    "killed, results without a name": {"deaths": (0.58,), "named": False},
    "killed, state in memory only": {"deaths": (0.58,), "checkpointed": False},
}
"""The jobs of :func:`stream`: after which shares of the readings each life ends, and what is left out."""


def stream(readings: Sequence[Reading], *, every: int = 250) -> dict[str, Any]:
    """Sensors over MQTT into NATS, windows by a function that is killed: results by job.

    For each job of :data:`JOBS` the number of results and those that the uninterrupted job does not have or has fewer of.
    ``arrived``: the readings in the order in which the stream holds them, for the reference in memory.
    """
    with nats.Server(mqtt=True) as server:
        nats.run(processor.prepare(server))
        last = processor.publish(server, list(readings))

        def work(job: str) -> dict[str, int]:
            options = dict(JOBS[job])
            name = _token(job)
            for share in options.pop("deaths", ()):
                death = host().run(processor.work, server.url, name, last=last, every=every, die_after=int(share * last), **options)
                if not death.killed:
                    raise RuntimeError(f"{job}: the processor was not killed")
            return host().run(processor.work, server.url, name, last=last, every=every, **options).value

        with ThreadPoolExecutor(2) as pool:
            done = dict(zip(JOBS, pool.map(work, JOBS)))
        found = {
            job: sorted(map(json.dumps, nats.run(processor.stored(server, processor.RESULTS, f"results.{_token(job)}.>"))))
            for job in JOBS
        }
        arrived = nats.run(processor.stored(server, processor.READINGS, "sensors.>"))
    wanted = sorted(json.dumps(vars(result)) for results in processor.batch(arrived).values() for result in results)
    nameless = found["killed, results without a name"]
    return {
        "readings in the stream": last,
        "late readings, dropped": done["never killed"]["late"],
        "results computed in memory": len(wanted),
        **{f"results, {job}": len(results) for job, results in found.items()},
        "never killed, as in memory": found["never killed"] == wanted,
        "killed twice, as never killed": found["killed twice"] == found["never killed"],
        "computed again and dropped by name": done["killed twice"]["duplicates"],
        "wrong, state in memory only": len(set(found["killed, state in memory only"]) - set(wanted)),
        "duplicates, results without a name": len(nameless) - len(set(nameless)),
    }


def _token(job: str) -> str:
    """The name of a job as one token of a NATS subject."""
    return job.replace(" ", "-").replace(",", "")


def _history(path: Path, steps: int) -> None:
    """A log of ``steps`` finished calls, written at once."""
    lines = []
    for number in range(1, steps + 1):
        lines.append(json.dumps({"event": "scheduled", "number": number, "value": ["activity", "add", [number]]}))
        lines.append(json.dumps({"event": "completed", "number": number, "value": {"ok": number}}))
    path.write_text("\n".join(lines) + "\n")


def _sum(log: replay.Replay, steps: int) -> int:
    return sum(log.call("add", number) for number in range(1, steps + 1))


def replay_times(lengths: Sequence[int] = (100, 400, 1_600, 6_400, 25_600), *, repetitions: int = 3) -> dict[str, Any]:
    """Milliseconds to replay a finished history of so many steps (two events each), read from the file; long ones once."""
    said = {}
    with processes.scratch("history-") as folder:
        for steps in lengths:
            path = folder / f"{steps}.log"
            _history(path, steps)
            times = []
            for _ in range(repetitions if steps < 5_000 else 1):
                begin = time.perf_counter()
                result = replay.run(_sum, path, {"add": None}, steps)
                times.append(1e3 * (time.perf_counter() - begin))
                assert result == steps * (steps + 1) // 2
            said[f"{steps:,} steps"] = measure("ms", times)
    return said


def persisted(writes: int = 256, group: int = 64) -> dict[str, Any]:
    """Microseconds a read from memory and from NATS's store, and a write to a log, synced one by one and in groups."""

    async def read(server: nats.Server) -> list[float]:
        async with server.connect() as client:
            store = await entities.bucket(client)
            await store.put("key", b"1")
            times = []
            for _ in range(3):
                begin = time.perf_counter()
                for _ in range(100):
                    await store.get("key")
                times.append(1e4 * (time.perf_counter() - begin))
            return times

    with nats.Server() as server:
        remote = nats.run(read(server))
    memory, state = [], {"key": b"1"}
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(20_000):
            state.get("key")
        memory.append(50 * (time.perf_counter() - begin))
    line = json.dumps({"event": "completed", "number": 1, "value": {"ok": "reserve order"}}).encode() + b"\n"
    synced: dict[int, list[float]] = {1: [], group: []}
    with processes.scratch("log-") as folder:
        for size, times in synced.items():
            for repetition in range(3):
                begin = time.perf_counter()
                with open(folder / f"{size}-{repetition}.log", "ab", buffering=0) as file:
                    for _ in range(writes // size):
                        file.write(line * size)
                        os.fsync(file.fileno())
                times.append(1e6 * (time.perf_counter() - begin) / writes)
    return {
        "read, from memory": measure("µs", memory),
        "read, from the store": measure("µs", remote),
        "write, one a sync": measure("µs", synced[1]),
        f"write, {group} a sync": measure("µs", synced[group]),
    }
