"""Simulated sensors: what they measure, when, and when it arrives.

Each sensor works in bursts, as a machine that is switched on and off; a burst is what a session window should find.
Readings arrive out of order by up to ``disorder`` ms; a few sensors lose their radio for a while and deliver late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beyondlab.kit import check


@dataclass(frozen=True)
class Reading:
    """One reading: ``time`` is when it was taken (event time), ``arrival`` when it arrives, both in ms."""

    sensor: int
    line: int
    time: int
    arrival: int
    value: float


def readings(
    sensors: int = 240,
    *,
    lines: int = 12,
    seconds: float = 120.0,
    disorder: float = 2_000.0,
    late_share: float = 0.04,
    late_by: float = 20_000.0,
    seed: int = 1,
) -> list[Reading]:
    """The readings of all ``sensors`` on ``lines`` production lines over ``seconds``, in the order of their arrival.

    A share ``late_share`` of the sensors' bursts arrives ``late_by`` ms late. Raises ValueError for numbers that are not
    positive, or a share outside [0, 1].
    """
    check.all_positive(sensors=sensors, lines=lines, seconds=seconds)
    check.share("late_share", late_share)
    rng = np.random.default_rng(seed)
    found = []
    for sensor in range(sensors):
        now = rng.uniform(0, 20_000)
        level = rng.normal(20, 3)
        while now < 1_000 * seconds:
            late = late_by if rng.random() < late_share else 0.0
            for _ in range(rng.integers(3, 8)):
                if now >= 1_000 * seconds:
                    break
                value = round(float(level + rng.normal(0, 0.5)), 2)
                arrival = now + rng.uniform(0, disorder) + late
                found.append(Reading(sensor, sensor % lines, int(now), int(arrival), value))
                now += rng.uniform(400, 1_500)
            now += rng.uniform(15_000, 45_000)
    return sorted(found, key=lambda reading: (reading.arrival, reading.sensor, reading.time))
