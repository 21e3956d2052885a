"""Firecracker's API in front of the course's monitor, one process a microVM as with the real one::

    python -m beyondlab.microvms.firecracker --api-sock PATH

It takes the requests of :data:`beyondlab.microvms.openapi.firecracker`, refuses what does not fit that document, and
honours what :class:`~beyondlab.microvms.vmm.Vm` can do: one vCPU, a guest of the course as the kernel, a drive to read,
rate limits on it, pause, snapshot, restore. Everything else gets Firecracker's error document, a ``fault_message``, with
status 400. Wordings in quotation of Firecracker's are those of src/vmm/src/rpc_interface.rs and its API server.

The guest's serial line is this process's standard output, as with Firecracker.
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from beyondlab.microvms import guests, openapi
from beyondlab.microvms.cpu import BadInstruction
from beyondlab.microvms.kvm import KvmError
from beyondlab.microvms.rate_limiter import RateLimiter
from beyondlab.microvms.vmm import Processor, SnapshotError, Vm, processor_here

POST_BOOT = "The requested operation is not supported after starting the microVM."
PRE_BOOT = "The requested operation is not supported before starting the microVM."
NO_KERNEL = "Start microvm error: Cannot start microvm without kernel configuration."
LOAD_NOT_ALLOWED = (
    "Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources."
)
NOT_OFFERED = "The requested operation is not supported: the course's monitor has no {}."
BAD_BODY = "An error occurred when deserializing the json body of a request: {}."
LONGEST_BODY = 51_200
"""Bytes of a request's body that are read: Firecracker's own default, ``--http-api-max-payload-size``."""
_POLL = 0.001


class Fault(Exception):
    """A request that cannot be honoured; the message is its ``fault_message``."""


class Instance:
    """The microVM of one monitor process and its life: not started, running, paused."""

    def __init__(self, name: str = "anonymous-instance", *, processor: Processor | None = None) -> None:
        self.name, self._processor = name, processor
        self._lock = threading.RLock()
        self.config: dict[str, Any] = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
        self.source: dict[str, Any] | None = None
        self.drives: dict[str, dict[str, Any]] = {}
        self.state = "Not started"
        self.failure: str | None = None
        self._vm: Vm | None = None
        self._go, self._stopped = threading.Event(), threading.Event()

    def handle(self, method: str, path: str, raw: bytes) -> tuple[int, Any]:
        """Status and document for one request."""
        try:
            return self._handle(method, path, raw)
        except Fault as fault:
            return 400, {"fault_message": str(fault)}
        except (OSError, ValueError) as error:
            return 400, {"fault_message": f"{path.strip('/')}: {getattr(error, 'strerror', None) or error}"}

    def _handle(self, method: str, path: str, raw: bytes) -> tuple[int, Any]:
        found = openapi.operation(method, path)
        if found is None:
            device = path.strip("/")
            if any(path == one.replace("{id}", path.rpartition("/")[2]) for one in openapi.firecracker()["x-not-offered"]):
                raise Fault(NOT_OFFERED.format(device))
            raise Fault(f"Invalid request method and/or path: {method} {device}.")
        template, operation, names = found
        schema = openapi.body_schema(operation)
        body = self._body(raw, schema, partial=(method, template) == ("PATCH", "/machine-config")) if schema else None
        for name, value in names.items():
            if body[name] != value:
                raise Fault(f"The id from the path [{value}] does not match the id from the body [{body[name]}]!")
        with self._lock:
            document = getattr(self, "_" + _ACTIONS[method, template])(body)
        return (204, None) if document is None else (200, document)

    def _body(self, raw: bytes, schema: Any, *, partial: bool) -> Any:
        try:
            body = json.loads(raw or b"")
            openapi.check(body, schema, partial=partial)
        except json.JSONDecodeError as error:
            raise Fault(BAD_BODY.format(f"{error.msg} at line {error.lineno} column {error.colno}")) from error
        except UnicodeDecodeError as error:
            raise Fault(BAD_BODY.format(f"invalid unicode code point at byte {error.start}")) from error
        except RecursionError as error:
            raise Fault(BAD_BODY.format("recursion limit exceeded")) from error
        except openapi.Invalid as error:
            raise Fault(BAD_BODY.format(error)) from error
        return body

    def _before_start(self) -> None:
        if self.state != "Not started":
            raise Fault(POST_BOOT)

    def _after_start(self) -> None:
        if self.state == "Not started":
            raise Fault(PRE_BOOT)

    def _describe(self, _: Any) -> dict[str, Any]:
        return {"app_name": "beyondlab", "id": self.name, "state": self.state, "vmm_version": self._version_text()}

    @staticmethod
    def _version_text() -> str:
        from importlib import metadata

        return f"course-{metadata.version('beyondlab')}"

    def _version(self, _: Any) -> dict[str, Any]:
        return {"firecracker_version": self._version_text()}

    def _get_config(self, _: Any) -> dict[str, Any]:
        return dict(self.config)

    def _full_config(self, _: Any) -> dict[str, Any]:
        source = {"boot-source": self.source} if self.source else {}
        return {"machine-config": dict(self.config), "drives": list(self.drives.values()), "network-interfaces": [], **source}

    def _configure(self, body: dict[str, Any]) -> None:
        self._before_start()
        wanted = self.config | body
        if wanted["vcpu_count"] != 1 or wanted["smt"]:
            raise Fault("Machine config error: The course's monitor has one vCPU, without SMT.")
        if not 1 <= wanted["mem_size_mib"] <= 4096:
            raise Fault("Machine config error: The memory size (MiB) is invalid: the course's monitor takes 1 to 4096.")
        for name, plain in (("track_dirty_pages", False), ("huge_pages", "None"), ("cpu_template", "None")):
            if wanted.get(name, plain) != plain:
                raise Fault(NOT_OFFERED.format(name))
        self.config = wanted

    def _boot_source(self, body: dict[str, Any]) -> None:
        self._before_start()
        kernel = Path(body["kernel_image_path"])
        if not kernel.is_file():
            raise Fault(f"Boot source error: The kernel file cannot be opened: {kernel.name}: no such file.")
        self.source = body

    def _drive(self, body: dict[str, Any]) -> None:
        self._before_start()
        if body["is_root_device"] or not body.get("is_read_only", False) or "socket" in body:
            raise Fault("Drive config error: The course's monitor has drives to read only, and no root device.")
        if not Path(body.get("path_on_host", "")).is_file():
            raise Fault("Drive config error: Unable to open or seek the backing file.")
        if set(self.drives) - {body["drive_id"]}:
            raise Fault("Drive config error: The course's monitor has one drive.")
        self.drives[body["drive_id"]] = body

    def _update_drive(self, body: dict[str, Any]) -> None:
        self._after_start()
        if body["drive_id"] not in self.drives or "path_on_host" in body:
            raise Fault("Drive config error: Only the rate limiter of a configured drive can be changed.")
        drive = self.drives[body["drive_id"]]
        if body.get("rate_limiter"):  # a bucket that is not named stays as it is
            drive["rate_limiter"] = drive.get("rate_limiter", {}) | body["rate_limiter"]
            self._vm.limit(body["rate_limiter"])

    def _network(self, body: dict[str, Any]) -> None:
        raise Fault(NOT_OFFERED.format("network device"))

    def _action(self, body: dict[str, Any]) -> None:
        if body["action_type"] != "InstanceStart":
            self._after_start()
            raise Fault(NOT_OFFERED.format(body["action_type"]))
        self._before_start()
        if self.source is None:
            raise Fault(NO_KERNEL)
        code = Path(self.source["kernel_image_path"]).read_bytes()
        if code[:4] == b"\x7fELF" or len(code) > 0x8000:
            raise Fault("Start microvm error: Cannot load kernel: the course's monitor runs its own 16-bit guests only.")
        drive = next(iter(self.drives.values()), {})
        vm = Vm(
            self.config["mem_size_mib"],
            processor=self._processor,
            drive=drive.get("path_on_host"),
            limiter=RateLimiter.from_document(drive.get("rate_limiter")),
        )
        vm.load(code)
        self._start(vm, running=True)

    def _start(self, vm: Vm, *, running: bool) -> None:
        self._vm, self.state = vm, "Running" if running else "Paused"
        if running:
            self._go.set()
        self._thread = threading.Thread(target=self._vcpu, name="vcpu", daemon=True)
        self._thread.start()

    def _vcpu(self) -> None:
        """The vCPU's thread: let the guest run from exit to exit; stand still where it is paused."""
        vm = self._vm
        try:
            while True:
                if not self._go.is_set():
                    self._stopped.set()
                    self._go.wait()
                    self._stopped.clear()
                shown = len(vm.console)
                try:
                    left = vm.run(exits=1)
                except TimeoutError:
                    left = None
                if len(vm.console) > shown:
                    sys.stdout.buffer.write(vm.console[shown:])
                    sys.stdout.flush()
                elif left is None:
                    time.sleep(_POLL)
                if left is not None and left.kind == "halt":
                    break
        except (BadInstruction, KvmError) as error:
            self.failure = str(error)
        finally:
            self._stopped.set()

    def _change(self, body: dict[str, Any]) -> None:
        self._after_start()
        if body["state"] == "Paused":
            self._go.clear()
            if self._thread.is_alive() and not self._stopped.wait(5.0):
                raise Fault("Internal Vmm error: the vCPU did not stop within 5 s.")
            self.state = "Paused"
        else:
            self._stopped.clear()
            self._go.set()
            self.state = "Running"

    def _create(self, body: dict[str, Any]) -> None:
        self._after_start()
        if self.state != "Paused":
            raise Fault("Create snapshot error: Cannot save the state of a microVM that is not paused.")
        if body.get("snapshot_type", "Full") != "Full":
            raise Fault(NOT_OFFERED.format("diff snapshots"))
        self._vm.snapshot(body["snapshot_path"], body["mem_file_path"])

    def _load(self, body: dict[str, Any]) -> None:
        self._before_start()
        if self.source is not None or self.drives:
            raise Fault(LOAD_NOT_ALLOWED)
        backend = body.get("mem_backend")
        if ("mem_file_path" in body) == (backend is not None):
            raise Fault("too many fields: either `mem_backend` or `mem_file_path` exclusively is required")
        if backend is not None and backend["backend_type"] != "File":
            raise Fault(NOT_OFFERED.format("page-fault handler"))
        others = {"enable_diff_snapshots", "track_dirty_pages", "network_overrides", "vsock_override", "clock_realtime"}
        if wanted := [name for name in others if body.get(name)]:
            raise Fault(NOT_OFFERED.format(min(wanted)))
        try:
            vm = Vm.restore(body["snapshot_path"], backend["backend_path"] if backend else body["mem_file_path"], processor=self._processor)
        except (OSError, SnapshotError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise Fault(f"Load snapshot error: Failed to restore from snapshot: {reason}") from error
        self.config["mem_size_mib"] = len(vm.memory) >> 20
        self._start(vm, running=body.get("resume_vm", False))


_ACTIONS = {
    ("GET", "/"): "describe", ("GET", "/version"): "version", ("GET", "/machine-config"): "get_config",
    ("GET", "/vm/config"): "full_config", ("PUT", "/machine-config"): "configure", ("PATCH", "/machine-config"): "configure",
    ("PUT", "/boot-source"): "boot_source", ("PUT", "/drives/{drive_id}"): "drive",
    ("PATCH", "/drives/{drive_id}"): "update_drive", ("PUT", "/network-interfaces/{iface_id}"): "network",
    ("PATCH", "/network-interfaces/{iface_id}"): "network", ("PUT", "/actions"): "action", ("PATCH", "/vm"): "change",
    ("PUT", "/snapshot/create"): "create", ("PUT", "/snapshot/load"): "load",
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        length = self.headers.get("Content-Length") or "0"
        if length.isdecimal() and int(length) <= LONGEST_BODY:
            status, document = self.server.instance.handle(self.command, self.path, self.rfile.read(int(length)))
        else:
            status, document = 400, {"fault_message": f"Invalid Content-Length: {length}; at most {LONGEST_BODY} bytes."}
            self.close_connection = True
        payload = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if payload:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: the standard output is the guest's."""

    def address_string(self) -> str:
        return "unix"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, instance: Instance) -> None:
        self.instance = instance
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error of the server; told on the console, it would tear the guest's words."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description="The course's monitor behind Firecracker's API.")
    parser.add_argument("--api-sock", required=True)
    parser.add_argument("--id", default="anonymous-instance")
    parser.add_argument("--processor", choices=["kvm", "interpreter"])
    given = parser.parse_args()
    with _Server(given.api_sock, Instance(given.id, processor=given.processor or processor_here())) as server:
        try:
            server.serve_forever(poll_interval=0.05)
        finally:
            os.unlink(given.api_sock)


if __name__ == "__main__":
    main()
