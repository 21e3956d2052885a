"""The checks of the exercises in the capstone. None is a learner's answer not given yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from beyondlab.capstone import nodes, solutions
from beyondlab.capstone.model import evaluate
from beyondlab.capstone.money import always
from beyondlab.capstone.product import DIMENSIONS, HOURS, Choice, Product, Requirements
from beyondlab.capstone.record import LEAST
from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict
from beyondlab.kit.prices import price

FREE = replace(Requirements(), portability=0.75)
"""Exercise 6: three quarters of the work must move as it is."""
TEN_TIMES = Product(devices=(120_000, 80_000))
"""Exercise 5."""


def check_nodes(usd: float | None) -> Verdict:
    """Exercise 1: USD a month of the nodes for four pods of one vCPU and eight of a quarter, at the price table's rate."""
    month = always(HOURS, nodes.vcpus(1) * price("fleet.vcpu-hour"))
    right = nodes.packed([(1.0, 512)] * 4 + [(0.25, 256)] * 8) * month
    return check_number(
        usd, right, unit="USD", rtol=0.005,
        mistakes=[(month, "That is one node; how many are there?"), (right / 2, "A node has two vCPUs, and you pay for both."),
                  (6 * month / 2, "That is six vCPUs. Nodes come whole, and a pod does not run on two of them."),
                  (6 / 1.93 * month, "Nodes come whole."), (right * 720 / 730, "That is a month of 30 days; here it has 730 hours.")],
        hint="On each node: one pod of one vCPU, and what still fits beside it.",
    )  # fmt: skip


def check_product(share: float | None) -> Verdict:
    """Exercise 2: availability under three independent faults of 0.1, 0.2 and 0.05 per cent."""
    return check_number(
        share, 0.999 * 0.998 * 0.9995, rtol=1e-7,
        mistakes=[(0.9965, "That subtracts the sum. Nearly: a moment with two faults counts once."),
                  (0.998, "That is the worst of the three; the others take their share too."),
                  (1 - 0.001 * 0.002 * 0.0005, "That is the chance that not all three are there at once.")],
        hint="An alert arrives if the first fault does not hit it, and the second, and the third.",
    )  # fmt: skip


def check_beats(beats: Callable[[Sequence[float], Sequence[float]], bool] | None) -> Verdict:
    """Exercise 3: ``beats(a, b)``: whether design ``a`` beats ``b``, less being better in every figure."""

    def reference(a: Sequence[float], b: Sequence[float]) -> bool:
        return all(x <= y for x, y in zip(a, b)) and any(x < y for x, y in zip(a, b))

    cases = [((1, 1), (2, 2)), ((1, 2), (1, 2)), ((1, 2), (1, 3)), ((1, 3), (2, 2)), ((2, 2), (1, 1)), ((1, 4), (3, 3)), ((0, 5, 1), (0, 5, 2))]
    return check_function(beats, cases, reference=reference, hint="Nowhere worse, and somewhere better.")


def check_diagnosis(answer: str | None) -> Verdict:
    """Exercise 4: five per cent of the alerts are lost, no fault was injected, pods are busy 60 % at the peak."""
    return check_choice(
        answer,
        "direct calls",
        {
            "direct calls": "in a burst the pods' short queues are full, calls are refused, and nothing remembers the readings. "
            "The day's peak says nothing about a burst, and the alerts come in it.",
            "cold starts": "pods that are always there have none; and a cold start makes an alert late, it does not lose it.",
            "the mesh": "a proxy adds a millisecond and repeats calls; it does not lose alerts without a fault.",
            "residency": "data that stays in its country is not lost.",
        },
    )


def check_growth(factor: float | None) -> Verdict:
    """Exercise 5: by what factor the bill of the most portable solution grows with ten times the devices."""
    choice = solutions.SOLUTIONS["most portable"].choice
    right = evaluate(choice, TEN_TIMES).cost / evaluate(choice).cost
    return check_number(
        factor, right, rtol=0.03,
        mistakes=[(10.0, "Only if all of the bill followed the load. What of it does not?"),
                  (1.0, "The control planes cost the same, the nodes do not."),
                  (1 / right, "That is the other way round.")],
        hint="evaluate(choice, Product(devices=(120_000, 80_000))).cost, over the same for the default.",
    )  # fmt: skip


def check_free(choice: Choice | None) -> Verdict:
    """Exercise 6: a design that meets all requirements and of which three quarters of the work move as they are."""
    return solutions.check(choice, requirements=FREE)


def check_own(choice: Choice | None, reasons: Mapping[str, str] | None) -> Verdict:
    """Exercise 7: a design of one's own that meets all requirements, with a reason for each decision."""
    if choice is None:
        return verdict(False, "Not answered yet: replace None with a Choice, and say why.")
    if any(choice == solution.choice for solution in solutions.SOLUTIONS.values()):
        return verdict(False, "That is one of the three worked solutions. Change a decision.")
    if missing := [name for name in DIMENSIONS if len((reasons or {}).get(name, "").strip()) < LEAST]:
        return verdict(False, f"Say why for {', '.join(missing)}: {LEAST} characters or more.")
    return solutions.check(choice)
