"""How the cost of simulating a day grows with its invocations, and the targets: 17 million in 3 s, 173 million in 30 s.

10,000 functions whose rates follow Zipf's law with exponent 1, Poisson arrivals, exponential service with a mean of 2 s,
0.2 s of start-up, keep-alive 600 s, one day. Each size runs in a process of its own, so that its peak of memory is its
own; code is compiled before the clock starts; the best of the runs counts.

    python benchmarks/scale.py              10^5 to 10^8 invocations, and the targets checked (a minute or two)
    python benchmarks/scale.py --no-targets report only
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from beyondlab.sim import DAY, simulate_day

SEED = 2026
FUNCTIONS = 10_000
MEAN_SERVICE, START_UP, KEEP_ALIVE = 2.0, 0.2, 600.0
SIZES = (1e5, 1e6, 1e7, 200 * DAY, 1e8, 2_000 * DAY)
"""Expected invocations of a day: 200 and 2,000 a second among them."""
TARGETS = {200 * DAY: 3.0, 2_000 * DAY: 30.0}
"""Expected invocations -> most seconds, on 2 cores."""
MOST_MEGABYTES = 1_000.0


@dataclass(frozen=True)
class Measured:
    """What one size took."""

    expected: float
    invocations: int
    cold: int
    seconds: float
    megabytes: float
    """Peak resident memory of the process, interpreter and compiler included."""


def measure(expected: float, repeat: int) -> Measured:
    """Simulate the day ``repeat`` times in this process; the best time."""
    weights = 1 / np.arange(1, FUNCTIONS + 1)
    rates = weights / weights.sum() * expected / DAY

    def run(which: np.ndarray):
        return simulate_day(which, MEAN_SERVICE, KEEP_ALIVE, seed=SEED, start_up=START_UP)

    run(rates[-3:])  # compiled by that
    best, result = float("inf"), None
    for _ in range(repeat):
        begin = time.perf_counter()
        result = run(rates)
        best = min(best, time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    return Measured(expected, int(result.requests.sum()), int(result.cold.sum()), best, peak)


def in_a_process(expected: float, repeat: int) -> Measured:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", repr(expected), "--repeat", str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{expected:g} invocations: {done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def faults(results: list[Measured], *, targets: bool) -> list[str]:
    """What is not as it should be."""
    found = [
        f"{one.expected:,.0f} expected, {one.invocations:,} simulated"
        for one in results
        if abs(one.invocations / one.expected - 1) > 0.05
    ]
    if targets:
        found += [
            f"{one.expected:,.0f} invocations: {one.seconds:.1f} s, the target is {TARGETS[one.expected]:g} s"
            for one in results
            if one.seconds > TARGETS.get(one.expected, float("inf"))
        ]
        found += [
            f"{one.expected:,.0f} invocations: {one.megabytes:,.0f} MB, the target is {MOST_MEGABYTES:,.0f} MB"
            for one in results
            if one.megabytes > MOST_MEGABYTES
        ]
    return found


def report(results: list[Measured]) -> str:
    """A Markdown table."""
    lines = ["| invocations | seconds | ns an invocation | peak MB | cold |", "|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {one.invocations:,} | {one.seconds:.2f} | {1e9 * one.seconds / one.invocations:,.0f} | {one.megabytes:,.0f} "
        f"| {100 * one.cold / one.invocations:.3g} % |"
        for one in results
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=list(SIZES), help="expected invocations of a day")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--no-targets", action="store_true")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(asdict(measure(arguments.one, arguments.repeat))))
        return 0
    results = [in_a_process(expected, arguments.repeat) for expected in arguments.sizes]
    print(f"A day of {FUNCTIONS:,} functions, Zipf(1):\n\n{report(results)}\n")
    found = faults(results, targets=not arguments.no_targets)
    print("\n".join(found) if found else "All as it should be.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
