"""How many replicas each cluster gets: Karmada's division, and the older rule that it replaced.

Since version 1.16 Karmada divides by Webster's method, known in parliaments as Sainte-Laguë: give the next replica to
the cluster with the highest ``weight / (2 × replicas + 1)``. It is house-monotone: a larger total never takes one away.
Before, Karmada rounded down and gave what was left to the heaviest, which does. Sources: karmada-io/karmada
``pkg/util/helper/webstermethod.go``, ``pkg/util/helper/binding.go`` (before 1.16), ``pkg/scheduler/core/division_algorithm.go``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping

from beyondlab.kit import check

Division = dict[str, int]


class NotEnoughRoom(ValueError):
    """The clusters together cannot take so many replicas."""


def _check(replicas: int, weights: Mapping[str, int]) -> None:
    check.whole("replicas", replicas, 0)
    if bad := {name: weight for name, weight in weights.items() if weight < 0}:
        raise ValueError(f"weights={bad!r}: must be zero or more")


def webster(
    new: int, weights: Mapping[str, int], assigned: Mapping[str, int] | None = None, *, first: Callable[[str], object] = str,
    room: Mapping[str, int] | None = None,
) -> Division:  # fmt: skip
    """Hand out ``new`` replicas, one at a time, on top of those ``assigned`` already; nothing is taken away.

    Of equal priorities the cluster with fewer replicas goes first, then the one that ``first`` sorts first.
    A cluster that has replicas and no weight keeps them and gets none while another has a weight. ``room``: the most that
    a cluster can have in all. Raises :class:`NotEnoughRoom`.
    """
    _check(new, weights)
    result = {name: (assigned or {}).get(name, 0) for name in sorted({*weights, *(assigned or {})})}
    if not result:
        return {}

    def rank(name: str) -> tuple[float, int, object, str]:
        return -weights.get(name, 0) / (2 * result[name] + 1), result[name], first(name), name

    def full(name: str) -> bool:
        return room is not None and name in room and result[name] >= room[name]

    queue = [rank(name) for name in result if not full(name)]
    heapq.heapify(queue)
    for left in range(new, 0, -1):
        if not queue:
            raise NotEnoughRoom(f"there is no room for {left} of {new} replicas")
        name = heapq.heappop(queue)[-1]
        result[name] += 1
        if not full(name):
            heapq.heappush(queue, rank(name))
    return result


def floor_and_rest(replicas: int, weights: Mapping[str, int], assigned: Mapping[str, int] | None = None) -> Division:
    """The rule before 1.16: each cluster its share rounded down, what is left one each from the heaviest on."""
    _check(replicas, weights)
    total = sum(weights.values())
    result = {name: (assigned or {}).get(name, 0) for name in {*weights, *(assigned or {})}}
    if total == 0:
        return dict(sorted(result.items()))
    order = sorted(weights, key=lambda name: (-weights[name], name))
    shares = {name: weights[name] * replicas // total for name in order}
    left = replicas - sum(shares.values())
    for name in order[:left]:
        shares[name] += 1
    return dict(sorted((name, result[name] + shares.get(name, 0)) for name in result))


def largest_remainder(replicas: int, weights: Mapping[str, int]) -> Division:
    """Hamilton's rule, of the Alabama paradox: round down, what is left to the largest fractions."""
    _check(replicas, weights)
    total = sum(weights.values()) or 1
    shares = {name: weight * replicas // total for name, weight in weights.items()}
    order = sorted(weights, key=lambda name: (-(weights[name] * replicas % total), name))
    for name in order[: replicas - sum(shares.values())]:
        shares[name] += 1
    return dict(sorted(shares.items()))


def aggregated(replicas: int, room: Iterable[tuple[str, int]], *, scheduled: Iterable[str] = ()) -> Division:
    """As few clusters as possible: those that run it already first, then by room; divided by room among the chosen.

    ``room``: (cluster, replicas it can take), in order of preference. Raises :class:`NotEnoughRoom`.
    """
    there = set(scheduled)
    order = sorted(room, key=lambda pair: (pair[0] not in there, -pair[1]))
    chosen: dict[str, int] = {}
    for name, free in order:
        chosen[name] = free
        if sum(chosen.values()) >= replicas:
            return {name: n for name, n in webster(replicas, chosen).items() if n}
    raise NotEnoughRoom(f"clusters resources are not enough to schedule, max {sum(chosen.values())} replicas are support")


def weighted_by_room(replicas: int, room: Mapping[str, int]) -> Division:
    """In proportion to the room that there is. Raises :class:`NotEnoughRoom`."""
    if sum(room.values()) < replicas:
        raise NotEnoughRoom(f"clusters resources are not enough to schedule, max {sum(room.values())} replicas are support")
    return {name: n for name, n in webster(replicas, room).items() if n}


def losses(rule: Callable[[int, Mapping[str, int]], Division], weights: Mapping[str, int], upto: int) -> list[tuple[int, str]]:
    """Where a larger total takes a replica away: (the larger total, the cluster that loses)."""
    found, before = [], rule(0, weights)
    for total in range(1, upto + 1):
        now = rule(total, weights)
        found += [(total, name) for name in weights if now[name] < before[name]]
        before = now
    return found
