"""The queue keeps its promises under any order of events; so does the one that the notebook builds from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from beyondlab.events.queueing import EventQueue

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "together" / "event-driven.ipynb"
KEYS = ["a", "b", "c"]


def from_the_notebook() -> SimpleNamespace:
    """What the cells that build the queue define."""
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        if cell["id"] in ("queue", "receipt"):
            exec("".join(cell["source"]), names)
    return SimpleNamespace(**names)


class QueueMachine(RuleBasedStateMachine):
    """Random sends, receives, late and early acknowledgements, refusals and time."""

    ordered = False

    def __init__(self) -> None:
        super().__init__()
        self.queue = EventQueue(3.0, max_receives=3, ordered=self.ordered)
        self.now = 0.0
        self.sent: list[tuple[str, int]] = []
        self.held: list = []
        self.acknowledged: set[int] = set()
        self.first_time: list[tuple[str, int]] = []

    @rule(key=st.sampled_from(KEYS))
    def send(self, key: str) -> None:
        assert self.queue.send(len(self.sent), key=key, now=self.now) == len(self.sent)
        self.sent.append((key, len(self.sent)))

    @rule()
    def receive(self) -> None:
        visible = self.queue.states(self.now)
        found = self.queue.receive(self.now)
        if found is None:
            return
        assert found.number not in self.acknowledged, "delivered after its acknowledgement"
        assert visible[found.number] == "ready"
        assert 1 <= found.attempt <= 3
        if self.ordered:
            open_before = [
                n for (key, n), state in zip(self.sent, self.queue.states(self.now))
                if key == found.key and n < found.number and state in ("ready", "in flight")
            ]
            assert open_before == [], "an earlier message of the key is not done"
        if found.attempt == 1:
            self.first_time.append((found.key, found.number))
        self.held.append(found)

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 99), how=st.sampled_from(["acknowledge", "refuse", "extend"]))
    def answer(self, place: int, how: str) -> None:
        delivery = self.held.pop(place % len(self.held))
        newest = max(d.attempt for d in [delivery, *self.held] if d.number == delivery.number)
        gone = delivery.number in self.acknowledged
        if how == "acknowledge":
            good = self.queue.acknowledge(delivery)
            self.acknowledged |= {delivery.number} if good else set()
        elif how == "refuse":
            good = self.queue.refuse(delivery, now=self.now)
        else:
            good = self.queue.extend(delivery, now=self.now)
        assert not (good and (gone or newest > delivery.attempt)), "a receipt that is not the newest counted"

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        states = self.queue.states(self.now)
        assert len(states) == len(self.sent)
        assert {n for n, state in enumerate(states) if state == "acknowledged"} == self.acknowledged
        assert len(self.queue) == sum(state in ("ready", "in flight") for state in states)
        assert len(self.queue.dead_letters) == states.count("dead")

    @invariant()
    def order_per_key(self) -> None:
        if self.ordered:
            for wanted in KEYS:
                numbers = [number for key, number in self.first_time if key == wanted]
                assert numbers == sorted(numbers)


class OrderedMachine(QueueMachine):
    ordered = True


class NotebookMachine(RuleBasedStateMachine):
    """The queue of the notebook, step by step beside the library's."""

    def __init__(self) -> None:
        super().__init__()
        self.built = from_the_notebook()
        self.ours, self.twin = self.built.Queue(3.0, 3), EventQueue(3.0, max_receives=3)
        self.now, self.held = 0.0, []

    @rule()
    def send(self) -> None:
        number = len(self.ours.messages)
        self.ours.messages.append(self.built.Message(number))
        self.twin.send(number, now=self.now)

    @rule()
    def receive(self) -> None:
        here, there = self.ours.receive(self.now), self.twin.receive(self.now)
        assert (here and (here[0].body, here[1])) == (there and (there.body, there.attempt))
        if here:
            self.held.append((here, there))

    @precondition(lambda self: self.held)
    @rule(place=st.integers(0, 99))
    def acknowledge(self, place: int) -> None:
        here, there = self.held.pop(place % len(self.held))
        assert self.built.acknowledge(*here) == self.twin.acknowledge(there)

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def dead_alike(self) -> None:
        assert self.ours.dead == self.twin.dead_letters or sorted(self.ours.dead) == self.twin.dead_letters


for machine in (QueueMachine, OrderedMachine, NotebookMachine):
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestQueue = QueueMachine.TestCase
TestOrderedQueue = OrderedMachine.TestCase
TestQueueOfTheNotebook = NotebookMachine.TestCase


def test_the_life_of_a_message():
    queue = EventQueue(30.0, max_receives=2)
    queue.send("a")
    first = queue.receive(0.0)
    assert queue.receive(29.9) is None
    second = queue.receive(30.0)
    assert (second.body, second.attempt) == ("a", 2)
    assert not queue.acknowledge(first) and queue.acknowledge(second) and not queue.acknowledge(second)
    assert queue.receive(99.0) is None and queue.states(99.0) == ["acknowledged"]


def test_a_late_acknowledgement_counts_until_somebody_else_has_it():
    queue = EventQueue(1.0)
    queue.send("a")
    slow = queue.receive(0.0)
    assert queue.acknowledge(slow), "late, but nobody else got it"


def test_poison_goes_to_the_dead_letters_and_lets_the_next_of_its_key_pass():
    queue = EventQueue(10.0, max_receives=2, ordered=True)
    queue.send("poison", key="k")
    queue.send("next", key="k")
    for _ in range(2):
        delivery = queue.receive(0.0)
        assert delivery.body == "poison" and queue.receive(0.0) is None
        queue.refuse(delivery, now=0.0)
    assert queue.receive(0.0).body == "next"
    assert queue.dead_letters == ["poison"]


def test_a_heartbeat_extends_and_a_delay_hides():
    queue = EventQueue(10.0)
    queue.send("a", delay=5.0)
    assert queue.receive(4.9) is None
    delivery = queue.receive(5.0)
    assert queue.extend(delivery, now=14.0) and queue.receive(23.9) is None
    assert queue.receive(24.0).attempt == 2 and not queue.extend(delivery, now=24.0)


def test_a_full_queue_refuses_and_ages():
    queue = EventQueue(capacity=2)
    assert [queue.send(n, now=float(n)) for n in range(3)] == [0, 1, None]
    assert queue.refused == 1 and len(queue) == 2 and queue.oldest_age(10.0) == 10.0
    queue.acknowledge(queue.receive(3.0))
    assert queue.send("again", now=4.0) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"visibility": -1}, "visibility=-1"), ({"visibility": float("inf")}, "visibility=inf"), ({"max_receives": 0}, "max_receives=0"),
     ({"capacity": 0}, "capacity=0"), ({"max_receives": True}, "max_receives=True")],
)  # fmt: skip
def test_bad_settings_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        EventQueue(**arguments)


def test_bad_messages_are_refused():
    with pytest.raises(ValueError, match="key=None"):
        EventQueue(ordered=True).send("a")
    with pytest.raises(ValueError, match="delay=-1"):
        EventQueue().send("a", delay=-1)
