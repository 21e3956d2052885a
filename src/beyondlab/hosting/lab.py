"""The lab of "Serverless containers": real tasks, placed, unpacked, isolated, limited, killed, drained, replaced.

All of them run the same application (``_app``) by :class:`.runner.Runner`. Memory is an eighth of what the task asks for
unless said otherwise. Requests stay on this machine.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beyondlab.hosting import _app, images, platforms
from beyondlab.hosting.placement import Host
from beyondlab.hosting.runner import PHASES, Isolation, Lost, Runner, Service
from beyondlab.hosting.tasks import Task
from beyondlab.kit import processes
from beyondlab.kit.recordings import Lab, measure

IMAGE = "registry.example/greeter:1.0"
GREETER = Task(
    "greeter", IMAGE, ("python", "app/main.py"), vcpu=1.0, memory=2048, environment={"GREETING": "hello"}, stop_timeout=10.0
)
"""The application of the chapter: one vCPU, 2 GB, port 8080."""


def missing() -> str | None:
    """Why the lab cannot run here; None if it can."""
    if sys.platform != "linux":
        return "the runner is made for Linux"
    return None if Path("/proc/self/fd").is_dir() else "there is no /proc"


lab = Lab("serverless-containers", missing=missing, components=["boto3", "jsonschema"])
"""The recordings of this chapter: decorate an experiment with ``@lab.experiment``."""


def half_compressible(size: int, seed: int = 1) -> bytes:
    """``size`` bytes of which gzip saves about half: four random bits each. The first MiB is repeated, out of gzip's sight."""
    once = np.random.default_rng(seed).integers(0, 16, 1 << 20, dtype=np.uint8)
    return np.resize(once, size).tobytes()


def greeter_layers(model: int = 0) -> list[images.Layer]:
    """The layers of the application's image: a model of so many bytes, and the program on top."""
    below = [images.layer({"model.bin": half_compressible(model)})] if model else []
    return [*below, images.layer({"app/main.py": Path(_app.__file__).read_bytes()})]


def open_runner(
    hosts: Sequence[tuple[float, int]] = ((4.0, 16384), (4.0, 16384)), *, isolation: Isolation | None = None, **settings: Any
) -> Runner:
    """A runner with hosts of these (vCPU, MiB); the application's image is to be pushed by who uses it."""
    named = [Host(f"host-{number}", vcpu, memory) for number, (vcpu, memory) in enumerate(hosts, 1)]
    return Runner(named, isolation=isolation, **settings)


def run_descriptions(*, isolation: Isolation | None = None) -> dict[str, Any]:
    """The same application by each of four descriptions: what it answers; and what isolated it."""
    found: dict[str, Any] = {}
    with open_runner(isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers())
        for platform in platforms.PLATFORMS:
            task = platforms.read(platforms.describe(GREETER, platform), platform)
            found[platform] = runner.start(task).get("/")["greeting"]
        found["isolation"] = str(runner.isolation)
    return found


def hold_limits(*, isolation: Isolation | None = None) -> dict[str, Any]:
    """A task of a quarter of a core that computes, one that takes more memory than it has, and their neighbour."""
    with open_runner(isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers())
        small = Task("small", IMAGE, GREETER.command, 0.25, 1024, environment={"GREETING": "here"})
        greedy, busy, neighbour = (runner.start(small) for _ in range(3))
        burnt = busy.get("/burn?1.2")
        try:
            greedy.get("/eat?300")
            status = 0
        except Lost:
            greedy.process.wait(10.0)
            status = runner.bury(greedy.name)
        return {
            "CPU it may use, share of a core": 0.25,
            "CPU it did use": burnt["cpu"] / burnt["wall"],
            "memory it may use, MiB": int(small.memory * runner.scale),
            "memory it asked for": 300,
            "its exit status": status,
            "its neighbour says": neighbour.get("/")["greeting"],
            "isolation": str(runner.isolation),
        }


def start_phases(repetitions: int = 5, *, isolation: Isolation | None = None) -> dict[str, Any]:
    """Milliseconds of each phase of starting a task with an image of 4 MB."""
    seconds: dict[str, list[float]] = {phase: [] for phase in PHASES}
    with open_runner(isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers(4_000_000))
        for _ in range(repetitions):
            running = runner.start(GREETER)
            for phase, value in running.phases.items():
                seconds[phase].append(1e3 * value)
            runner.stop(running.name)
    return {phase: measure("ms", values) for phase, values in seconds.items()}


def size_against_start(
    megabytes: Sequence[int] = (2, 16, 64), repetitions: int = 3, *, isolation: Isolation | None = None
) -> dict[str, Any]:
    """Unpacking whole against mounting lazily, for models of these sizes.

    For each way: ``ready``, milliseconds from placement to the first answer, medians; ``unpack``, those of the phase;
    ``read``, bytes of the image that were read before the first answer. ``same``: whether the model read the same.
    """
    found: dict[str, Any] = {"megabytes": list(megabytes), "image": [], "same": True}
    found |= {f"{way}: {what}": [] for way in ("whole", "lazy") for what in ("ready", "unpack", "read")}
    with open_runner(isolation=isolation, scale=1 / 4) as runner:
        for size in megabytes:
            image = f"model:{size}"
            found["image"].append(runner.registry.push(image, greeter_layers(size * 1_000_000)))
            task = Task("model", image, GREETER.command, 1.0, 2048, stop_timeout=1.0)
            answers = set()
            for way in ("whole", "lazy"):
                runs = []
                for _ in range(repetitions):
                    running = runner.start(task, lazy=way == "lazy")
                    said = running.get("/")
                    answers.add(said["model"])
                    whole = running.moved if way == "whole" else running.moved + said["moved"]
                    runs.append((1e3 * sum(running.phases.values()), 1e3 * running.phases["unpack"], whole))
                    runner.stop(running.name)
                for what, values in zip(("ready", "unpack", "read"), zip(*runs)):
                    found[f"{way}: {what}"].append(round(float(np.median(values)), 1))
            found["same"] = found["same"] and len(answers) == 1
    return found


SCRIPT = (("want", 3), ("kill", 1), ("want", 3), ("want", 1), ("want", 2), ("want", 0))
"""What :func:`follow` does to a service; see :func:`beyondlab.hosting.control.rehearse`."""


def follow(script: Sequence[tuple[str, int]] = SCRIPT, *, isolation: Isolation | None = None) -> dict[str, Any]:
    """A real service through a script: its events, how many processes and how much room are left at the end."""
    with open_runner(isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers())
        service = Service(runner, GREETER)
        started = []
        for what, number in script:
            if what == "want":
                service.want(number)
                started += [runner.running[name].process for name in service.names]
            else:
                runner.running[service.names[number]].kill()
        return {
            "events": service.events,
            "processes left": sum(process.returncode is None for process in started),
            "vCPU still taken": sum(host.vcpu - host.free[0] for host in runner.hosts),
            "runs metered": len(runner.meter.ended),
            "seconds run": round(sum(seconds for _, seconds, *_ in runner.meter.ended), 1),
            "seconds billed": sum(billed for *_, billed, _, _ in runner.meter.ended),
        }


def scale_in(requests: int = 4, *, isolation: Isolation | None = None) -> dict[str, Any]:
    """A task with requests in flight is stopped: drained first, and not. Then one that ignores SIGTERM."""
    found: dict[str, Any] = {}
    with open_runner(isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers())
        for drain in (False, True):
            running = runner.start(GREETER)
            outcomes: list[bool] = []
            askers = [threading.Thread(target=_ask, args=(running, outcomes), daemon=True) for _ in range(requests)]
            for asker in askers:
                asker.start()
            processes.wait_until(
                lambda running=running: running.order("status")["in_flight"] == requests, timeout=10.0, what="requests in flight"
            )
            runner.stop(running.name, drain=drain)
            for asker in askers:
                asker.join(10.0)
            found["lost, drained" if drain else "lost, not drained"] = outcomes.count(False)
        stubborn = Task("stubborn", IMAGE, GREETER.command, 1.0, 2048, environment={"STUBBORN": "1"}, stop_timeout=0.5)
        stopped = runner.stop(runner.start(stubborn).name)
        found["ignores SIGTERM: killed"] = stopped["killed"]
        found["ignores SIGTERM: waited its 0.5 s"] = stopped["seconds"] >= 0.5
        polite = runner.stop(runner.start(GREETER).name)
        found["obeys SIGTERM: killed"] = polite["killed"]
    return found


def _ask(running: Any, outcomes: list[bool]) -> None:
    try:
        running.get("/sleep?1.2")
        outcomes.append(True)
    except (Lost, ValueError):
        outcomes.append(False)


def full(*, isolation: Isolation | None = None) -> dict[str, Any]:
    """A cluster of two vCPU that is asked for three tasks of one, and then gets a second host."""
    with open_runner([(2.0, 8192)], isolation=isolation) as runner:
        runner.registry.push(IMAGE, greeter_layers())
        service = Service(runner, GREETER)
        service.want(3)
        before = list(service.events)
        runner.hosts.append(Host("host-2", 2.0, 8192))
        time.sleep(0.01)
        service.want(3)
        return {"on one host": before, "with a second": service.events[len(before) :]}
