"""What happens to the readings of a live run or a rehearsal. It imports the standard library only: workers start fast."""

from __future__ import annotations

from dataclasses import dataclass

BATCH = 10
"""Readings that a consumer takes at once: SQS's and Lambda's default."""
ATTEMPTS = 3
"""Deliveries before a reading goes to the dead letters; chosen."""


@dataclass(frozen=True)
class Plan:
    """``readings`` numbered from 1; those divisible by ``alert_every`` raise an alert. ``repeated``: sent twice, the
    second time at the end. ``poison``: the one that no model takes, or 0. ``dies_at``: see the module, or 0; must raise
    an alert. ``down``: calls that a gateway makes, and that fail, before the consumer is there again (direct calls).
    """

    readings: int = 120
    alert_every: int = 4
    repeated: tuple[int, ...] = (8, 9, 80)
    poison: int = 90
    dies_at: int = 44
    down: int = 6

    def __post_init__(self) -> None:
        for name in ("repeated", "poison", "dies_at"):
            value = getattr(self, name)
            if any(not 0 <= n <= self.readings for n in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name}={value!r}: must be numbers of readings, 0 to {self.readings}")
        if self.dies_at % self.alert_every:
            raise ValueError(f"dies_at={self.dies_at}: must raise an alert, that is be divisible by {self.alert_every}")
        if self.poison and self.poison % self.alert_every == 0:
            raise ValueError(f"poison={self.poison}: must not be one of those that raise an alert")

    @property
    def sent(self) -> list[int]:
        """Readings in the order of sending."""
        return [*range(1, self.readings + 1), *self.repeated]

    @property
    def alerts(self) -> set[int]:
        """Readings that should raise an alert."""
        return set(range(self.alert_every, self.readings + 1, self.alert_every))
