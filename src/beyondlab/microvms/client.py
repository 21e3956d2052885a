"""A client of Firecracker's API on a Unix socket, and the script that boots, snapshots and restores with it.

It drives the course's monitor and the real ``firecracker`` alike, unchanged::

    python -m beyondlab.microvms.client SOCKET boot KERNEL [--initrd FILE] [--args TEXT] [--memory MIB]
    python -m beyondlab.microvms.client SOCKET snapshot STATE MEMORY
    python -m beyondlab.microvms.client SOCKET restore STATE MEMORY

Standard library only.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

BOOT_ARGS = "console=ttyS0 reboot=k panic=1 pci=off"
"""The boot arguments of Firecracker's own getting-started guide."""

LONGEST_PATH = 107
"""Bytes of a socket's path, unix(7). Longer ones are reached through their folder, which needs /proc."""


@dataclass(frozen=True)
class Answer:
    """``status``, the JSON ``document`` or None, and the ``seconds`` that it took."""

    method: str
    path: str
    status: int
    document: Any
    seconds: float

    @property
    def fault(self) -> str | None:
        """The ``fault_message`` of an error document."""
        return self.document.get("fault_message") if isinstance(self.document, dict) else None


class Refused(RuntimeError):
    """The monitor answered with an error; ``answer`` holds it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.method} {answer.path}: {answer.status}: {answer.fault or answer.document}")
        self.answer = answer


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        if len(os.fsencode(self._path)) <= LONGEST_PATH:
            self.sock.connect(self._path)
            return
        folder, name = os.path.split(self._path)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{handle}/{name}")
        finally:
            os.close(handle)


class Client:
    """Requests to the monitor that listens on the Unix socket ``path``; each waits ``timeout`` seconds at most."""

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = 10.0) -> None:
        self._path, self._timeout = os.fspath(path), timeout

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """One request and its answer, whatever its status. Raises OSError where nobody listens."""
        begin = time.perf_counter()
        connection = _Connection(self._path, self._timeout)
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if payload else {})}
            connection.request(method, path, payload, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        document = json.loads(content) if content else None
        return Answer(method, path, response.status, document, time.perf_counter() - begin)

    def _sure(self, method: str, path: str, body: Any = None) -> Answer:
        answer = self.request(method, path, body)
        if answer.status not in (200, 204):
            raise Refused(answer)
        return answer

    def get(self, path: str) -> Any:
        """The document at ``path``. Raises :class:`Refused` for an error."""
        return self._sure("GET", path).document

    def put(self, path: str, **body: Any) -> Answer:
        """PUT a body. Raises :class:`Refused` for an error."""
        return self._sure("PUT", path, body)

    def patch(self, path: str, **body: Any) -> Answer:
        """PATCH a body. Raises :class:`Refused` for an error."""
        return self._sure("PATCH", path, body)


def boot(
    api: Client,
    kernel: str | os.PathLike[str],
    *,
    initrd: str | os.PathLike[str] | None = None,
    arguments: str = BOOT_ARGS,
    memory_mib: int = 128,
    drive: str | os.PathLike[str] | None = None,
    rate_limiter: dict[str, Any] | None = None,
) -> list[Answer]:
    """Configure a microVM of one vCPU and start it; the answers. Raises :class:`Refused` at the first error."""
    source = {"kernel_image_path": os.fspath(kernel), "boot_args": arguments}
    if initrd is not None:
        source["initrd_path"] = os.fspath(initrd)
    answers = [
        api.put("/machine-config", vcpu_count=1, mem_size_mib=memory_mib),
        api.put("/boot-source", **source),
    ]
    if drive is not None:
        limiter = {"rate_limiter": rate_limiter} if rate_limiter else {}
        answers.append(
            api.put("/drives/data", drive_id="data", is_root_device=False, is_read_only=True, path_on_host=os.fspath(drive), **limiter)
        )
    return [*answers, api.put("/actions", action_type="InstanceStart")]


def snapshot(api: Client, state: str | os.PathLike[str], memory: str | os.PathLike[str]) -> list[Answer]:
    """Pause the microVM and write a full snapshot; the answers."""
    return [
        api.patch("/vm", state="Paused"),
        api.put("/snapshot/create", snapshot_type="Full", snapshot_path=os.fspath(state), mem_file_path=os.fspath(memory)),
    ]


def restore(api: Client, state: str | os.PathLike[str], memory: str | os.PathLike[str]) -> list[Answer]:
    """Load a snapshot into a fresh monitor and let it go on; the answers."""
    backend = {"backend_type": "File", "backend_path": os.fspath(memory)}
    return [api.put("/snapshot/load", snapshot_path=os.fspath(state), mem_backend=backend, resume_vm=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket")
    commands = parser.add_subparsers(dest="what", required=True)
    booting = commands.add_parser("boot")
    booting.add_argument("kernel")
    booting.add_argument("--initrd")
    booting.add_argument("--args", default=BOOT_ARGS)
    booting.add_argument("--memory", type=int, default=128)
    for name in ("snapshot", "restore"):
        command = commands.add_parser(name)
        command.add_argument("state")
        command.add_argument("memory")
    given = parser.parse_args()
    api = Client(given.socket)
    if given.what == "boot":
        answers = boot(api, given.kernel, initrd=given.initrd, arguments=given.args, memory_mib=given.memory)
    else:
        answers = {"snapshot": snapshot, "restore": restore}[given.what](api, given.state, given.memory)
    for answer in answers:
        print(f"{answer.method} {answer.path}: {answer.status}, {1e3 * answer.seconds:.1f} ms")


if __name__ == "__main__":
    main()
