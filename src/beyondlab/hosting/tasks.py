"""One application, and what is left of it when a platform's description has been read: a :class:`Task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from beyondlab.kit import check


@dataclass(frozen=True)
class Task:
    """What to run: image, command, environment, port, size (vCPU, MiB).

    ``stop_timeout``: seconds between SIGTERM and SIGKILL, None where the description cannot say it. It does not count
    when two tasks are compared.
    """

    name: str
    image: str
    command: tuple[str, ...]
    vcpu: float
    memory: int
    port: int = 8080
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_timeout: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not self.image or not self.command:
            raise ValueError(f"name={self.name!r}, image={self.image!r}, command={self.command!r}: a task needs all three")
        check.all_positive(vcpu=self.vcpu, memory=self.memory)
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port={self.port!r}: must be 1 to 65535")
        if self.stop_timeout is not None and not 0 <= self.stop_timeout <= 3600:
            raise ValueError(f"stop_timeout={self.stop_timeout!r}: must be 0 to 3600 seconds, or None")

    def __hash__(self) -> int:
        return hash((self.name, self.image, self.command, self.vcpu, self.memory, self.port))
