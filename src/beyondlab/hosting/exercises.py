"""The checks of the exercises in "Serverless containers". None is a learner's answer not given yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from beyondlab.hosting import control
from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number


def check_size(units: int | None) -> Verdict:
    """Exercise 1: CPU units of the smallest Fargate task for half a vCPU and 5 GB."""
    return check_number(
        units,
        1024,
        rtol=0.001,
        mistakes=[
            (512, "With 512 units Fargate sells 1 to 4 GB. You need 5."),
            (2048, "That holds it, but a smaller one does too."),
            (1, "In CPU units: 1,024 to a vCPU."),
        ],
        hint="Go down the table until the memory fits.",
    )


def check_bill(seconds: float | None) -> Verdict:
    """Exercise 2: seconds that Fargate bills for runs of 12, 61.2 and 600 s."""
    return check_number(
        seconds,
        722,
        unit="s",
        rtol=0.0005,
        mistakes=[
            (673.2, "That is what ran. Each run is rounded up to a second, and a minute is the least."),
            (674, "Each run is rounded up to a second. But a minute is the least."),
            (721.2, "Nearly: 61.2 s are rounded up to a whole second."),
            (780, "After the first minute it goes by the second, not by the minute."),
        ],
        hint="Three runs, each by itself.",
    )


def check_break_even(rate: float | None) -> Verdict:
    """Exercise 3: requests a second at which 0.36 USD an hour equals 4 USD a million requests."""
    return check_number(
        rate,
        25.0,
        unit="a second",
        rtol=0.005,
        mistakes=[
            (90_000, "That is an hour's worth. Per second, please."),
            (90, "An hour has 3,600 seconds."),
            (0.04, "Upside down: divide the price of the instance by that of a request."),
        ],
        hint="Divide what the instance costs in a second by what one request costs.",
    )


def check_best_fit(choose: Callable[..., Any] | None) -> Verdict:
    """Exercise 4: ``choose(free, need)``: place of the host on which least CPU is left, memory fitting too; None if none.

    ``free``: list of (vCPU, MiB) that each host has left. ``need``: (vCPU, MiB). The first of equals.
    """

    def reference(free: Sequence[tuple[float, int]], need: tuple[float, int]) -> int | None:
        fit = [k for k, (cpu, memory) in enumerate(free) if cpu >= need[0] and memory >= need[1]]
        return min(fit, key=lambda k: free[k][0], default=None)

    cases = [
        ([(4, 8192), (2, 8192)], (1, 1024)),
        ([(4, 8192), (2, 512)], (1, 1024)),
        ([(0.5, 8192)], (1, 1024)),
        ([(2, 4096), (1, 1024), (1, 2048)], (1, 1024)),
        ([], (1, 1024)),
    ]
    return check_function(
        choose, cases, reference=reference, hint="Both must fit; then the least CPU left; None if no host has room."
    )


def check_decide(decide: Callable[..., Any] | None) -> Verdict:
    """Exercise 5: ``decide(desired, alive)``: how many to start, and the names to drain, youngest first."""

    def reference(desired: int, alive: Sequence[str]) -> tuple[int, list[str]]:
        actions = control.decide(desired, list(alive))
        return sum(a.what == "start" for a in actions), [a.task for a in actions if a.what == "drain"]

    cases = [(3, ["a"]), (1, ["a", "b", "c"]), (2, ["a", "b"]), (0, ["a"]), (2, [])]
    return check_function(decide, cases, reference=reference, hint="alive is in order of age, the oldest first.")


def check_diagnosis(answer: str | None) -> Verdict:
    """Exercise 6: requests are lost at each scale-in, and no task is ever killed."""
    return check_choice(
        answer,
        "drain",
        {
            "drain": "the tasks end at once on SIGTERM, politely, with requests in work. Take them out of the load balancer "
            "first, wait for what is in flight, then stop.",
            "stop time-out": "a longer one helps tasks that need more time; these end well before theirs, with status 0.",
            "memory": "a task killed for want of memory ends with status 137, and not just at scale-in.",
            "Spot": "an interruption is not a scale-in, and the stopped reason would say so.",
        },
    )


def check_stop_timeout(seconds: float | None) -> Verdict:
    """Exercise 7: least stop time-out so that at most 5 % of jobs of mean 40 s are lost at an interruption."""
    return check_number(
        seconds,
        40 * math.log(20),
        unit="s",
        rtol=0.01,
        mistakes=[
            (40 * 0.95, "95 % of the mean is not what 95 % of the jobs need."),
            (40 * 20, "Not twenty times the mean: exponential times end sooner than that."),
            (-40 * math.log(0.95), "That is the time after which 5 % have ended, not 95 %."),
        ],
        hint="What is left of an exponential time is exponential: exp(-T / 40) = 0.05.",
    )
