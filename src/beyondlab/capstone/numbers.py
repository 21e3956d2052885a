"""The numbers that the composed simulation assumes, each with where it comes from; and the microvms chapter's walls.

Recordings of the chapters vary with the machine; what a simulation needs is rounded here once, so that it gives the
same everywhere. A test holds the rounded figures to the recordings, within a factor of ten.
"""

from __future__ import annotations

from dataclasses import dataclass

from beyondlab.capstone.plan import ATTEMPTS as _ATTEMPTS
from beyondlab.capstone.plan import BATCH
from beyondlab.inference import batching
from beyondlab.kit.tables import Table, table
from beyondlab.mesh import tax
from beyondlab.microvms import isolation
from beyondlab.microvms.model import Wall


@dataclass(frozen=True)
class Number:
    """One assumed number: ``value`` in ``unit``, and ``source``: where it was recorded, published, or why it was chosen."""

    what: str
    value: float
    unit: str
    source: str


INIT = Number("init of a function with the model", 0.35, "s", "recorded in Serverless for machine learning, small model, rounded")
POD = Number("start of a pod, image on the node", 2.0, "s", "default of the Knative chapter's simulation")
PLATFORM = Number("a platform finds a place for a container", 5.0, "s", "chosen; AWS says 30 to 45 s in all")
PULL = Number("an image is pulled with", 50.0, "MB/s", "chosen")
HOP = Number("a sidecar adds to a call, one way", 0.5, "ms", "recorded in Service mesh, order of magnitude")
SIDECAR_START = Number("a sidecar's start, before its pod's", 0.5, "s", "recorded in Service mesh, order of magnitude")
QUEUE_TRIP = Number("through a managed queue", 30.0, "ms", "chosen")
BROKER_TRIP = Number("through your own broker", 5.0, "ms", "chosen")
OUT = Number("an alert on its way out", 50.0, "ms", "chosen")
BUSY = Number("use of pods that are always there, at the day's peak", 0.6, "", "chosen")
SESSION = Number("a log's group notices a dead consumer", 45.0, "s", "Kafka's default since KIP-735")
VISIBILITY = Number("a queue shows an unacknowledged message again", 30.0, "s", "SQS's default")
ATTEMPTS = Number("deliveries before the dead-letter queue", float(_ATTEMPTS), "", "chosen")
GVISOR_TAX = Number("gVisor's share of the work", 0.03, "", "Ant Group: 25 % of applications under 3 %")
KATA_CPU = Number("a microVM's overhead in a pod", 0.25, "vCPU", "Kubernetes' example for Kata with Firecracker")
KATA_MEMORY = Number("the same in memory", 120.0, "MiB", "the same")
SYSTEM = Number("a cluster's own pods", 1.5, "vCPU", "chosen: ingress, DNS, monitoring")
INGEST = Number("the gateway of a country", 0.5, "vCPU", "chosen; the same in every design")
PANELS = Number("panels of a dashboard's page, each asks the state", 12.0, "", "chosen")

ASSUMED = (
    INIT, POD, PLATFORM, PULL, HOP, SIDECAR_START, QUEUE_TRIP, BROKER_TRIP, OUT, BUSY, SESSION, VISIBILITY, ATTEMPTS,
    GVISOR_TAX, KATA_CPU, KATA_MEMORY, SYSTEM, INGEST, PANELS,
)  # fmt: skip

WINDOW = 1.0
"""Seconds that a batch waits for more."""
PARTITIONS = 12
"""Of the log, in each country: more consumers than these have nothing to do."""
MOST = 40
"""Containers that a platform may start in a site: without a limit, a burst would start some 1,700."""
TARGET = 0.7
"""Use of a pod at which Knative adds another: its default."""
BASE, ENRICHMENT, PROXY = "base", "enrichment", "proxy"
LAYERS = {BASE: 80_000_000, ENRICHMENT: 20_000_000, PROXY: 36_000_000}
"""Bytes of layers: base and application as in "What a container is", the proxy as Envoy's package in "Service mesh"."""
IN_CALL = 64
"""Calls that an always-on pod lets wait before it refuses: the listen queue of a small server."""

BATCH_SIZES, BATCH_SECONDS = (1, 2, 4, 8, 16), (0.0084, 0.0082, 0.0084, 0.0117, 0.0171)
"""Seconds of a batch, recorded in "Serverless for machine learning" on 27 November 2026, rounded."""
seconds = batching.fit(BATCH_SIZES, BATCH_SECONDS)
"""Seconds that a vCPU takes for a batch of so many readings."""

WALLS = {
    "container": Wall("container", 30.0, 4.1 * 1024, 0.0, 2, True, "start recorded in MicroVMs; memory: gVisor's guide, 2020"),
    "gvisor": Wall("gVisor", 300.0, 23.7 * 1024, 763.0, 3, True, "start recorded in MicroVMs; the rest: gVisor's guide, 2020"),
    "microvm": Wall("microVM", isolation.FIRECRACKER_BOOT_MS, KATA_MEMORY.value * 1024, 0.0, 3, True,
                    "Firecracker's design document; memory: Kubernetes' example for Kata"),
}  # fmt: skip
"""What the microvms chapter's model chooses from, as here."""
RESTORED_MS = isolation.RESTORE_MS
"""A function's microVM is restored, not booted."""


def assumptions() -> Table:
    """All assumed numbers with their sources."""
    return table(["What", "Value", "From"], [[n.what, f"{n.value:g} {n.unit}".strip(), n.source] for n in ASSUMED], align="lrl")

_ISTIO = {name: tax.Proxy(p.cpu, p.memory, HOP.value * p.cpu / tax.ISTIO["sidecar"].cpu) for name, p in tax.ISTIO.items()}
_ONE = tax.Fleet(nodes=1, pods=2, requests=1.0, l7=1 / 3)
ISTIO_HOPS = {"sidecar": tax.sidecars(_ONE, _ISTIO["sidecar"]).latency,
              "ambient": tax.ambient(_ONE, _ISTIO["ztunnel"], _ISTIO["waypoint"]).latency}  # fmt: skip
"""ms that each way of meshing adds to a call; a ztunnel and a waypoint as their CPU against a sidecar's, as in Service mesh."""
