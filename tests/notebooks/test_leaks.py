"""A notebook leaves nothing behind, run as learners do: cells twice, in two windows, its kernel killed in mid-lab.

One test does it all, since each window needs a whole run of the notebook. It also measures what one window takes.
"""

import asyncio
import copy
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import budget
import harness
import psutil
from beyondlab.kit import _guard, processes
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

END_LIMIT, KILL_LIMIT = 2.0, 5.0
LOOK_EVERY = 0.5


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
    peak: int = 0
    """Bytes of memory of the kernel, its guard and its labs together, the most that was seen."""
    cpu: float = 0.0
    """CPU seconds of the kernel and of what it has waited for, when its last cell was done."""

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
            present = {child.pid for child in children} | found | self.guards
            self.children |= {child.pid for child in children}
            self.peak = max(self.peak, budget.resident(present | {self.kernel}))
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
            "ports": [port for port in self.ports if listens(port) and not a_neighbours(port)],
            "scratch folders": [str(folder) for folder in self.scratch if folder.exists()],
        }
        return {kind: left for kind, left in found.items() if left}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def a_neighbours(port: int) -> bool:
    """Whether all who listen on it descend from this test run: another window or worker got the number, free again.

    What a dead kernel leaves behind has no living ancestor in the run: it is handed to process 1.
    """
    run = {os.getpid(), os.getppid()} - {1}
    holders = {
        connection.pid for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    }  # fmt: skip
    return bool(holders) and all(pid and run & {pid, *ancestors(pid)} for pid in holders)


def ancestors(pid: int) -> set[int]:
    try:
        return {parent.pid for parent in psutil.Process(pid).parents()}
    except psutil.NoSuchProcess:
        return set()


def nothing_left(watched: Watched, within: float) -> None:
    deadline = time.monotonic() + within
    while (left := watched.left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"{within:g} s after the kernel's end: {left}"


async def execute(notebook: NotebookNode, folder: Path, temporary: Path, *, kill: bool = False) -> Watched:
    """Run the notebook and watch its kernel, which leaves nothing. With ``kill``, it is killed at the end in mid-lab."""
    client = harness.client(notebook, folder)
    env = {key: value for key, value in os.environ.items() if not key.startswith("BEYONDLAB_")} | {"TMPDIR": str(temporary)}
    done = asyncio.Event()
    async with client.async_setup_kernel(env=env):
        watched = Watched(client.km.provisioner.pid)

        async def watch() -> None:
            while not done.is_set():
                await asyncio.to_thread(watched.look)
                await asyncio.sleep(LOOK_EVERY)

        watcher = asyncio.create_task(watch())
        try:
            for index, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, index)
            watched.cpu = sum(psutil.Process(watched.kernel).cpu_times()[:4])
        finally:
            done.set()
            await watcher
        if kill:
            await killed_in_mid_lab(client, watched)
    await asyncio.to_thread(nothing_left, watched, within=KILL_LIMIT if kill else END_LIMIT)
    return watched


async def killed_in_mid_lab(client: NotebookClient, watched: Watched) -> None:
    """Run the cells that start a lab once more, and SIGKILL the kernel as soon as there is a process of theirs."""

    def carriers() -> set[int]:
        return {pid for token in watched.tokens for pid in processes.carriers(token)}

    before = carriers()
    for index, cell in enumerate(client.nb.cells):
        if "lab" in harness.tags(cell):
            again = asyncio.create_task(client.async_execute_cell(copy.deepcopy(cell), index))
            while not again.done():
                await asyncio.sleep(0.01)
                if carriers() - before:
                    watched.look()
                    os.kill(watched.kernel, signal.SIGKILL)
                    with suppress(DeadKernelError):
                        await again
                    return
            await again
    raise AssertionError("a cell is tagged lab, but no process of a lab was seen")


def doubled(stored: NotebookNode) -> NotebookNode:
    """The notebook with every code cell standing twice in a row."""
    twice = copy.deepcopy(stored)
    twice.cells = []
    for cell in stored.cells:
        first, second = copy.deepcopy(cell), copy.deepcopy(cell)
        first.id, second.id = f"{cell.id}-1"[-64:], f"{cell.id}-2"[-64:]
        twice.cells += [first, second] if cell.cell_type == "code" else [first]
    return twice


def second_runs(executed: NotebookNode) -> NotebookNode:
    """Of a doubled notebook, the second run of each code cell."""
    kept = copy.deepcopy(executed)
    kept.cells = harness.code(executed)[1::2]
    return kept


def test_cells_twice_beside_a_second_window_do_no_harm_and_leave_nothing(path, tmp_path):
    """One copy runs every cell twice in a row, another copy runs at the same time in the same folder.

    The first kernel ends in good order; the second is killed in mid-lab if the notebook has a lab. The second has run
    the notebook once, with all labs that this machine allows: that must keep within the budget.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder = harness.copy_of_folder(path, tmp_path / "copy")
    before = contents(folder), work_tree()
    stored, other = harness.read(path), harness.read(path)
    twice, kill = doubled(stored), harness.starts_a_lab(stored)

    async def both() -> list[Watched]:
        windows = execute(twice, folder, temporary), execute(other, folder, temporary, kill=kill)
        return await asyncio.gather(*windows)

    _, second = asyncio.run(both())
    harness.assert_same_outputs(stored, second_runs(twice), "second run of a cell")
    harness.assert_same_outputs(stored, other, "a second window")
    assert (contents(folder), work_tree()) == before
    assert list(temporary.iterdir()) == []
    assert second.peak < budget.BYTES, f"{second.peak / 1e6:.0f} MB of memory"
    assert second.cpu < budget.CPU_SECONDS, f"{second.cpu:.0f} s of CPU"


def test_a_port_of_a_neighbour_is_not_what_is_left_and_that_of_an_orphan_is():
    listen = "import os, socket\ns = socket.create_server(('127.0.0.1', 0))\n{fork}"
    say = "print(s.getsockname()[1], os.getpid(), flush=True)\ninput()"
    for fork, neighbours in (("", True), ("if os.fork(): os._exit(0)\n", False)):
        command = [sys.executable, "-c", listen.format(fork=fork) + say]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            port, pid = map(int, process.stdout.readline().split())
            what = "the fork to be an orphan"
            processes.wait_until(lambda: (os.getpid() in ancestors(pid)) == neighbours, timeout=5, what=what)
            assert listens(port) and a_neighbours(port) == neighbours
            process.communicate(b"\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def work_tree() -> str:
    done = subprocess.run(["git", "status", "--porcelain"], cwd=harness.ROOT, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else "not a git work tree"
