"""A partitioned log with offsets and consumer groups, without a clock: how Kafka and JetStream keep events.

A log forgets nothing when it is read. Each group remembers, for each partition, the offset up to which it is done; what
lies behind is its lag. One partition has one reader a group, so order is kept within a partition, and with it for each
key. The hash is Kafka's murmur2 (apache/kafka, ``clients/src/main/java/org/apache/kafka/common/utils/Utils.java``), the
assignment its RangeAssignor (``.../clients/consumer/RangeAssignor.java``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from beyondlab.kit import check

_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key: a signed 32-bit number."""
    m, length = 0x5BD1E995, len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length - length % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & _MASK
        k = (k ^ k >> 24) * m & _MASK
        h = (h * m & _MASK) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & _MASK
    h = (h ^ h >> 13) * m & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


def partition_of(key: str | bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key. Raises ValueError for fewer than one partition."""
    check.whole("partitions", partitions, 1)
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions


def range_assignment(partitions: int, members: Sequence[str]) -> dict[str, list[int]]:
    """Partitions of one topic dealt out in ranges: sorted members, the first ones get one more if they do not divide.

    >>> range_assignment(3, ["b", "a"])
    {'a': [0, 1], 'b': [2]}
    """
    names = sorted(members)
    assigned: dict[str, list[int]] = {}
    begin = 0
    for place, name in enumerate(names):
        count = partitions // len(names) + (place < partitions % len(names))
        assigned[name] = list(range(begin, begin + count))
        begin += count
    return assigned


@dataclass(frozen=True)
class Record:
    """One event in the log."""

    partition: int
    offset: int
    key: str
    value: Any


@dataclass
class _Group:
    committed: list[int]
    members: list[str] = field(default_factory=list)
    assigned: dict[str, list[int]] = field(default_factory=dict)
    position: dict[int, int] = field(default_factory=dict)
    generation: int = 0


class StaleMember(RuntimeError):
    """A member that lost its place, or holds the wrong partition, tried to read or to commit."""


class EventLog:
    """A log of ``partitions`` partitions. Raises ValueError for fewer than one."""

    def __init__(self, partitions: int = 1) -> None:
        check.whole("partitions", partitions, 1)
        self.partitions: list[list[Record]] = [[] for _ in range(partitions)]
        self._groups: dict[str, _Group] = {}

    def append(self, key: str, value: Any) -> Record:
        """Store an event at the end of its key's partition; where it lies is the producer's acknowledgement."""
        number = partition_of(key, len(self.partitions))
        record = Record(number, len(self.partitions[number]), key, value)
        self.partitions[number].append(record)
        return record

    def join(self, group: str, member: str) -> int:
        """A consumer comes. Partitions are dealt anew; the new generation's number. Unknown groups begin at offset 0."""
        state = self._groups.setdefault(group, _Group([0] * len(self.partitions)))
        if member not in state.members:
            state.members.append(member)
        return self._rebalance(state)

    def leave(self, group: str, member: str) -> int:
        """A consumer goes, or is thought dead. Its partitions go to others, from the committed offset on."""
        state = self._group(group)
        if member not in state.members:
            raise StaleMember(f"member={member!r}: not in group {group!r}")
        state.members.remove(member)
        return self._rebalance(state)

    def _rebalance(self, state: _Group) -> int:
        state.generation += 1
        state.assigned = range_assignment(len(self.partitions), state.members) if state.members else {}
        state.position = {}
        return state.generation

    def assignment(self, group: str) -> dict[str, list[int]]:
        """Member -> its partitions."""
        return {name: list(held) for name, held in self._group(group).assigned.items()}

    def poll(self, group: str, member: str, limit: int = 1) -> list[Record]:
        """Up to ``limit`` next events of the member's partitions. Reading moves its position, not the commit.

        Raises :class:`StaleMember` if it is not in the group, ValueError for a limit under 1.
        """
        check.whole("limit", limit, 1)
        state = self._group(group)
        if member not in state.assigned:
            raise StaleMember(f"member={member!r}: not in group {group!r}")
        found: list[Record] = []
        for number in state.assigned[member]:
            begin = state.position.get(number, state.committed[number])
            records = self.partitions[number][begin : begin + limit - len(found)]
            state.position[number] = begin + len(records)
            found += records
        return found

    def commit(self, group: str, member: str, record: Record) -> None:
        """All of the partition up to and with ``record`` is done. A commit never goes back.

        Raises :class:`StaleMember` if the partition is not the member's any more: another one reads it now.
        """
        state = self._group(group)
        if record.partition not in state.assigned.get(member, ()):
            raise StaleMember(f"member={member!r}: partition {record.partition} of group {group!r} is not its own")
        state.committed[record.partition] = max(state.committed[record.partition], record.offset + 1)

    def committed(self, group: str) -> list[int]:
        """The next offset of each partition that is not done."""
        return list(self._group(group).committed)

    def lag(self, group: str) -> int:
        """Events behind the committed offsets."""
        return sum(len(held) - done for held, done in zip(self.partitions, self._group(group).committed))

    def seek(self, group: str, offset: int = 0) -> None:
        """Read again from ``offset`` in every partition: replay, which a queue cannot do."""
        state = self._group(group)
        state.committed = [min(max(offset, 0), len(held)) for held in self.partitions]
        state.position = {}

    def _group(self, group: str) -> _Group:
        if group not in self._groups:
            raise StaleMember(f"group={group!r}: nobody joined it")
        return self._groups[group]
