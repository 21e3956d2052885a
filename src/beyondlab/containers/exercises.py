"""The checks of the exercises in "What is a container?". None is a learner's answer not given yet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from beyondlab.containers.images import OPAQUE, WHITEOUT, chain_ids, digest
from beyondlab.containers.look import capability_names
from beyondlab.containers.model import burst_time, distinct_bases, longest_stall
from beyondlab.kit.exercises import Verdict, check_function, check_number, verdict

DOCKER_MASK = 0x00000000A80425FB
"""CapEff of root in a Docker container without options."""


def check_burst(milliseconds: float | None) -> Verdict:
    """Exercise 1: how long 300 ms of CPU work take under a limit of 0.5, one thread, from a period's start."""
    return check_number(
        milliseconds,
        1e3 * burst_time(0.3, 0.5),
        unit="ms",
        rtol=0.001,
        mistakes=[
            (600.0, "That is the average speed: but the last 50 ms run at full speed, and no wait follows them."),
            (300.0, "That is without a limit."),
            (0.55, "That is in seconds."),
            (500.0, "That is when the last period begins; its 50 ms are missing."),
        ],
        hint="How often is the quota of 50 ms used up before the last part runs?",
    )


def check_stall(milliseconds: float | None) -> Verdict:
    """Exercise 2: the longest stall of 8 threads under a limit of 2 with the default period."""
    return check_number(
        milliseconds,
        1e3 * longest_stall(2.0, threads=8),
        unit="ms",
        rtol=0.001,
        mistakes=[
            (25.0, "That is how long the quota lasts. The stall is the rest of the period."),
            (80.0, "A limit of 2 is 200 ms of quota in each period, not 100 ms."),
            (87.5, "A limit of 2 is 200 ms of quota in each period, not 100 ms."),
            (0.075, "That is in seconds."),
        ],
        hint="When have 8 threads used up 200 ms together?",
    )


def check_chain(function: Callable[[list[str]], list[str]] | None) -> Verdict:
    """Exercise 3: a function from DiffIDs, lowest first, to the ChainID of each stack."""
    names = [digest(text) for text in (b"a", b"b", b"c")]
    return check_function(
        function,
        [(names[:count],) for count in (1, 2, 3)],
        reference=chain_ids,
        hint="The lowest ChainID is its DiffID. Every other one is the digest of the ChainID below, a space and its own DiffID.",
    )


def check_whiteouts(names: Iterable[str] | None) -> Verdict:
    """Exercise 4: the entries of a layer that deletes etc/secret and empties var/cache."""
    if names is None:
        return verdict(False, "Not answered yet: give a list of paths.")
    if isinstance(names, str):
        return verdict(False, f"A list of two paths is wanted; this is the text {names!r}.")
    given = {str(name).removeprefix("./").rstrip("/") for name in names}
    wanted = {f"etc/{WHITEOUT}secret", f"var/cache/{OPAQUE}"}
    if given == wanted:
        return verdict(True, "Right: one whiteout for the file, one opaque whiteout for the folder.")
    if "var/.wh.cache" in given:
        return verdict(False, "Not yet: .wh.cache deletes the folder itself. It shall stay, empty.")
    if f"{WHITEOUT}etc/secret" in given or f"{WHITEOUT}secret" in given:
        return verdict(False, "Not yet: a whiteout stands in the folder of the file that it deletes.")
    if f"var/cache/{WHITEOUT}" in given or "var/cache/.wh.*" in given:
        return verdict(False, f"Not yet: what hides all of a folder is a file in it called {OPAQUE}.")
    missing, extra = sorted(wanted - given), sorted(given - wanted)
    too_many = f", {len(extra)} too many: {extra[0]}" if extra else ""
    return verdict(False, f"Not yet: {len(missing)} of 2 missing{too_many}.")


def check_weight(megabytes: float | None) -> Verdict:
    """Exercise 5: what a pull moves when a later layer deletes 500 MB."""
    return check_number(
        megabytes,
        600.0,
        unit="MB",
        rtol=0.001,
        mistakes=[
            (100.0, "That is what the container sees. The layer with the 500 MB is pulled all the same."),
            (580.0, "The last layer is pulled too."),
            (-400.0, "A whiteout takes nothing away from a layer below."),
        ],
        hint="Which layers does the manifest name?",
    )


def check_mask(answer: Any) -> Verdict:
    """Exercise 6: the capabilities of Docker's default mask, as a set of names."""
    if answer is None:
        return verdict(False, "Not answered yet: write the function.")
    if not callable(answer):
        return verdict(False, f"A function is wanted; this is {answer!r}.")
    cases = [0, 1, 0x400, DOCKER_MASK, (1 << 41) - 1]

    @functools.wraps(answer)
    def names(mask: int) -> list[str] | None:
        given = answer(mask)
        return None if given is None else sorted(given)

    def reference(mask: int) -> list[str]:
        return sorted(capability_names(mask))

    return check_function(names, cases, reference=reference, hint="Bit number n of the mask is CAPABILITIES[n].")


def check_bases(count: float | None) -> Verdict:
    """Exercise 7: how many of 5 bases, equally liked, 10 images use on average."""
    return check_number(
        count,
        distinct_bases(10, [0.2] * 5),
        rtol=0.005,
        mistakes=[
            (5.0, "Some base may be used by none of the ten."),
            (2.0, "That is how many images a base has on average."),
            (5 * 0.8**10, "That is how many are used by none."),
        ],
        hint="The probability that none of ten images uses a given base is 0.8 to the power of 10.",
    )

