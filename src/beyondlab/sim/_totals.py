"""What an engine of the keep-alive simulator counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Totals:
    """Counts and areas (environment-seconds) since counting started."""

    requests: int = 0
    cold: int = 0
    throttled: int = 0
    peak_in_flight: int = 0
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
