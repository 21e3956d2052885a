"""A notebook leaves nothing behind: no process, no port, no file; also when its kernel is killed in mid-lab."""

import asyncio
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import harness
import psutil
import pytest
from beyondlab.kit import _guard, processes
from nbclient.exceptions import DeadKernelError

KILL_LIMIT = 5.0


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Watched:
    """What a kernel was seen to have: its guards, its lab processes, their ports, their scratch folders."""

    kernel: int
    tokens: set[str] = field(default_factory=set)
    guards: set[int] = field(default_factory=set)
    scratch: set[Path] = field(default_factory=set)
    lab: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Look once more. The guard's arguments are token, scratch folder and the kernel's process id."""
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if _guard.__file__ not in words:
                    continue
                token, folder, owner = words[words.index(_guard.__file__) + 1 :][:3]
                if int(owner) == self.kernel:
                    self.tokens.add(token)
                    self.scratch.add(Path(folder))
                    self.guards.add(process.pid)
            except (psutil.Error, ValueError):
                continue
        found = {pid for token in self.tokens for pid in processes.carriers(token)}
        self.lab |= found
        try:
            children = psutil.Process(self.kernel).children(recursive=True)
            self.children |= {child.pid for child in children}
        except psutil.Error:
            pass
        for pid in {self.kernel, *found}:
            try:
                connections = psutil.Process(pid).net_connections("tcp")
                self.ports |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
            except psutil.Error:
                continue

    def left(self) -> dict[str, list]:
        """What of it is still there."""
        carriers = {pid for token in self.tokens for pid in processes.carriers(token)}
        pids = {pid for pid in self.lab | self.guards | self.children | {self.kernel} if alive(pid)} | carriers
        found = {
            "processes": [f"{pid} {' '.join(psutil.Process(pid).cmdline())}" for pid in pids if alive(pid)],
            "ports": [port for port in self.ports if listens(port)],
            "scratch folders": [str(folder) for folder in self.scratch if folder.exists()],
        }
        return {kind: left for kind, left in found.items() if left}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def nothing_left(watched: Watched, within: float) -> None:
    deadline = time.monotonic() + within
    while (left := watched.left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"{within:g} s after the kernel's end: {left}"


async def execute(path: Path, folder: Path, temporary: Path, *, kill: bool) -> Watched:
    """Run the notebook and watch its kernel. With ``kill``, SIGKILL the kernel as soon as it has a lab process."""
    notebook = harness.read(path)
    client = harness.client(notebook, folder)
    env = {key: value for key, value in os.environ.items() if not key.startswith("BEYONDLAB_")} | {"TMPDIR": str(temporary)}
    done = asyncio.Event()
    async with client.async_setup_kernel(env=env):
        watched = Watched(client.km.provisioner.pid)

        async def watch() -> None:
            while not done.is_set():
                await asyncio.to_thread(watched.look)
                if kill and watched.lab and watched.scratch:
                    os.kill(watched.kernel, 9)
                    return
                await asyncio.sleep(0.01 if kill else 0.1)

        watcher = asyncio.create_task(watch())
        try:
            for index, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, index)
                if kill and watcher.done():
                    break
        except DeadKernelError:
            assert kill, "the kernel died"
        finally:
            done.set()
            await watcher
    return watched


def test_nothing_is_left_when_the_kernel_is_killed(path, tmp_path):
    if not harness.starts_a_lab(harness.read(path)):
        pytest.skip("no cell of this notebook is tagged lab")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = harness.copy_of_folder(path, tmp_path / "copy")
    watched = asyncio.run(execute(path, folder, temporary, kill=True))
    assert watched.lab, "a cell is tagged lab, but no process of a lab was seen"
    nothing_left(watched, within=KILL_LIMIT)
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_after_a_full_run(path, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = harness.copy_of_folder(path, tmp_path / "copy")
    before = contents(folder), work_tree()
    watched = asyncio.run(execute(path, folder, temporary, kill=False))
    nothing_left(watched, within=1.0)
    assert (contents(folder), work_tree()) == before
    assert list(temporary.iterdir()) == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def work_tree() -> str:
    done = subprocess.run(["git", "status", "--porcelain"], cwd=harness.ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else "not a git work tree"
