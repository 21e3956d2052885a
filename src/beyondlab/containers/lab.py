"""The lab of "What is a container?": the notebook's own functions as a container, and real OCI tools on its images.

What the notebook defines runs in a process of its own (:func:`isolated`), never in the notebook's kernel. Everything is
started through :mod:`beyondlab.kit.processes`; mounts live in mount namespaces and end with them, control groups are
removed by :mod:`beyondlab.kit.cgroups` or, where an OCI runtime makes them, by the guard.
"""

from __future__ import annotations

import ctypes
import inspect
import itertools
import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from beyondlab.containers import images
from beyondlab.kit import cgroups, check, namespaces, processes
from beyondlab.kit.processes import Process
from beyondlab.kit.recordings import Lab

NAME = "what-is-a-container"
RUNTIMES = ("crun", "runc")
_serial = itertools.count(1)


def _version(program: str) -> Callable[[], str]:
    def find() -> str:
        said = images._output(program, "--version").split()
        return next((word for word in said if word[:1].isdigit()), "not installed")

    return find


def _absent(*programs: str) -> str | None:
    absent = [name for name in programs if shutil.which(name) is None]
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed" if absent else None


def _tools_missing() -> str | None:
    return _absent("skopeo", "umoci")


@cache
def _runtime_missing() -> str | None:
    """Really tried: a container that does nothing, in each runtime."""
    if reason := _absent(*RUNTIMES) or _tools_missing() or namespaces.missing():
        return reason
    try:
        with bundle(images.image([images.tar(images.root_files(["sh", "true"]))], command=["/bin/true"])) as made:
            for runtime in RUNTIMES:
                made.run(runtime)
    except (OSError, RuntimeError, LookupError) as error:
        return str(error).splitlines()[0]
    return None


lab = Lab(NAME, missing=namespaces.missing)
"""Experiments that need namespaces."""

@contextmanager
def memory_group() -> Iterator[cgroups.Group | None]:
    """A control group that counts memory, without a limit yet; None where this machine does not let us make one."""
    if cgroups.missing("memory"):
        yield None
        return
    with cgroups.unlimited("memory") as group:
        yield group


memory_lab = Lab(NAME, missing=lambda: namespaces.missing() or cgroups.missing("memory"))
"""Experiments that need namespaces and a memory limit."""

cpu_lab = Lab(NAME, missing=lambda: cgroups.missing("cpu"))
"""Experiments that need a CPU limit."""

tools_lab = Lab(NAME, missing=_tools_missing, binaries={name: _version(name) for name in ("skopeo", "umoci")})
"""Experiments that need skopeo and umoci."""

runtime_lab = Lab(NAME, missing=_runtime_missing, binaries={name: _version(name) for name in RUNTIMES})
"""Experiments that run containers with crun and runc."""


@dataclass(frozen=True)
class Ran:
    """What came of a function that ran in a process of its own: what it wrote, what it returned, seconds a call."""

    output: str
    returned: tuple[Any, ...]
    seconds: tuple[float, ...]


_HARNESS = """
import ctypes, json, os, sys, time

{sources}

arguments, count, answer = json.loads(sys.argv[1])
returned, seconds = [], []
for _ in range(count):
    begin = time.perf_counter()
    returned.append({name}(*arguments))
    seconds.append(time.perf_counter() - begin)
with open(answer, "w") as file:
    json.dump([returned, seconds], file)
"""


def isolated(
    function: Callable[..., Any],
    *helpers: Callable[..., Any],
    arguments: Sequence[Any] = (),
    count: int = 1,
    timeout: float = 60.0,
) -> Ran:
    """Run ``function(*arguments)`` ``count`` times in a fresh Python process that knows ``helpers`` and nothing else.

    The source of the functions is what is run, so they may use each other and the modules ctypes, json, os, sys and
    time. ``arguments`` and what is returned must be JSON. Raises RuntimeError with the last lines of output if the
    process fails, TimeoutError after ``timeout`` seconds, ValueError for a bad ``count``.
    """
    check.whole("count", count, 1)
    sources = "\n\n".join(textwrap.dedent(inspect.getsource(part)) for part in (*helpers, function))
    with processes.scratch("isolated-") as folder:
        program, answer = folder / "program.py", folder / "answer.json"
        program.write_text(_HARNESS.format(sources=sources, name=function.__name__))
        values = json.dumps([list(arguments), count, str(answer)])
        argv = [sys.executable, "-I", "-S", str(program), values]
        with Process(argv, name=function.__name__, stop_timeout=1.0) as process:
            status = process.wait(timeout)
            output = process.output(1000)
        if status or not answer.exists():
            last = output.splitlines()[-1] if output else "it wrote nothing"
            raise RuntimeError(f"{function.__name__} ended with status {status}: {last}")
        returned, seconds = json.loads(answer.read_text())
    return Ran(output, tuple(returned), tuple(seconds))


@contextmanager
def root_folder(programs: Sequence[str] = images.APPLETS) -> Iterator[str]:
    """A root file system built from what is on this machine, in a folder that goes with the block."""
    with processes.scratch("root-") as folder:
        root = folder / "root"
        images.unpack([images.tar(images.root_files(programs))], root)
        for name in ("proc", "dev", "tmp"):
            (root / name).mkdir(exist_ok=True)
        yield str(root)


def _run(argv: Sequence[str], *, timeout: float = 60.0, ok: bool = True) -> str:
    """Run a program to its end; its output. Raises RuntimeError if it fails and ``ok`` asks for success."""
    with Process(argv, stop_timeout=1.0) as process:
        status = process.wait(timeout)
        output = process.output(1000)
    if status and ok:
        raise RuntimeError(f"{Path(argv[0]).name} ended with status {status}: {output}")
    return output


def inspect_with_skopeo(layout: Path, tag: str) -> dict[str, Any]:
    """What skopeo reads in an image layout: Digest, Layers, Os, Architecture, Labels, Env."""
    return json.loads(_run(["skopeo", "inspect", f"oci:{layout}:{tag}"]))


def unpack_with_umoci(layout: Path, tag: str, target: Path) -> Path:
    """Unpack an image to an OCI bundle in ``target``; the folder of its root file system."""
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    _run(["umoci", "unpack", *rootless, "--image", f"{layout}:{tag}", str(target)])
    return target / "rootfs"


@dataclass(frozen=True)
class Bundle:
    """A folder that an OCI runtime can run: ``config.json`` and ``rootfs``."""

    folder: Path

    def run(self, runtime: str, *, count: int = 1, timeout: float = 60.0) -> tuple[str, tuple[float, ...]]:
        """Run it ``count`` times to its end with ``runtime``: what it wrote, and the seconds of each, start to end.

        The runtime's state and log lie beside the bundle; its control groups are noted for the guard. crun refuses a
        machine on which a version 2 tree lies beside version 1: that tree is unmounted in the mount namespace of the
        process that starts it. Raises RuntimeError if a run fails.
        """
        name = f"beyondlab-{processes.owner_token()}-oci-{next(_serial)}"
        file = self.folder / "config.json"
        config = json.loads(file.read_text())
        config["linux"]["cgroupsPath"] = f"/{name}"
        file.write_text(json.dumps(config))
        groups = [folder / name for folder in (cgroups.ROOT, *cgroups.ROOT.glob("*/")) if folder.is_dir()]
        for group in groups:
            processes.remember_folder(group)
        state, log = self.folder.parent / "state", self.folder.parent / "log"
        path = shutil.which(runtime) or runtime
        argv = [path, "--root", str(state), "--log", str(log), "run", "--bundle", str(self.folder), name]
        hybrid = cgroups.ROOT / "unified"
        hidden = str(hybrid) if os.path.ismount(hybrid) else ""
        try:
            ran = isolated(_run_often, arguments=[argv, count, hidden], timeout=timeout)
        except RuntimeError as error:
            said = log.read_text().strip() if log.exists() else ""
            raise RuntimeError(f"{runtime}: {error} {said}".strip()) from None
        finally:
            processes.remove_folders([group for group in groups if group.exists()])
        return ran.output, tuple(ran.returned[0])


def _run_often(argv: list[str], count: int, hidden: str) -> list[float]:
    """In a process of its own (:func:`isolated`): the seconds of each run, ``hidden`` being unmounted before."""
    if hidden:
        libc = ctypes.CDLL(None, use_errno=True)
        private = ctypes.c_ulong(0x44000)  # MS_REC | MS_PRIVATE
        if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, private, None) or libc.umount2(hidden.encode(), 2):
            sys.exit(f"{hidden} cannot be hidden: {os.strerror(ctypes.get_errno())}")
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        child = os.posix_spawn(argv[0], argv, os.environ)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds.append(time.perf_counter() - begin)
        if status:
            sys.exit(f"exit status {status}")
    return seconds


@contextmanager
def bundle(image: images.Image, command: Sequence[str] | None = None) -> Iterator[Bundle]:
    """An OCI bundle that umoci makes of ``image``, without a terminal; ``command`` replaces the image's."""
    with processes.scratch("layout-") as folder:
        images.write_layout(folder, {"lab": image})
        with bundle_of(folder, "lab", command) as made:
            yield made


@contextmanager
def bundle_of(layout: Path, tag: str, command: Sequence[str] | None = None) -> Iterator[Bundle]:
    """An OCI bundle that umoci makes of the image ``tag`` in the image layout ``layout``, whoever wrote it."""
    with processes.scratch("bundle-") as folder:
        unpack_with_umoci(layout, tag, folder / "bundle")
        file = folder / "bundle" / "config.json"
        config = json.loads(file.read_text())
        config["process"]["terminal"] = False
        if command is not None:
            config["process"]["args"] = list(command)
        file.write_text(json.dumps(config))
        yield Bundle(folder / "bundle")


_BURN = """
import json, os, sys, time
doors, work, threads = json.loads(sys.argv[1])
start, go = os.pipe()
children = []
for _ in range(threads):
    child = os.fork()
    if child == 0:
        os.close(go)
        for door in doors:
            with open(door, "w") as file:
                file.write("0")
        os.read(start, 1)
        until = time.process_time() + work / threads
        while time.process_time() < until:
            pass
        os._exit(0)
    children.append(child)
os.close(start)
time.sleep(0.02)
begin = time.perf_counter()
os.write(go, b"x" * threads)
for child in children:
    os.waitpid(child, 0)
print(time.perf_counter() - begin)
"""


@dataclass(frozen=True)
class Burst:
    """A burst of work under a CPU limit, as measured: seconds, and what the kernel counted."""

    seconds: float
    stat: cgroups.CpuStat


def burn(work: float, limit: float, *, threads: int = 1, period: float = 0.1) -> Burst:
    """``work`` CPU-seconds, spread over ``threads`` processes in a control group limited to ``limit`` processors.

    The burst begins at an unknown moment of a period. Raises :class:`beyondlab.kit.cgroups.CannotLimit` where no limit
    can be set; ValueError if more threads are asked for than this machine has processors.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= threads <= processors:
        raise ValueError(f"threads={threads!r}: must be 1 to {processors}, one a processor")
    check.positive("work", work, "CPU-seconds")
    with cgroups.group(cpu=limit, period=period) as group:
        argv = [sys.executable, "-I", "-S", "-c", _BURN, json.dumps([group.doors, work, threads])]
        seconds = float(_run(argv, timeout=30 + 20 * work / limit).splitlines()[-1])
        return Burst(seconds, group.cpu_stat())
