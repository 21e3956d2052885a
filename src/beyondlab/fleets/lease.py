"""Leader election by lease, as client-go does it, and how to see from a ledger who wrote when.

Rules of ``k8s.io/client-go/tools/leaderelection``: the holder renews every ``retry`` seconds; if it cannot for
``deadline`` seconds it stops leading, by its own clock; another takes the lease ``duration`` seconds after *it* last saw
the lease change, by its own clock. Two leaders at once cannot be as long as ``deadline < duration``, the clocks run
equally fast, and the holder gets to look at its clock. A process that is paused does not: hence the fencing token.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beyondlab.fleets.client import ApiError, Client, Object, Unreachable


@dataclass(frozen=True)
class Times:
    """Seconds. The defaults are client-go's usual ones (15, 10, 2)."""

    duration: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration > self.deadline > 1.2 * self.retry > 0:
            raise ValueError(f"duration={self.duration!r}, deadline={self.deadline!r}, retry={self.retry!r}: need duration > deadline > 1.2 × retry > 0")


class Elector:
    """One candidate for the lease ``name``. Call :meth:`step` every ``times.retry`` seconds."""

    def __init__(self, client: Client, name: str, identity: str, times: Times, *, namespace: str = "default") -> None:
        self.client, self.name, self.identity, self.times, self.namespace = client, name, identity, times, namespace
        self.token = -1
        """How often the lease has changed hands when we got it: the fencing token."""
        self._renewed = -float("inf")
        self._seen: tuple[str, float] = ("", -float("inf"))

    def leads(self) -> bool:
        """Whether we may act now: the last renewal *began* less than ``deadline`` seconds ago."""
        return time.monotonic() - self._renewed < self.times.deadline

    def step(self) -> bool:
        """Try to get or renew the lease. True if we hold it now. Never raises for a server that is away."""
        begun = time.monotonic()
        try:
            held = self._try(begun)
        except (Unreachable, ApiError):
            return False
        if held:
            self._renewed = begun
        return held

    def _try(self, now: float) -> bool:
        try:
            lease = self.client.get("leases", self.name, self.namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            self.client.create("leases", {"metadata": {"name": self.name}, "spec": self._spec(None)}, self.namespace)
            self.token = 0
            return True
        spec, version = lease["spec"], lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, now)
        mine = spec.get("holderIdentity") == self.identity
        if not mine and spec.get("holderIdentity") and now - self._seen[1] < self.times.duration:
            return False
        lease["spec"] = self._spec(spec)
        answer = self.client.replace("leases", lease)
        self._seen = (answer["metadata"]["resourceVersion"], now)
        self.token = answer["spec"]["leaseTransitions"]
        return True

    def _spec(self, before: Object | None) -> Object:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = before or {"holderIdentity": self.identity, "leaseTransitions": 0, "acquireTime": stamp}
        mine = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity, "leaseDurationSeconds": max(1, round(self.times.duration)), "renewTime": stamp,
            "acquireTime": before.get("acquireTime", stamp) if mine else stamp,
            "leaseTransitions": before.get("leaseTransitions", 0) + (not mine),
        }  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One line of a ledger: when (seconds), who, and with which fencing token."""

    time: float
    writer: str
    token: int


def parse(lines: Iterable[str]) -> list[Entry]:
    """The entries of a ledger, in the order in which they were written."""
    found = []
    for line in lines:
        stamp, writer, token = line.split()
        found.append(Entry(float(stamp), writer, int(token)))
    return found


def reigns(entries: Sequence[Entry], *, pause: float = 0.25) -> list[tuple[str, float, float]]:
    """(writer, begin, end) of uninterrupted writing; a ``pause`` of more seconds ends one."""
    found: list[tuple[str, float, float]] = []
    for writer in sorted({entry.writer for entry in entries}):
        begin = last = None
        for entry in entries:
            if entry.writer == writer:
                if last is not None and entry.time - last > pause:
                    found.append((writer, begin, last))
                    begin = entry.time
                begin, last = entry.time if begin is None else begin, entry.time
        found.append((writer, begin, last))
    return sorted(found, key=lambda reign: reign[1])


def overlap(spans: Sequence[tuple[str, float, float]]) -> float:
    """Seconds in which two different writers were at it."""
    return sum(
        max(0.0, min(a[2], b[2]) - max(a[1], b[1])) for i, a in enumerate(spans) for b in spans[i + 1 :] if a[0] != b[0]
    )


def rejected_by_fence(entries: Sequence[Entry]) -> list[Entry]:
    """What a store that remembers the highest token would have refused: entries with a lower one."""
    found, highest = [], -1
    for entry in entries:
        if entry.token < highest:
            found.append(entry)
        highest = max(highest, entry.token)
    return found
