"""The rehearsal: what the live version will count, by the events chapter's queue and without a clock.

A plan names readings, repeated ones, a poison one, and where the consumer dies: after it has sent the alert of that
reading, before it has noted or acknowledged it. The same plan goes to :func:`beyondlab.capstone.lab.live`.
"""

from __future__ import annotations

from collections import Counter

from beyondlab.capstone.plan import ATTEMPTS, BATCH, Plan
from beyondlab.capstone.product import Choice
from beyondlab.events.queueing import Delivery, EventQueue


def rehearse(choice: Choice, plan: Plan = Plan()) -> dict[str, int]:
    """Counts of one run: deliveries, alerts sent, alerts lost, alerts too many, dead letters, calls through the proxy.

    What counts of ``choice``: events: direct, queue (each reading acknowledged by itself) or log (a batch at once); state:
    key-value or entity (an alert carries an id that is sent once) or database (a note is read before and written after);
    mesh: whether a proxy stands before the model.
    """
    desk = _Desk(plan, choice.state)
    deliveries = _direct(plan, desk) if choice.events == "direct" else _stored(plan, desk, choice.events)
    return desk.count(deliveries) | {"through Envoy": desk.calls if choice.mesh != "none" else 0}


class _Desk:
    """What the consumer does with a reading, and what is seen outside."""

    def __init__(self, plan: Plan, state: str) -> None:
        self.plan, self.state = plan, state
        self.noted: set[int] = set()
        self.sent: Counter[int] = Counter()
        self.calls = self.dead = 0
        self.died = False

    def work(self, number: int) -> str:
        """``done``, ``died`` or ``poison``, after a call to the model."""
        self.calls += 1
        if number == self.plan.poison:
            return "poison"
        if number not in self.plan.alerts or number in self.noted:
            return "done"
        if self.state == "database" or not self.sent[number]:
            self.sent[number] += 1
        if number == self.plan.dies_at and not self.died:
            self.died = True
            return "died"
        self.noted.add(number)
        return "done"

    def count(self, deliveries: int) -> dict[str, int]:
        wanted = self.plan.alerts
        return {
            "deliveries": deliveries,
            "alerts": sum(self.sent.values()),
            "lost": len(wanted - set(self.sent)),
            "too many": sum(n - 1 for n in self.sent.values()),
            "dead letters": self.dead,
        }


def _direct(plan: Plan, desk: _Desk) -> int:
    """Call after call, none repeated; while the consumer is away they fail."""
    deliveries = down = 0
    for number in plan.sent:
        if down:
            down -= 1
            continue
        deliveries += 1
        if desk.work(number) == "died":
            down = plan.down
    return deliveries


def _stored(plan: Plan, desk: _Desk, events: str) -> int:
    """Batch after batch; what a dead consumer had in hand comes again after the time-out."""
    queue = EventQueue(1.0, max_receives=ATTEMPTS)
    for number in plan.sent:
        queue.send(number)
    now, deliveries = 0.0, 0
    while len(queue):
        hand: list[Delivery] = []
        while len(hand) < BATCH and (delivery := queue.receive(now)):
            hand.append(delivery)
        deliveries += len(hand)
        done = []
        for delivery in hand:
            result = desk.work(delivery.body)
            if result == "died":
                done = []
                break
            if result == "poison":
                if delivery.attempt < ATTEMPTS:
                    queue.refuse(delivery, now=now)
                    continue
                desk.dead += 1
            (done.append if events == "log" else queue.acknowledge)(delivery)
        for delivery in done:
            queue.acknowledge(delivery)
        if not hand or result == "died":
            now += 1.0
    return deliveries
