"""A small Fargate: places tasks on hosts, unpacks their image, isolates, limits, starts, meters, stops and replaces them.

Tasks are real processes. Where this machine allows it, each has namespaces of its own (mount, PID, UTS, IPC, network) and a
control group with its CPU and memory; elsewhere RLIMIT_AS holds its memory, and the agent beside it (``_agent``) its
share of a core. The hosts are not real: they are numbers for the placement to fill, and all tasks run on this machine.

The image holds the application. The interpreter is this machine's.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from beyondlab.hosting import _agent, control, metering, placement
from beyondlab.hosting.images import Registry
from beyondlab.hosting.placement import Host
from beyondlab.hosting.tasks import Task
from beyondlab.kit import cgroups, check, namespaces, processes
from beyondlab.kit.processes import Process

PATIENCE = 20.0
"""Seconds that a task may take to start."""
PHASES = ("place", "unpack", "isolate", "start")


class NoCapacity(RuntimeError):
    """No host has room for the task."""


class Lost(ConnectionError):
    """A request got no answer."""


@dataclass(frozen=True)
class Isolation:
    """What keeps tasks apart and small: ``namespaces`` (names; empty for none), ``limits`` (``cgroup`` or ``rlimits``)."""

    namespaces: tuple[str, ...]
    limits: str

    def __str__(self) -> str:
        apart = f"namespaces ({', '.join(self.namespaces)})" if self.namespaces else "no namespaces"
        return f"{apart}; limits by {'a control group' if self.limits == 'cgroup' else 'rlimits and the agent'}"


PLAIN = Isolation((), "rlimits")
"""What every machine allows."""


def best_isolation() -> Isolation:
    """The most that this machine allows; really tried."""
    apart = namespaces.ISOLATED if namespaces.missing() is None else ()
    return Isolation(tuple(apart), "cgroup" if cgroups.missing("memory", "cpu") is None else "rlimits")


@dataclass
class Running:
    """A task that was started."""

    name: str
    task: Task
    host: Host
    folder: Path
    process: Process
    port: int
    phases: dict[str, float] = field(default_factory=dict)
    moved: int = 0
    """Bytes of the image that were read before the start."""
    group: cgroups.Group | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def get(self, path: str = "/", *, timeout: float = 10.0) -> Any:
        """What the application answers. Raises :class:`Lost` if it does not."""
        try:
            with _connect(self.folder, "door.sock", timeout) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                data = b""
                while more := connection.recv(65536):
                    data += more
        except OSError as error:
            raise Lost(f"{self.name}: {error}") from error
        head, _, body = data.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0] + b" ":
            raise Lost(f"{self.name}: no answer")
        return json.loads(body)

    def order(self, what: str, *, timeout: float = 0.0, patience: float = 10.0) -> dict[str, Any]:
        """Tell the agent to do something; its answer. Raises OSError or ValueError if it is gone."""
        with _connect(self.folder, "agent.sock", timeout + patience) as connection, connection.makefile("rwb") as stream:
            stream.write(json.dumps({"do": what, "timeout": timeout}).encode() + b"\n")
            stream.flush()
            return json.loads(stream.readline())

    def kill(self) -> None:
        """SIGKILL to the application, from outside, as if it had crashed; returns when its agent has ended too."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(part.endswith("main.py") for part in process.cmdline()):
                    process.kill()
            except psutil.Error:
                continue
        self.process.wait(10.0)


def _connect(folder: Path, name: str, timeout: float) -> socket.socket:
    """To a Unix socket whose path may be longer than the kernel's 107 bytes: by the descriptor of its folder."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{handle}/{name}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(handle)
    return connection


class Runner:
    """Hosts, a registry, a policy, a meter. A context manager: leaving it ends all tasks.

    ``scale``: of a task's memory, the share that its process may take here: a laptop has not the room of a cloud.
    """

    def __init__(
        self,
        hosts: Sequence[Host],
        *,
        policy: str = "first fit",
        rule: metering.Rule = metering.RULES["fargate"],
        clock: Callable[[], float] = time.monotonic,
        isolation: Isolation | None = None,
        scale: float = 1 / 8,
    ) -> None:
        check.one_of("policy", policy, placement.POLICIES)
        if not 0 < scale <= 1:
            raise ValueError(f"scale={scale!r}: must be over 0 and at most 1")
        self.hosts, self._policy, self.scale = list(hosts), placement.POLICIES[policy], scale
        self.meter = metering.Meter(rule, clock)
        self.isolation = isolation or best_isolation()
        self.running: dict[str, Running] = {}
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Runner:
        self.folder = self._stack.enter_context(processes.scratch("hosting-"))
        self.registry = Registry(self.folder / "registry")
        return self

    def __exit__(self, *_: object) -> None:
        for running in list(self.running.values()):
            self._clear(running)
        self._stack.close()

    def start(self, task: Task, *, lazy: bool = False, name: str | None = None) -> Running:
        """Start a task and wait until it answers; seconds of each phase in ``phases``.

        ``lazy``: do not unpack what is large. Raises :class:`NoCapacity`, LookupError for an unknown image, and the errors
        of :class:`beyondlab.kit.processes.Process` for a task that does not start.
        """
        self._count += 1
        name = name or f"task-{self._count}"
        begin = time.monotonic()
        host = self._policy(self.hosts, task.vcpu, task.memory)
        if host is None:
            raise NoCapacity(f"{name}: no host has {task.vcpu:g} vCPU and {task.memory:,} MiB free")
        host.take(name, task.vcpu, task.memory)
        placed = time.monotonic()
        stack = ExitStack()
        try:
            return self._start(name, task, host, stack, lazy, begin, placed)
        except BaseException:
            stack.close()
            host.release(name)
            if name in self.meter.running:
                self.meter.stop(name)
            raise

    def _start(
        self, name: str, task: Task, host: Host, stack: ExitStack, lazy: bool, begin: float, placed: float
    ) -> Running:
        folder = stack.enter_context(processes.scratch(f"{name}-"))
        self.meter.start(name, task.vcpu, task.memory)
        moved = (self.registry.mount if lazy else self.registry.pull)(task.image, folder / "root")
        unpacked = time.monotonic()
        group, doors, memory = None, [], int(task.memory * 2**20 * self.scale)
        if self.isolation.limits == "cgroup":
            group = stack.enter_context(cgroups.group(memory=memory, cpu=task.vcpu))
            doors = group.doors
        apart = "net" in self.isolation.namespaces
        port = task.port if apart else processes.free_port()
        environment = {"PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "1", **task.environment, "PORT": str(port)}
        program, *arguments = task.command
        argv = [sys.executable, "-I", "-S", *arguments] if program == "python" else [program, *arguments]
        limited = self.isolation.limits == "rlimits"
        specification = json.dumps({
            "folder": str(folder), "argv": argv, "environment": environment, "port": port,
            "memory": memory if limited else None, "vcpu": task.vcpu if limited and task.vcpu < 1 else None,
        })  # fmt: skip
        command = [sys.executable, "-I", "-S", _agent.__file__, specification]
        if self.isolation.namespaces or doors:
            command = namespaces.command(
                command, namespaces=self.isolation.namespaces, hostname=name[:64], doors=doors
            )
        running = Running(name, task, host, folder, Process(
            command, name=name, ready=lambda _: self._ready(running), timeout=PATIENCE, stop_timeout=0.2,
        ), port, moved=moved, group=group, stack=stack)  # fmt: skip
        stack.enter_context(running.process)
        ready = time.monotonic()
        isolated = json.loads((folder / "agent.json").read_text())["isolated"]
        running.phases = dict(zip(PHASES, (placed - begin, unpacked - placed, isolated - unpacked, ready - isolated)))
        self.running[name] = running
        return running

    @staticmethod
    def _ready(running: Running) -> bool:
        try:
            return bool(running.get("/health", timeout=2.0))
        except Lost:
            return False

    def _clear(self, running: Running) -> None:
        self.running.pop(running.name, None)
        if running.name in self.meter.running:
            self.meter.stop(running.name)
        if running.name in running.host.tasks:
            running.host.release(running.name)
        running.stack.close()

    def bury(self, name: str) -> int:
        """Take away a task that has ended by itself: its room, its meter, its folder. Its exit status."""
        running = self.running[name]
        status = running.process.returncode
        if status is None:
            raise ValueError(f"name={name!r}: still runs")
        self._clear(running)
        return status

    def stop(self, name: str, *, drain: bool = True) -> dict[str, Any]:
        """Stop a task on time: let requests in flight end, SIGTERM, its time-out, SIGKILL.

        ``killed``: whether SIGKILL was needed. ``seconds``: from SIGTERM to the end. ``drained``: requests waited for.
        """
        running = self.running[name]
        limit = running.task.stop_timeout if running.task.stop_timeout is not None else 10.0
        drained = running.order("status")["in_flight"] if drain else 0
        if drained:
            processes.wait_until(
                lambda: running.order("status")["in_flight"] == 0, timeout=PATIENCE, what=f"the requests of {name} to end"
            )
        answer = running.order("stop", timeout=limit)
        self._clear(running)
        return {**answer, "drained": drained}


class Service:
    """Keeps ``desired`` copies of a task running: the loop of :mod:`.control`, with real tasks."""

    def __init__(self, runner: Runner, task: Task, desired: int = 0, *, drain: bool = True) -> None:
        self.runner, self.task, self.desired, self.drain = runner, task, desired, drain
        self.names: list[str] = []
        self.events: list[str] = []
        self.stops: list[dict[str, Any]] = []

    def step(self) -> list[control.Action]:
        """Look once, and do what is to be done; what that was. A task that no host can take is tried again next time."""
        alive = [name for name in self.names if self.runner.running[name].alive]
        dead = [name for name in self.names if name not in alive]
        actions = control.decide(self.desired, alive, dead)
        for action in actions:
            if action.what == "bury":
                self.runner.bury(action.task)
                self._gone(action.task, "died")
            elif action.what == "drain":
                self.names.remove(action.task)
                self.stops.append(self.runner.stop(action.task, drain=self.drain))
                self.events.append(f"drained {action.task}")
            else:
                try:
                    name = self.runner.start(self.task).name
                except NoCapacity:
                    self.events.append("no capacity")
                    break
                self.names.append(name)
                self.events.append(f"started {name}")
        return actions

    def _gone(self, name: str, what: str) -> None:
        self.names.remove(name)
        self.events.append(f"{what} {name}")

    def want(self, desired: int) -> None:
        """Change the number and step until there is nothing to do, or no room."""
        self.desired = desired
        for _ in range(50):
            if not self.step() or self.events[-1:] == ["no capacity"]:
                return
        raise RuntimeError("the loop did not come to rest in 50 steps")
