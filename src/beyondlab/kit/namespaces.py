"""Commands in fresh namespaces, the way containers start them: with a root file system and a memory limit if wanted.

Nothing is left behind: processes and control groups go with the block, and with this interpreter if it is killed
(:mod:`.processes`). The interpreter itself never enters a namespace; a launcher process (``_namespaces``) does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

from beyondlab.kit import _namespaces, cgroups, check
from beyondlab.kit.processes import Process

ISOLATED = ("mount", "pid", "uts", "ipc", "net")
"""The namespaces that a command gets; a user namespace comes on top where this user is not root."""


class CannotIsolate(RuntimeError):
    """The namespaces could not be made; the message holds what the launcher said."""


@dataclass(frozen=True)
class Finished:
    """How a command ended: status (128 + number for a signal), what it wrote, how many of its processes the kernel
    killed for want of memory (0 without a limit)."""

    status: int
    output: str
    oom_kills: int = 0


@cache
def missing() -> str | None:
    """Why no namespaces can be made here; None if they can. Really tried: a command is started in them."""
    if sys.platform != "linux":
        return "namespaces are part of Linux"
    try:
        finished = run(["true"], timeout=5.0)
    except (CannotIsolate, TimeoutError) as error:
        return str(error)
    return None if finished.status == 0 else f"a command in namespaces ended with status {finished.status}"


def command(
    argv: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    namespaces: Sequence[str] = ISOLATED,
    hostname: str = "container",
    doors: Sequence[str] = (),
    count: int = 0,
) -> list[str]:
    """The argument list that runs ``argv`` in new ``namespaces``: for :class:`beyondlab.kit.processes.Process`.

    ``root``: a folder that becomes the root file system; the machine's own otherwise. ``namespaces``: names of
    ``_namespaces.FLAGS``; none at all is a plain fork and exec. ``doors``: the ``cgroup.procs`` files to enter by.
    ``count``: start it so many times and print the seconds of each, as a JSON list.

    Raises ValueError for an empty ``argv``, an unknown namespace, a ``root`` that is no folder or comes without a mount
    namespace, a bad host name, a negative count.
    """
    if isinstance(argv, (str, bytes)) or not argv:
        raise ValueError(f"argv={argv!r}: must be a list of the program and its arguments")
    unknown = [name for name in namespaces if name not in _namespaces.FLAGS]
    if unknown:
        raise ValueError(f"namespaces={unknown[0]!r}: must be among {', '.join(_namespaces.FLAGS)}")
    if root is not None and not (os.path.isdir(root) and "mount" in namespaces):
        raise ValueError(f"root={os.fspath(root)!r}: must be a folder, and needs a mount namespace")
    if not 1 <= len(hostname) <= 64:
        raise ValueError(f"hostname={hostname!r}: must have 1 to 64 characters")
    check.whole("count", count, 0)
    names = list(dict.fromkeys(namespaces))
    if names and hasattr(os, "geteuid") and os.geteuid() != 0 and "user" not in names:
        names.append("user")
    specification = {
        "argv": [os.fspath(part) for part in argv],
        "namespaces": names,
        "root": None if root is None else os.path.realpath(root),
        "hostname": hostname,
        "doors": list(doors),
        "count": count,
    }
    return [sys.executable, "-I", "-S", _namespaces.__file__, json.dumps(specification)]


@contextmanager
def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    namespaces: Sequence[str] = ISOLATED,
    hostname: str = "container",
) -> Iterator[Process]:
    """``argv`` running in new namespaces, for as long as the block lasts.

    ``memory``: limit in bytes, by a control group. The process is the launcher's: its descendants are the command.
    Raises :class:`beyondlab.kit.cgroups.CannotLimit` where a limit cannot be set, and ValueError as :func:`command`.
    """
    with ExitStack() as stack:
        doors = stack.enter_context(cgroups.group(memory=memory)).doors if memory is not None else []
        argv = command(argv, root=root, namespaces=namespaces, hostname=hostname, doors=doors)
        yield stack.enter_context(Process(argv, name="namespaces", stop_timeout=1.0))


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    namespaces: Sequence[str] = ISOLATED,
    hostname: str = "container",
    timeout: float = 10.0,
) -> Finished:
    """Run ``argv`` in new namespaces to its end. Arguments as for :func:`start`; ``timeout`` in seconds.

    Raises TimeoutError after ``timeout``, :class:`CannotIsolate` where the kernel refuses.
    """
    with ExitStack() as stack:
        group = stack.enter_context(cgroups.group(memory=memory)) if memory is not None else None
        argv = command(argv, root=root, namespaces=namespaces, hostname=hostname, doors=group.doors if group else ())
        status, output = _to_its_end(argv, timeout)
        return Finished(status, output, group.oom_kills() if group else 0)


def start_times(
    argv: Sequence[str | os.PathLike[str]],
    count: int,
    *,
    root: str | os.PathLike[str] | None = None,
    memory: int | None = None,
    namespaces: Sequence[str] = ISOLATED,
    timeout: float = 60.0,
) -> list[float]:
    """Seconds from the first fork to the end of ``argv``, for ``count`` starts one after another.

    One launcher starts them all, so its own start does not count; all share one control group if there is a ``memory``
    limit. ``namespaces=()`` is the plain process to compare with. Errors as for :func:`run`; RuntimeError if the
    command fails.
    """
    check.whole("count", count, 1)
    with ExitStack() as stack:
        doors = stack.enter_context(cgroups.group(memory=memory)).doors if memory is not None else []
        status, output = _to_its_end(command(argv, root=root, namespaces=namespaces, doors=doors, count=count), timeout)
    if status:
        raise RuntimeError(f"{os.fspath(argv[0])} ended with status {status}: {output}")
    return json.loads(output.splitlines()[-1])


def _to_its_end(argv: Sequence[str], timeout: float) -> tuple[int, str]:
    with Process(argv, name="namespaces", stop_timeout=1.0) as process:
        status = process.wait(timeout)
        output = process.output(10_000)
    if status == _namespaces.CANNOT and "namespaces: " in output:
        raise CannotIsolate(output.partition("namespaces: ")[2].strip())
    return status, output
