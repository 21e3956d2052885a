"""The Pareto front, the decision record, the solutions and their check."""

from dataclasses import replace

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.capstone import front, product, solutions
from beyondlab.capstone.exercises import FREE
from beyondlab.capstone.product import Choice, Product, Requirements
from beyondlab.capstone.record import decision_record

CHEAPEST, PORTABLE = solutions.SOLUTIONS["cheapest"], solutions.SOLUTIONS["most portable"]
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)


@given(ROWS)
@settings(max_examples=100, deadline=None)
def test_front_is_who_nobody_beats(rows):
    values = np.array(rows, float)
    ahead = front.front(values)
    assert ahead.any()
    for i, row in enumerate(rows):
        beats = [all(x <= y for x, y in zip(other, row)) and other != row for other in rows]
        assert ahead[i] == (not any(beats))
        by = front.beaten_by(values, i)
        assert (by is None) == ahead[i] and (by is None or beats[by])


def test_infinite_figures_can_be_beaten():
    values = np.array([[1.0, np.inf], [1.0, 2.0], [0.5, np.inf]])
    assert front.front(values).tolist() == [False, True, True]
    assert front.beaten_by(values, 0) in (1, 2)
    with pytest.raises(ValueError, match="two dimensions"):
        front.front(np.zeros(3))


@pytest.fixture(scope="module")
def scored():
    return front.sweep()


def test_sweep(scored):
    assert len(scored) == 369 and scored["attempts"].max() == 1
    lawful = front.lawful(scored)
    assert set(lawful["orchestration"]) == {"cluster per country", "managed"}
    good = front.meets(lawful)
    assert 8 <= good.sum() <= 20
    assert front.choice_of(lawful[good].loc[lawful[good]["cost"].idxmin()]) == CHEAPEST.choice
    assert lawful[good]["level"].max() == 5
    most = lawful[good]["portability"].max()
    row = lawful[[front.choice_of(r) == solutions.SOLUTIONS["most portable"].choice for r in lawful.to_dict("records")]]
    assert row["portability"].item() == most
    near = front.nearest(lawful, CHEAPEST.choice)
    assert len(near) == 3 and CHEAPEST.choice not in near
    with pytest.raises(ValueError, match="only its devices"):
        front.sweep(Product(swing=0.1))


def test_by_decision():
    table = pandas.DataFrame({"mesh": ["none", "none", "sidecar"], "cost": [1.0, 3.0, 7.0]})
    assert front.by_decision(table, "mesh", "cost") == {"none": 2.0, "sidecar": 7.0}


@pytest.mark.parametrize("name", solutions.SOLUTIONS)
def test_solutions_meet_everything_and_say_why(name, capsys):
    solution = solutions.SOLUTIONS[name]
    assert solutions.check(solution.choice) and "All six are met" in capsys.readouterr().out
    assert solution.reasons.keys() == product.DIMENSIONS.keys()
    assert "All are met" in decision_record(solution.choice, solution.reasons)


@pytest.mark.parametrize(("choice", "requirements", "says"), [
    (None, Requirements(), ["Not answered yet"]),
    (solutions.POPULAR, Requirements(), ["3 of 6 missed", "isolation: 3, at least 4 wanted; missed by 1 level", "residency"]),
    (replace(PORTABLE.choice, orchestration="managed"), Requirements(), ["cannot be built", "Knative needs a cluster"]),
    (CHEAPEST.choice, Requirements(cost=500.0), ["1 of 6 missed", "USD a month"]),
    (CHEAPEST.choice, FREE, ["portability: 0.53, at least 0.75 wanted; missed by 0.22"]),
    (replace(PORTABLE.choice, events="direct"), Requirements(), ["cost", "missed by 2,250 USD a month"]),
    (replace(PORTABLE.choice, compute="containers", events="direct"), Requirements(), ["availability", "alerts are lost"]),
    (Choice("microvm", "none", "managed", "functions", "key-value", "queue"), Requirements(), ["portability: 0.40, at least 0.50 wanted; missed by 0.10"]),
])  # fmt: skip
def test_check_tells_what_is_missed_and_by_how_much(choice, requirements, says, capsys):
    assert not solutions.check(choice, requirements=requirements)
    out = capsys.readouterr().out
    assert all(text in out for text in says), out


def test_record_has_its_parts_and_writes_only_on_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = decision_record(PORTABLE.choice, PORTABLE.reasons, date="2026-11-27", alternatives=[replace(PORTABLE.choice, isolation="microvm")])
    for part in ("Context", "Decision", "Requirements", "Consequences", "Alternatives", "microvm for gvisor", "Status: Proposed"):
        assert part in text
    assert all(reason in text for reason in PORTABLE.reasons.values())
    assert list(tmp_path.iterdir()) == []
    assert text.write(tmp_path / "0001.md").read_text() == text == text._repr_markdown_()
    with pytest.raises(FileExistsError):
        text.write(tmp_path / "0001.md")


def test_record_says_what_is_missed_and_wants_reasons():
    missed = decision_record(solutions.POPULAR, dict.fromkeys(product.DIMENSIONS, "because everybody does"))
    assert missed.count("**missed**") == 3 and "3 missed" in missed
    with pytest.raises(ValueError, match=r"reasons\['mesh'\]"):
        decision_record(PORTABLE.choice, {**PORTABLE.reasons, "mesh": "so"})
    with pytest.raises(ValueError, match="is no decision"):
        decision_record(PORTABLE.choice, {**PORTABLE.reasons, "colour": "blue, because I like it"})
