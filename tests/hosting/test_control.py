from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.hosting import control

NAMES = st.integers(0, 8).map(lambda n: [f"task-{k}" for k in range(n)])


@given(st.integers(0, 8), NAMES, NAMES)
def test_applied_it_is_at_rest(desired, alive, gone):
    dead = [f"dead-{name}" for name in gone]
    for action in control.decide(desired, alive, dead):
        if action.what == "start":
            alive = [*alive, f"new-{len(alive)}"]
        elif action.what == "bury":
            dead = [name for name in dead if name != action.task]
        else:
            alive = [name for name in alive if name != action.task]
    assert len(alive) == desired and dead == [] and control.decide(desired, alive, dead) == []


def test_the_youngest_is_drained_first():
    assert control.decide(1, ["a", "b", "c"], ["x"]) == [("bury", "x"), ("drain", "c"), ("drain", "b")]
    assert control.decide(2, [], []) == [("start", "")] * 2
    with pytest.raises(ValueError, match="desired=-1"):
        control.decide(-1, [])


def test_a_rehearsal():
    assert control.rehearse([("want", 2), ("kill", 0), ("want", 2), ("want", 1)]) == [
        "started task-1", "started task-2", "died task-1", "started task-3", "drained task-3",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'stop' must be 'want' or 'kill'"):
        control.rehearse([("stop", 1)])
