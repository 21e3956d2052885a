"""What a design costs a month, line by line. Every price is one of :mod:`beyondlab.kit.prices`."""

from __future__ import annotations

from functools import lru_cache

from beyondlab import sim
from beyondlab.capstone import nodes, numbers, stages
from beyondlab.capstone.product import HOURS, SECONDS, Choice, Product
from beyondlab.durable import model as durable
from beyondlab.events import model as events
from beyondlab.functions import model as functions
from beyondlab.hosting import costs as hosting
from beyondlab.kit.prices import price
from beyondlab.mesh import tax
from beyondlab.microvms import model as microvms

GB_OF_A_VCPU = 1769 / 1024
"""Memory of a function that gets one vCPU, GB."""
POD_GIB = 0.5
"""Memory of a pod of the enrichment."""
CHANGES = 0.1
"""Writes to the state for each reading; each reading is one read."""
OBJECT_DEVICES, OBJECT_GB = 500, 0.125
"""Devices that one entity looks after, on a platform; its memory."""


def always(hours: float, usd_per_hour: float) -> float:
    """Hours times price: what is always on."""
    return hours * usd_per_hour


def _vcpu(count: float) -> float:
    """USD a month of vCPUs in your own clusters."""
    return count * always(HOURS, price("fleet.vcpu-hour"))


def _platform(count: float, vcpu: float = 1.0, gib: float = POD_GIB) -> float:
    """USD a month of ``count`` serverless containers, of the nearest size that is sold."""
    fleet = hosting.scheme("Cloud Run, instances", hosting.Workload(vcpu=vcpu, memory=gib * 1024))
    return count * always(HOURS, fleet.hour)


def pods(product: Product, choice: Choice, seed: int = 1) -> float:
    """Instances of the enrichment, averaged over the day (its three moments), in all sites."""
    places = range(len(stages.sites(product, choice)))
    return sum(stages.enrich(product, choice, site, m, seed).instances for site in places for m in stages.MOMENTS[:3]) / 3


def enrichment(product: Product, choice: Choice, seed: int = 1) -> float:
    """USD a month of the enrichment."""
    if choice.compute == "functions":
        works = worked = read = 0.0
        for site in range(len(stages.sites(product, choice))):
            for moment in stages.MOMENTS[:3]:
                found = stages.enrich(product, choice, site, moment, seed)
                works, worked, read = works + found.works, worked + found.worked, read + _readings(product, choice, site, moment, seed)
        scale = product.readings / read
        rate, duration = works * scale / SECONDS, worked / works
        return _functions(functions.Workload(rate, duration, numbers.INIT.value, GB_OF_A_VCPU))
    count = pods(product, choice, seed)
    if choice.compute == "serverless containers":
        return _platform(count)
    return _vcpu(count)


@lru_cache(64)
def _functions(load: functions.Workload) -> float:
    return functions.on_demand(load).usd * SECONDS / functions.MONTH


@lru_cache(64)
def _kept(rate: float) -> float:
    """Instances of a dashboard that is kept 900 s after its last request of 50 ms, by the keep-alive simulator."""
    times = sim.poisson(rate, count=4_000, seed=1)
    return sim.simulate(times, 0.05, 900.0).mean_instances


def _readings(product: Product, choice: Choice, site: int, moment: str, seed: int) -> int:
    return stages.arrivals(product, stages.sites(product, choice)[site][0], moment, seed)[0].size


def walls(product: Product, choice: Choice, seed: int = 1) -> float:
    """USD a month of the wall around the enrichment's pods in your own clusters: memory, and crossing it."""
    if choice.own_clusters == 0:
        return 0.0
    count = max(1, round(pods(product, choice, seed)))
    load = microvms.Load("colleagues", count, 0.0, 1_000.0, 0.0)
    per_vcpu = price("fleet.vcpu-hour")
    (found,) = microvms.options(load, [numbers.WALLS[choice.isolation]], usd_per_gib_hour=per_vcpu / 4, usd_per_core_hour=per_vcpu)
    return found.usd + (_vcpu(count * numbers.KATA_CPU.value) if choice.isolation == "microvm" else 0.0)


def mesh(product: Product, choice: Choice, seed: int = 1) -> float:
    """USD a month of the proxies' CPU and memory: three calls of a reading, or of a batch."""
    if choice.mesh == "none":
        return 0.0
    count = max(2, round(pods(product, choice, seed))) + 4 * max(1, choice.own_clusters)
    fleet = tax.Fleet(nodes=max(1, whole_nodes(product, choice)), pods=count, requests=3 * product.rate / stages.batch_of(choice),
                      l7=1 / 3, waypoints=2 * max(1, choice.own_clusters))  # fmt: skip
    bill = tax.sidecars(fleet) if choice.mesh == "sidecar" else tax.ambient(fleet)
    vcpu = max(bill.cpu, tax.reserved(fleet).cpu) if choice.mesh == "sidecar" else bill.cpu
    if choice.own_clusters:
        return _vcpu(vcpu) + bill.memory * always(HOURS, price("fleet.vcpu-hour") / 4)
    return SECONDS * (vcpu * price("inference.cloud-run-instance-vcpu") + bill.memory * price("inference.cloud-run-instance-memory"))


def broker(product: Product, choice: Choice) -> float:
    """USD a month of queue or log. A batch of readings is a request to send, one to receive, one to delete."""
    if choice.events == "direct":
        return 0.0
    three = 3 * max(1, choice.own_clusters)
    if choice.events == "queue" and not choice.own_clusters:
        size = events.mean_batch(product.rate / 2, numbers.BATCH, numbers.WINDOW)
        return 3 * product.readings / size * price("events.sqs-requests") / 1e6
    small = always(HOURS, price("events.consumer-hour"))
    return small * (three if choice.events == "queue" else 2 * three if choice.own_clusters else 4 * three)


def state(product: Product, choice: Choice) -> float:
    """USD a month of the state: a read for each reading, a write for each tenth."""
    countries = 1 if choice.orchestration == "one cluster" else 2
    if choice.state == "database":
        return countries * 2 * always(HOURS, price("inference.server"))
    if choice.own_clusters:
        held = choice.state == "key-value" and choice.events != "direct"
        return 0.0 if held else 3 * countries * always(HOURS, price("events.consumer-hour"))
    if choice.state == "key-value":
        reads, writes = product.readings / 1e6, CHANGES * product.readings / 1e6
        return reads * price("capstone.table-reads") + writes * price("capstone.table-writes")
    objects = sum(product.devices) / OBJECT_DEVICES
    asked = product.readings / stages.batch_of(choice) / 1e6 * price("durable.objects-requests")
    kept = objects * OBJECT_GB * SECONDS / 1e6 * price("durable.objects-duration")
    return asked + kept + durable.bill(durable.Month(orders=sum(product.alerts), steps=3))["Lambda durable functions"]


def around(product: Product, choice: Choice) -> float:
    """USD a month of what stands around the alert path: gateways, a cluster's own pods, dashboard, nightly batch."""
    countries = 1 if choice.orchestration == "one cluster" else 2
    night = product.batch_hours * HOURS / 24
    if choice.own_clusters:
        small = choice.own_clusters * len(nodes.SYSTEM) * nodes.SYSTEM[0][0] + countries * (nodes.GATEWAY[0] + nodes.DASHBOARD[0])
        return _vcpu(small + night / HOURS)
    if choice.compute == "functions":
        seen = _functions(functions.Workload(product.viewers, 0.05, numbers.INIT.value, 0.5))
        batch = night * 3600 * GB_OF_A_VCPU * price("lambda.duration-x86")
    else:
        seen = _platform(2 * _kept(product.viewers / 2))
        batch = _platform(night / HOURS)
    return _platform(countries, numbers.INGEST.value) + seen + batch


def whole_nodes(product: Product, choice: Choice) -> int:
    """Nodes of your own clusters, with room for all pods that may be there at once; 0 on a platform."""
    if not choice.own_clusters:
        return 0
    work, countries = nodes.pod(choice), 2 // choice.own_clusters
    return sum(nodes.count(work, countries, stages.most(product, choice, site)) for site in range(choice.own_clusters))


def room(product: Product, choice: Choice, used: float) -> float:
    """USD a month of what the nodes cost beyond ``used``, the USD of what runs on them: room for bursts, and rounding."""
    return max(0.0, _vcpu(nodes.vcpus(whole_nodes(product, choice))) - used)


def lines(product: Product, choice: Choice, seed: int = 1) -> dict[str, float]:
    """USD a month, line by line."""
    on_nodes = {
        "enrichment": enrichment(product, choice, seed),
        "isolation": walls(product, choice, seed),
        "mesh": mesh(product, choice, seed),
        "gateways, dashboard, batch": around(product, choice),
    }
    return {
        **on_nodes,
        "room on nodes": room(product, choice, sum(on_nodes.values())),
        "control planes": choice.own_clusters * always(HOURS, price("fleet.control-plane")),
        "events": broker(product, choice),
        "state": state(product, choice),
    }
