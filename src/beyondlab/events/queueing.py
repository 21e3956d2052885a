"""An event queue with visibility time-out, redelivery, acknowledgement and a dead-letter queue, without a clock.

The rules are those of Amazon SQS (Developer Guide, "Amazon SQS visibility timeout", "dead-letter queues", "FIFO queue
delivery logic"). Time is an argument, in seconds, so that a test can make any order of events happen.

Life of a message: ``ready`` -> ``in flight`` -> ``acknowledged``; back to ``ready`` when its time-out passes or it is
refused; to ``dead`` instead when it has been received ``max_receives`` times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from beyondlab.kit import check

State = Literal["ready", "in flight", "acknowledged", "dead"]


@dataclass(frozen=True)
class Delivery:
    """One delivery of a message: what a consumer gets. ``receipt`` is good for this delivery only."""

    receipt: tuple[int, int]
    number: int
    """The message's place in the order of sending, from 0."""
    body: Any
    key: str | None
    attempt: int
    """1 for the first delivery."""


@dataclass
class _Message:
    number: int
    body: Any
    key: str | None
    sent: float
    visible: float
    receives: int = 0
    state: State = "ready"


class EventQueue:
    """A queue that delivers at least once.

    ``visibility``: seconds that a delivered message stays hidden. ``max_receives``: deliveries after which it goes to
    the dead letters instead of being delivered again; None for no limit. ``ordered``: messages of one key are delivered
    one at a time and in order, as in the message groups of an SQS FIFO queue. ``capacity``: most messages that are
    neither acknowledged nor dead; None for no limit.

    Raises ValueError for a setting outside its range.
    """

    def __init__(
        self,
        visibility: float = 30.0,
        *,
        max_receives: int | None = None,
        ordered: bool = False,
        capacity: int | None = None,
    ) -> None:
        check.non_negative("visibility", visibility, "seconds")
        for name, limit in (("max_receives", max_receives), ("capacity", capacity)):
            if limit is not None:
                check.whole(name, limit, 1)
        self.visibility, self.max_receives, self.ordered, self.capacity = visibility, max_receives, ordered, capacity
        self.refused = 0
        """Messages not taken because the queue was full."""
        self._messages: list[_Message] = []
        self._open: dict[int, _Message] = {}

    def __len__(self) -> int:
        """Messages neither acknowledged nor dead: the lag that an autoscaler sees."""
        return len(self._open)

    def send(self, body: Any, *, key: str | None = None, now: float = 0.0, delay: float = 0.0) -> int | None:
        """Store a message; its number, which is the sender's acknowledgement. None if the queue is full.

        Raises ValueError if the queue is ordered and there is no ``key``, or ``delay`` is negative.
        """
        if self.ordered and key is None:
            raise ValueError("key=None: an ordered queue needs a key for each message")
        check.non_negative("delay", delay, "seconds")
        if self.capacity is not None and len(self._open) >= self.capacity:
            self.refused += 1
            return None
        message = _Message(len(self._messages), body, key, now, now + delay)
        self._messages.append(message)
        self._open[message.number] = message
        return message.number

    def receive(self, now: float) -> Delivery | None:
        """The oldest message that is visible, hidden from now on for the visibility time-out; None if there is none."""
        for message in self._candidates(now):
            if self.max_receives is not None and message.receives >= self.max_receives:
                self._close(message, "dead")
                continue
            message.receives += 1
            message.state, message.visible = "in flight", now + self.visibility
            receipt = (message.number, message.receives)
            return Delivery(receipt, message.number, message.body, message.key, message.receives)
        return None

    def _candidates(self, now: float) -> Iterator[_Message]:
        """Visible messages, oldest first; of each key only the head where order is kept."""
        blocked: set[str | None] = set()
        for message in list(self._open.values()):
            if self.ordered and message.key in blocked:
                continue
            if message.visible <= now:
                yield message
            if self.ordered and message.number in self._open:
                blocked.add(message.key)

    def acknowledge(self, delivery: Delivery) -> bool:
        """Remove the message for good. False, and nothing happens, if it was delivered again since, or is gone."""
        message = self._current(delivery)
        if message is None:
            return False
        self._close(message, "acknowledged")
        return True

    def refuse(self, delivery: Delivery, *, now: float, delay: float = 0.0) -> bool:
        """Give the message back, to be visible again after ``delay`` seconds. False as for :meth:`acknowledge`."""
        return self._hide(delivery, now + delay, "ready")

    def extend(self, delivery: Delivery, *, now: float) -> bool:
        """A heartbeat: hide the message for another whole time-out from now. False as for :meth:`acknowledge`."""
        return self._hide(delivery, now + self.visibility, "in flight")

    def _hide(self, delivery: Delivery, until: float, state: State) -> bool:
        message = self._current(delivery)
        if message is None:
            return False
        message.visible, message.state = until, state
        return True

    def _current(self, delivery: Delivery) -> _Message | None:
        number, receives = delivery.receipt
        message = self._open.get(number)
        return message if message is not None and message.receives == receives else None

    def _close(self, message: _Message, state: State) -> None:
        message.state = state
        del self._open[message.number]

    def states(self, now: float) -> list[State]:
        """The state of each message, in the order of sending. A time-out that has passed makes it ready again."""
        return [
            "ready" if m.state == "in flight" and m.visible <= now else m.state
            for m in self._messages
        ]

    @property
    def dead_letters(self) -> list[Any]:
        """Bodies of the messages given up, in the order of sending."""
        return [m.body for m in self._messages if m.state == "dead"]

    def next_visible(self) -> float:
        """When the next open message will be visible; infinity if there is none."""
        return min((m.visible for m in self._open.values()), default=math.inf)

    def oldest_age(self, now: float) -> float:
        """Seconds since the oldest open message was sent; 0 if there is none."""
        return max((now - m.sent for m in self._open.values()), default=0.0)
