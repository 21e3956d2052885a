"""A real Envoy between the consumer and the model server, with the parts of the lab of "Service mesh"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from beyondlab.mesh import xds
from beyondlab.mesh.lab import CLUSTER, LISTENER, Envoy

SERVICE = "model"


@contextmanager
def before(address: str, folder: Path) -> Iterator[tuple[str, Envoy]]:
    """An Envoy that passes calls on to ``address``, running; its own address, and itself. ``folder``: for its files."""
    port = urlsplit(address).port
    if port is None:
        raise ValueError(f"address={address!r}: must name a port")
    files = xds.Files(folder)
    files.publish("clusters", CLUSTER, [xds.static_cluster(SERVICE, [port])])
    files.publish("listeners", LISTENER, [xds.listener("in", xds.plain_route(SERVICE))])
    with Envoy("capstone", files) as envoy:
        yield f"http://127.0.0.1:{envoy.ports()['in']}", envoy


def passed(envoy: Envoy) -> int:
    """Calls that it has passed on."""
    return envoy.stat(f"cluster.{SERVICE}.upstream_rq_total")
