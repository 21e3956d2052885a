"""Whole nodes: where the pods of your own clusters find room, and what a machine pulls before it can start one.

A burst lasts ten seconds and a new node takes two minutes, so the nodes for a burst are there before it, held by pods of
a lower priority that give way (Kubernetes, "Overprovision Node Capacity For A Cluster"). Pods are packed on nodes by best
fit, as in :mod:`beyondlab.hosting.placement`. Sizes in vCPU and MiB, times in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from beyondlab.capstone import numbers
from beyondlab.capstone.product import Choice
from beyondlab.containers.model import bytes_pulled
from beyondlab.hosting.costs import ALLOCATABLE, NODE
from beyondlab.hosting.placement import least_hosts, pack
from beyondlab.mesh import tax

Pod = tuple[float, int]

WORK: Pod = (1.0, 512)
"""A pod of the enrichment, without what is put around it."""
SYSTEM: tuple[Pod, ...] = ((numbers.SYSTEM.value / 6, 256),) * 6
"""A cluster's own pods."""
GATEWAY: Pod = (numbers.INGEST.value, 512)
DASHBOARD: Pod = (0.25, 256)


def pod(choice: Choice) -> Pod:
    """What a pod of the enrichment asks for: its work, the wall around it, the proxy beside it."""
    vcpu, memory = WORK
    wall = numbers.WALLS[choice.isolation].memory_kib / 1024
    if choice.isolation == "microvm":
        vcpu += numbers.KATA_CPU.value
    if choice.mesh == "sidecar":
        vcpu, wall = vcpu + tax.RESERVED.cpu, wall + tax.RESERVED.memory * 1e6 / 2**20
    return vcpu, memory + math.ceil(wall)


def pods_of(work: Pod, countries: int, pods: int) -> list[Pod]:
    """All pods of one cluster that serves so many countries, with room for ``pods`` of the enrichment, ``work`` each."""
    return [work] * pods + [*SYSTEM, *[GATEWAY, DASHBOARD] * countries]


def packed(pods: Sequence[Pod]) -> int:
    """Nodes that these pods need, by best fit."""
    vcpu, memory = ALLOCATABLE
    return len(pack(pods, "best fit", vcpu=vcpu, memory=memory))


@lru_cache(256)
def count(work: Pod, countries: int, pods: int) -> int:
    """Nodes of one cluster."""
    return packed(pods_of(work, countries, pods))


def least(work: Pod, countries: int, pods: int) -> int:
    """No packing needs fewer nodes."""
    vcpu, memory = ALLOCATABLE
    return least_hosts(pods_of(work, countries, pods), vcpu=vcpu, memory=memory)


def vcpus(nodes: int) -> float:
    """What is paid for."""
    return nodes * NODE.vcpu


def pull(choice: Choice) -> float:
    """Seconds until a machine that has none of the layers has the images of one pod; a layer that both share comes once."""
    images = [{name: numbers.LAYERS[name] for name in (numbers.BASE, numbers.ENRICHMENT)}]
    if choice.mesh == "sidecar":
        images.append({name: numbers.LAYERS[name] for name in (numbers.BASE, numbers.PROXY)})
    return bytes_pulled(images)[0] / (numbers.PULL.value * 1e6)
