"""Which host gets a task: first fit, best fit, dominant resource. Vectors of CPU and memory, hosts all equal or not.

First fit and best fit are those of bin packing (D. S. Johnson et al., SIAM J. Comput. 3(4), 1974), here with two resources.
The dominant resource of a task is the one of which it asks the larger share (A. Ghodsi et al., NSDI 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from beyondlab.kit import check


@dataclass
class Host:
    """A host: its vCPU and memory in MiB, and what of them is taken, by the names of the tasks."""

    name: str
    vcpu: float
    memory: int
    tasks: dict[str, tuple[float, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check.all_positive(vcpu=self.vcpu, memory=self.memory)

    @property
    def free(self) -> tuple[float, int]:
        """vCPU and MiB that nobody has."""
        return (
            self.vcpu - math.fsum(cpu for cpu, _ in self.tasks.values()),
            self.memory - sum(memory for _, memory in self.tasks.values()),
        )

    def fits(self, vcpu: float, memory: int) -> bool:
        cpu, left = self.free
        return vcpu <= cpu + 1e-9 and memory <= left

    def take(self, name: str, vcpu: float, memory: int) -> None:
        """Give a task its share. Raises ValueError if the name is here already or there is no room."""
        if name in self.tasks:
            raise ValueError(f"name={name!r}: is on {self.name} already")
        if not self.fits(vcpu, memory):
            raise ValueError(f"vcpu={vcpu!r}, memory={memory!r}: {self.name} has {self.free[0]:g} vCPU and {self.free[1]} MiB left")
        self.tasks[name] = (vcpu, memory)

    def release(self, name: str) -> None:
        del self.tasks[name]


def first_fit(hosts: Sequence[Host], vcpu: float, memory: int) -> Host | None:
    """The first host with room, in their order; None if there is none."""
    return next((host for host in hosts if host.fits(vcpu, memory)), None)


def best_fit(hosts: Sequence[Host], vcpu: float, memory: int) -> Host | None:
    """The host on which least is left, shares of CPU and memory added; the first of equals."""
    return min((host for host in hosts if host.fits(vcpu, memory)), default=None, key=lambda host: sum(_left(host, vcpu, memory)))


def dominant(hosts: Sequence[Host], vcpu: float, memory: int) -> Host | None:
    """The host on which least is left of the task's dominant resource; then of the other; the first of equals."""

    def key(host: Host) -> tuple[float, float]:
        cpu, ram = _left(host, vcpu, memory)
        return (cpu, ram) if vcpu / host.vcpu >= memory / host.memory else (ram, cpu)

    return min((host for host in hosts if host.fits(vcpu, memory)), default=None, key=key)


def _left(host: Host, vcpu: float, memory: int) -> tuple[float, float]:
    """Shares of the host that would stay free."""
    cpu, ram = host.free
    return round((cpu - vcpu) / host.vcpu, 9), (ram - memory) / host.memory


Policy = Callable[[Sequence[Host], float, int], Host | None]
POLICIES: dict[str, Policy] = {"first fit": first_fit, "best fit": best_fit, "dominant resource": dominant}


def pack(needs: Sequence[tuple[float, int]], policy: str, *, vcpu: float, memory: int) -> list[Host]:
    """Place all ``needs`` (vCPU, MiB), a new host of this size being opened whenever none has room.

    Raises ValueError for an unknown policy and for a need that no host of this size holds.
    """
    check.one_of("policy", policy, POLICIES)
    hosts: list[Host] = []
    for number, (cpu, ram) in enumerate(needs):
        host = POLICIES[policy](hosts, cpu, ram)
        if host is None:
            host = Host(f"host {len(hosts) + 1}", vcpu, memory)
            hosts.append(host)
        host.take(f"task {number + 1}", cpu, ram)
    return hosts


def least_hosts(needs: Sequence[tuple[float, int]], *, vcpu: float, memory: int) -> int:
    """No placement needs fewer: the larger of total CPU and total memory, in hosts, rounded up."""
    if not needs:
        return 0
    cpu, ram = math.fsum(c for c, _ in needs) / vcpu, sum(m for _, m in needs) / memory
    return math.ceil(round(max(cpu, ram), 9))
