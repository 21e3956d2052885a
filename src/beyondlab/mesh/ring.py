"""Ring hash: the same key goes to the same host, and few keys move when a host comes or goes.

As Envoy does it (``source/extensions/load_balancing_policies/ring_hash``): every host stands on a ring of 2**64 places
several times, at the hash of its address, an underscore and a number; a key goes to the first host at or after its own
hash. The hashes are XXH64 (Y. Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md) and, as an
alternative, MurmurHash64A (A. Appleby).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from beyondlab.kit import check

_MASK = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotate(value: int, by: int) -> int:
    return ((value << by) | (value >> (64 - by))) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64 of ``data``, an integer below 2**64."""
    size, place = len(data), 0

    def lane(at: int) -> int:
        return int.from_bytes(data[at : at + 8], "little")

    if size >= 32:
        lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed & _MASK, (seed - _P1) & _MASK]
        while place + 32 <= size:
            lanes = [_round(value, lane(place + 8 * i)) for i, value in enumerate(lanes)]
            place += 32
        total = sum(_rotate(value, by) for value, by in zip(lanes, (1, 7, 12, 18))) & _MASK
        for value in lanes:
            total = ((total ^ _round(0, value)) * _P1 + _P4) & _MASK
    else:
        total = (seed + _P5) & _MASK
    total = (total + size) & _MASK
    while place + 8 <= size:
        total = (_rotate(total ^ _round(0, lane(place)), 27) * _P1 + _P4) & _MASK
        place += 8
    if place + 4 <= size:
        total = (_rotate(total ^ (int.from_bytes(data[place : place + 4], "little") * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        place += 4
    for byte in data[place:]:
        total = _rotate(total ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    for shift, factor in ((33, _P2), (29, _P3), (32, 1)):
        total = (total ^ (total >> shift)) * factor & _MASK
    return total


def murmur2(data: bytes, seed: int = 0xC70F6907) -> int:
    """MurmurHash64A of ``data``, with the seed of libstdc++ that Envoy uses."""
    factor, shift = 0xC6A4A7935BD1E995, 47

    def mix(value: int) -> int:
        return (value ^ (value >> shift)) & _MASK

    total = (seed ^ (len(data) * factor)) & _MASK
    whole = len(data) & ~7
    for place in range(0, whole, 8):
        block = int.from_bytes(data[place : place + 8], "little")
        total = ((total ^ (mix(block * factor & _MASK) * factor & _MASK)) * factor) & _MASK
    if data[whole:]:
        total = ((total ^ int.from_bytes(data[whole:], "little")) * factor) & _MASK
    return mix(mix(total) * factor & _MASK)


class Ring:
    """A ring of ``hosts`` (addresses) with ``replicas`` places each. Raises ValueError without hosts or replicas."""

    def __init__(self, hosts: Sequence[str], replicas: int = 170, *, hash: Callable[[bytes], int] = xxh64) -> None:
        if not hosts:
            raise ValueError("hosts=[]: there must be one at least")
        check.whole("replicas", replicas, 1)
        placed = sorted((hash(f"{host}_{number}".encode()), host) for host in hosts for number in range(replicas))
        self.places = [place for place, _ in placed]
        self.owners = [host for _, host in placed]

    def choose(self, key: int) -> str:
        """The host for a hashed key: the first at or after it, the first of all beyond the last."""
        return self.owners[bisect_left(self.places, key) % len(self.places)]
