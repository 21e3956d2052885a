"""Which sizes a platform sells: the rules of Fargate, Azure Container Instances, Cloud Run and Lambda, and the nearest one.

Memory is in MiB throughout. Where a platform writes GB it counts 1,024 MiB here, as Fargate's table does.

Sources, read on 27 November 2026: AWS, "Troubleshoot Amazon ECS task definition invalid CPU or memory errors"; Microsoft,
"Resource availability & quota limits for Azure Container Instances" and "Container groups" (both of 17 November 2025);
Google, "Configure CPU limits" and "Configure memory limits" of Cloud Run; AWS, "Configure Lambda function memory".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from beyondlab.kit import check

GIB = 1024
"""MiB in a GiB."""

FARGATE: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
    8192: tuple(range(16384, 61440 + 1, 4096)),
    16384: tuple(range(32768, 122880 + 1, 8192)),
}
"""CPU units (1,024 to a vCPU) -> memory in MiB."""

CLOUD_RUN: dict[float, tuple[int, int]] = {
    1: (128, 4 * GIB), 2: (128, 8 * GIB), 4: (2 * GIB, 16 * GIB), 6: (4 * GIB, 24 * GIB), 8: (4 * GIB, 32 * GIB),
}  # fmt: skip
"""vCPU -> least and most memory in MiB. Under one vCPU: 0.08 and up in steps of 0.001, half a vCPU for more than 512 MiB."""

ACI_CPU, ACI_MEMORY = (1.0, 31.0), (1 * GIB, 240 * GIB)
"""Of a container group: vCPU and MiB, least and most. Above 4 vCPU and 16 GB a region may want a larger quota first."""

LAMBDA = (128, 10240)
LAMBDA_VCPU = 1769
"""MB of memory that come with one vCPU; CPU is in proportion."""


@dataclass(frozen=True)
class Size:
    """A size: vCPU, and memory in MiB."""

    vcpu: float
    memory: int

    def __str__(self) -> str:
        return f"{self.vcpu:g} vCPU, {self.memory:,} MiB"

    def holds(self, vcpu: float, memory: float) -> bool:
        return self.vcpu >= vcpu - 1e-9 and self.memory >= memory - 1e-9


class SizeError(ValueError):
    """A size that the platform does not sell. ``nearest`` is the one to take instead."""

    def __init__(self, message: str, nearest: Size) -> None:
        super().__init__(f"{message}; nearest valid: {nearest}")
        self.nearest = nearest


def _cheapest(sizes: Sequence[Size], vcpu: float, memory: float) -> Size:
    """The size that holds the need for least money, a vCPU being worth nine GiB; the largest if none holds it."""
    fit = [size for size in sizes if size.holds(vcpu, memory)]
    if not fit:
        return max(sizes, key=lambda size: (size.vcpu, size.memory))
    return min(fit, key=lambda size: (9 * size.vcpu + size.memory / GIB, size.vcpu))


def _fargate(vcpu: float, memory: float) -> Size:
    return _cheapest([Size(cpu / 1024, each) for cpu, row in FARGATE.items() for each in row], vcpu, memory)


def _aci(vcpu: float, memory: float) -> Size:
    return Size(min(max(vcpu, ACI_CPU[0]), ACI_CPU[1]), min(max(math.ceil(memory), ACI_MEMORY[0]), ACI_MEMORY[1]))


def _small(vcpu: float, memory: float) -> list[Size]:
    """Cloud Run under one vCPU."""
    least = 0.08 if memory <= 512 else 0.5
    cpu = max(least, math.ceil(vcpu * 1000 - 1e-6) / 1000)
    return [Size(cpu, max(128, math.ceil(memory)))] if cpu < 1 and memory <= GIB else []


def _cloud_run(vcpu: float, memory: float) -> Size:
    whole = [Size(cpu, min(max(least, math.ceil(memory)), most)) for cpu, (least, most) in CLOUD_RUN.items()]
    return _cheapest(_small(vcpu, memory) + whole, vcpu, memory)


def _lambda(vcpu: float, memory: float) -> Size:
    wanted = min(max(math.ceil(memory), math.ceil(vcpu * LAMBDA_VCPU - 1e-6), LAMBDA[0]), LAMBDA[1])
    return Size(wanted / LAMBDA_VCPU, wanted)


def _pod(vcpu: float, memory: float) -> Size:
    """Kubernetes takes any size, by the thousandth of a CPU; the node has to be large enough."""
    return Size(max(0.001, math.ceil(vcpu * 1000 - 1e-6) / 1000), math.ceil(memory))


_NEAREST: dict[str, Callable[[float, float], Size]] = {
    "fargate": _fargate, "aci": _aci, "cloud run": _cloud_run, "lambda": _lambda, "kubernetes": _pod,
}  # fmt: skip
PLATFORMS = tuple(_NEAREST)


def nearest(platform: str, vcpu: float, memory: float) -> Size:
    """The cheapest size of ``platform`` that holds ``vcpu`` and ``memory`` MiB; its largest where none does.

    Raises ValueError for an unknown platform and for a need that is not positive and finite.
    """
    check.one_of("platform", platform, PLATFORMS)
    check.all_positive(vcpu=vcpu, memory=memory)
    return _NEAREST[platform](vcpu, memory)


def _range(values: Sequence[int]) -> str:
    steps = {after - before for before, after in zip(values, values[1:])}
    if len(steps) == 1 and len(values) > 3:
        return f"{values[0]} to {values[-1]} MiB in steps of {steps.pop()}"
    return f"{', '.join(map(str, values))} MiB"


def fargate(cpu: int, memory: int) -> Size:
    """The size of a Fargate task of ``cpu`` units and ``memory`` MiB. Raises :class:`SizeError` if it is not sold."""
    check.all_positive(cpu=cpu, memory=memory)
    if cpu not in FARGATE:
        raise SizeError(f"cpu={cpu!r}: must be one of {', '.join(map(str, FARGATE))}", _fargate(cpu / 1024, memory))
    if memory not in FARGATE[cpu]:
        allowed = f"with {cpu} CPU units it must be {_range(FARGATE[cpu])}"
        raise SizeError(f"memory={memory!r}: {allowed}", _fargate(cpu / 1024, memory))
    return Size(cpu / 1024, memory)


def aci(vcpu: float, memory: int) -> Size:
    """The size of an ACI container group. Raises :class:`SizeError` for one under 1 vCPU and 1 GB or over 31 and 240."""
    check.all_positive(vcpu=vcpu, memory=memory)
    if not ACI_CPU[0] <= vcpu <= ACI_CPU[1]:
        raise SizeError(f"cpu={vcpu!r}: a container group has 1 to 31 vCPU", _aci(vcpu, memory))
    if not ACI_MEMORY[0] <= memory <= ACI_MEMORY[1]:
        raise SizeError(f"memoryInGB={memory / GIB:g}: a container group has 1 to 240 GB", _aci(vcpu, memory))
    return Size(vcpu, memory)


def cloud_run(vcpu: float, memory: int, *, concurrency: int = 80) -> Size:
    """The size of a Cloud Run instance. Raises :class:`SizeError` for one that is not sold.

    ``concurrency``: requests at once; it must be 1 under one vCPU, else ValueError.
    """
    check.all_positive(vcpu=vcpu, memory=memory)
    if not 1 <= concurrency <= 1000:
        raise ValueError(f"containerConcurrency={concurrency!r}: must be 1 to 1000")
    near = _cloud_run(vcpu, memory)
    if vcpu < 1:
        if concurrency != 1:
            raise ValueError(f"containerConcurrency={concurrency!r}: must be 1 with less than 1 vCPU; cpu={vcpu!r}")
        if vcpu < 0.08 or abs(vcpu * 1000 - round(vcpu * 1000)) > 1e-6:
            raise SizeError(f"cpu={vcpu!r}: must be 0.08 to 1 in steps of 0.001, or 1, 2, 4, 6, 8", near)
        limit = 512 if vcpu < 0.5 else GIB
        if not 128 <= memory <= limit:
            raise SizeError(f"memory={memory!r}: with {vcpu:g} vCPU it must be 128 to {limit} MiB", near)
        return Size(vcpu, memory)
    if vcpu not in CLOUD_RUN:
        raise SizeError(f"cpu={vcpu!r}: must be 1, 2, 4, 6 or 8, or 0.08 to 1 in steps of 0.001", near)
    least, most = CLOUD_RUN[vcpu]
    if not least <= memory <= most:
        raise SizeError(f"memory={memory!r}: with {vcpu:g} vCPU it must be {least} to {most} MiB", near)
    return Size(vcpu, memory)


def function(memory: int) -> Size:
    """The size of a Lambda function of ``memory`` MB. Raises :class:`SizeError` if it is not 128 to 10,240 MB, whole."""
    check.positive("memory", memory)
    if not (LAMBDA[0] <= memory <= LAMBDA[1] and memory == int(memory)):
        raise SizeError(f"memory={memory!r}: must be {LAMBDA[0]} to {LAMBDA[1]} MB in steps of 1", _lambda(0.001, memory))
    return Size(memory / LAMBDA_VCPU, int(memory))
