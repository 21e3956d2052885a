"""The live version against the rehearsal, on plans other than the notebook's."""

from dataclasses import replace

import pytest

from beyondlab.capstone import lab, twin
from beyondlab.capstone.plan import Plan
from beyondlab.capstone.solutions import SOLUTIONS

needs = pytest.mark.skipif(lab.missing() is not None, reason=str(lab.missing()))


@pytest.mark.parametrize(("change", "says"), [
    ({"dies_at": 43}, "divisible"), ({"poison": 4}, "must not"), ({"repeated": (500,)}, "numbers of readings"),
])  # fmt: skip
def test_a_plan_that_makes_no_sense_is_refused(change, says):
    with pytest.raises(ValueError, match=says):
        Plan(**change)


def design(events, state, mesh="none"):
    return replace(SOLUTIONS["most portable"].choice, events=events, state=state, mesh=mesh)


@pytest.mark.parametrize(("choice", "counts"), [
    (design("queue", "key-value", "ambient"), (26, 4, 0, 0, 0, 21)), (design("queue", "entity"), (26, 4, 0, 0, 0, 0)),
    (design("log", "database", "sidecar"), (30, 5, 0, 1, 0, 25)), (design("direct", "database", "sidecar"), (14, 3, 1, 0, 0, 14)),
])  # fmt: skip
def test_rehearsal_by_hand(choice, counts):
    plan = Plan(readings=20, alert_every=5, repeated=(), poison=0, dies_at=5)
    assert tuple(twin.rehearse(choice, plan).values()) == counts


def test_delivered_again_is_uniform_over_the_batch():
    plans = [Plan(alert_every=1, repeated=(), poison=0, dies_at=n) for n in range(41, 51)]
    again = [twin.rehearse(design("queue", "key-value"), plan)["deliveries"] - 120 for plan in plans]
    assert sorted(again) == list(range(1, 11))
    assert {twin.rehearse(design("log", "key-value"), plan)["deliveries"] - 120 for plan in plans} == {10}


@needs
def test_the_model_is_a_real_graph(tmp_path):
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(lab.write_model(tmp_path))
    rows = np.array([lab.FINE, lab.BAD], np.float32)
    (risk,) = session.run(None, {"features": rows})
    by_hand = 1 / (1 + np.exp(-(rows @ np.array([[4.0], [6.0], [2.0]]) - 5)))
    assert np.allclose(risk, by_hand, atol=1e-6) and risk[0, 0] < 0.5 < risk[1, 0]


@needs
def test_live_counts_are_the_rehearsed_ones():
    plan = Plan(readings=60, alert_every=3, repeated=(6, 7), poison=50, dies_at=24, down=4)
    assert lab.run_all(plan) == {name: twin.rehearse(choice, plan) for name, choice in lab.RUNS.items()}
