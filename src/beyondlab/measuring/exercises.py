"""The checks of the exercises in "Measuring and simulating". None is a learner's answer not given yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number


def check_fan_out(percent: float | None) -> Verdict:
    """Exercise 1: share of page views, in percent, that meet a slow answer: 30 calls, each slow once in 200."""
    return check_number(
        percent,
        100 * (1 - 0.995**30),
        unit="%",
        rtol=0.005,
        mistakes=[
            (15.0, "30 times 0.5 % counts a view with two slow answers twice."),
            (100 * 0.995**30, "That is the share that meets none."),
            (1 - 0.995**30, "That is the share; the answer is asked for in percent."),
        ],
        hint="First the probability that none of the 30 is slow.",
    )


def check_leaf(percent: float | None) -> Verdict:
    """Exercise 2: how many in a hundred answers may be slow at each of 50 servers if 95 % of the pages must be fast."""
    return check_number(
        percent,
        100 * (1 - 0.95 ** (1 / 50)),
        unit="%",
        rtol=0.005,
        mistakes=[
            (0.1, "5 % divided by 50 is close, but not it: solve (1 - p)^50 = 0.95."),
            (100 * 0.95 ** (1 / 50), "That is the share that must be fast."),
            (1 - 0.95 ** (1 / 50), "That is the share; the answer is asked for in percent."),
        ],
        hint="All 50 must be fast at once.",
    )


def check_little(requests: float | None) -> Verdict:
    """Exercise 3: requests in the system at 250 a second and 80 ms each."""
    return check_number(
        requests,
        20.0,
        unit="requests",
        rtol=0.001,
        mistakes=[(20_000.0, "Milliseconds: 80 ms are 0.08 s."), (3.125, "Multiply rate and time, do not divide.")],
        hint="L = λ W, in the same unit of time.",
    )


def check_response(response: Callable[..., Any] | None) -> Verdict:
    """Exercise 4: response times of one first-come, first-served server, by Lindley's recursion.

    The function takes arrivals and service times (seconds, ascending) and returns waiting plus service for each.
    """

    def run(arrivals: list[float], service: list[float]) -> list[float]:
        given = response(arrivals, service)
        return None if given is None else [float(value) for value in given]

    def reference(arrivals: list[float], service: list[float]) -> list[float]:
        free, out = 0.0, []
        for now, seconds in zip(arrivals, service):
            free = max(free, now) + seconds
            out.append(free - now)
        return out

    run.__name__ = getattr(response, "__name__", "response")
    cases = [
        ([0.0, 10.0], [1.0, 2.0]),
        ([0.0, 1.0, 2.0], [2.0, 2.0, 2.0]),
        ([0.0, 0.0, 5.0, 5.5], [1.0, 1.0, 1.0, 1.0]),
        ([], []),
    ]
    hint = "A request begins when it has come and the one before it has left, whichever is later."
    return check_function(None if response is None else run, cases, reference=reference, hint=hint)


def check_needed(requests: float | None) -> Verdict:
    """Exercise 5: requests for an interval of 30 000 requests' half-width to shrink to a third."""
    return check_number(
        requests,
        270_000,
        unit="requests",
        rtol=0.001,
        mistakes=[
            (90_000, "Three times the requests shrink it by √3 only."),
            (10_000, "Fewer requests make it wider."),
            (30_000 * math.sqrt(3), "The other way round: the width falls with the root of the number."),
        ],
        hint="The half-width falls with one over the square root of the number.",
    )


def check_loop(kind: str | None) -> Verdict:
    """Exercise 6: which generator the sentence describes."""
    return check_choice(
        kind,
        "closed",
        {
            "closed": "100 connections that each wait for their answer can never have more than 100 requests in work, "
            "however slow the server is.",
            "open": "an open loop would go on sending while answers are missing; these connections wait.",
        },
    )


def check_correction(correct: Callable[..., Any] | None) -> Verdict:
    """Exercise 7: HdrHistogram's correction: an answer of w, expected every i, stands for w, w - i, w - 2i, … down to i."""

    def run(values: list[float], interval: float) -> list[float]:
        given = correct(values, interval)
        return None if given is None else sorted(float(value) for value in given)

    def reference(values: list[float], interval: float) -> list[float]:
        out = []
        for value in values:
            out.append(value)
            out += list(np.arange(value - interval, interval - 1e-9, -interval))
        return sorted(float(value) for value in out)

    run.__name__ = getattr(correct, "__name__", "correct")
    cases = [([5.0], 10.0), ([30.0], 10.0), ([35.0, 8.0], 10.0), ([10.0], 10.0), ([], 10.0)]
    hint = "While one answer takes 30 and one was due every 10, two more requests should have been sent: 20 and 10 late."
    return check_function(None if correct is None else run, cases, reference=reference, hint=hint)
