"""Side by side: the keep-alive simulator of this course, simfaas, simpy and a plain heap, in one run.

All simulate the same requests: Poisson arrivals and unit-exponential draws e made once from a seed, service time 2.0 e
warm and 2.2 e cold, keep-alive 600 s, one request an environment. Each runs in a process of its own; inputs are made
and code is compiled before the clock starts; the best of at least three runs counts. The counts of cold starts must
agree:

* all but simfaas use the most recently used idle environment first and must agree exactly;
* simfaas uses the newest created first, and must agree exactly with a plain heap under that policy.

    python benchmarks/keep_alive.py              all rates, and the targets checked (some minutes)
    python benchmarks/keep_alive.py --no-targets report only
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WARM_SECONDS, COLD_SECONDS, KEEP_ALIVE = 2.0, 2.2, 600.0
SEED = 2026
LEAST_TIMED = 0.5
MEMORY_REQUESTS = 1_000_000
MOST_BYTES = 24.0

OURS, REFERENCE, HEAP, NEWEST_HEAP, SIMPY, SIMFAAS = (
    "beyondlab, numba",
    "beyondlab, Python",
    "plain heapq",
    "plain heapq, newest first",
    "simpy",
    "simfaas",
)
TARGETS = ((10.0, SIMPY, 100.0), (10.0, SIMFAAS, 300.0), (100.0, SIMFAAS, 1000.0))
"""At this rate, at least so many times the speed of this peer."""

Gaps = NDArray[np.float64]
Simulation = Callable[[], int]


@dataclass(frozen=True)
class Measured:
    """What one contender did at one rate."""

    contender: str
    rate: float
    requests: int
    seconds: float
    cold: int

    @property
    def speed(self) -> float:
        """Requests simulated per second."""
        return self.requests / self.seconds


def inputs(rate: float, requests: int) -> tuple[Gaps, Gaps]:
    """Inter-arrival times in seconds and unit-exponential draws, the same in every process."""
    rng = np.random.default_rng(SEED)
    return rng.standard_exponential(requests) / rate, rng.standard_exponential(requests)


def ours(engine: str) -> Callable[[Gaps, Gaps], Simulation]:
    def prepare(gaps: Gaps, draws: Gaps) -> Simulation:
        from beyondlab.sim import simulate

        arrivals, warm, cold = np.cumsum(gaps), WARM_SECONDS * draws, COLD_SECONDS * draws
        simulate(arrivals[:1], warm[:1], KEEP_ALIVE, cold_service=cold[:1], engine=engine)
        return lambda: simulate(arrivals, warm, KEEP_ALIVE, cold_service=cold, engine=engine).cold

    return prepare


def plain_heap(gaps: Gaps, draws: Gaps) -> Simulation:
    """The script one would write: a heap of departures, a stack of idle environments."""
    requests = list(zip(np.cumsum(gaps).tolist(), draws.tolist(), strict=True))

    def run() -> int:
        departures: list[float] = []
        idle: list[float] = []
        cold = 0
        for now, draw in requests:
            while departures and departures[0] <= now:
                idle.append(heapq.heappop(departures))
            if idle and now - idle[-1] <= KEEP_ALIVE:
                idle.pop()
                heapq.heappush(departures, now + WARM_SECONDS * draw)
            else:
                idle.clear()
                cold += 1
                heapq.heappush(departures, now + COLD_SECONDS * draw)
        return cold

    return run


def newest_heap(gaps: Gaps, draws: Gaps) -> Simulation:
    """The same with the policy of simfaas: of the idle environments, the newest created one serves."""
    requests = list(zip(np.cumsum(gaps).tolist(), draws.tolist(), strict=True))

    def run() -> int:
        departures: list[tuple[float, int]] = []
        idle: list[tuple[int, float]] = []
        cold = 0
        for now, draw in requests:
            while departures and departures[0][0] <= now:
                since, number = heapq.heappop(departures)
                heapq.heappush(idle, (-number, since))
            while idle:
                number, since = heapq.heappop(idle)
                if now - since <= KEEP_ALIVE:
                    heapq.heappush(departures, (now + WARM_SECONDS * draw, -number))
                    break
            else:
                cold += 1
                heapq.heappush(departures, (now + COLD_SECONDS * draw, cold))
        return cold

    return run


def simpy_model(gaps: Gaps, draws: Gaps) -> Simulation:
    """One simpy process a request; expiry is found at the next request, without an event for it."""
    import simpy

    requests = list(zip(gaps.tolist(), draws.tolist(), strict=True))

    def run() -> int:
        environment = simpy.Environment()
        idle: list[float] = []
        cold = 0

        def request(draw: float):
            nonlocal cold
            if idle and environment.now - idle[-1] <= KEEP_ALIVE:
                idle.pop()
                seconds = WARM_SECONDS * draw
            else:
                idle.clear()
                cold += 1
                seconds = COLD_SECONDS * draw
            yield environment.timeout(seconds)
            idle.append(environment.now)

        def source():
            for gap, draw in requests:
                yield environment.timeout(gap)
                environment.process(request(draw))

        environment.process(source())
        environment.run()
        return cold

    return run


def simfaas_model(gaps: Gaps, draws: Gaps) -> Simulation:
    """simfaas, its random processes replaced by the given numbers (it has no seed of its own)."""
    os.environ["MPLBACKEND"] = "Agg"
    from simfaas.ServerlessSimulator import ServerlessSimulator
    from simfaas.SimProcess import SimProcess

    class Given(SimProcess):
        def __init__(self, numbers, factor: float) -> None:
            super().__init__()
            self.numbers, self.factor = numbers, factor

        def generate_trace(self) -> float:
            return self.factor * next(self.numbers, math.inf)

    end = float(np.cumsum(gaps)[-1])

    def run() -> int:
        drawn = iter(draws.tolist())  # shared: each request takes the next draw, be it warm or cold
        simulator = ServerlessSimulator(
            arrival_process=Given(iter(gaps.tolist()), 1.0),
            warm_service_process=Given(drawn, WARM_SECONDS),
            cold_service_process=Given(drawn, COLD_SECONDS),
            expiration_threshold=KEEP_ALIVE,
            maximum_concurrency=10**9,
            max_time=end,
        )
        simulator.generate_trace(debug_print=False, progress=False)
        if simulator.total_req_count != len(gaps):
            raise RuntimeError(f"simfaas served {simulator.total_req_count} of {len(gaps)} requests")
        return simulator.total_cold_count

    return run


CONTENDERS: dict[str, Callable[[Gaps, Gaps], Simulation]] = {
    OURS: ours("numba"),
    REFERENCE: ours("python"),
    HEAP: plain_heap,
    NEWEST_HEAP: newest_heap,
    SIMPY: simpy_model,
    SIMFAAS: simfaas_model,
}


def measure_here(contender: str, rate: float, requests: int, repeat: int) -> dict[str, float]:
    """Best of ``repeat`` runs, or of more until half a second has been timed."""
    run = CONTENDERS[contender](*inputs(rate, requests))
    best, spent, runs = math.inf, 0.0, 0
    while runs < repeat or (repeat > 1 and spent < LEAST_TIMED):
        start = time.perf_counter()
        cold = run()
        seconds = time.perf_counter() - start
        best, spent, runs = min(best, seconds), spent + seconds, runs + 1
    return {"seconds": best, "cold": cold}


def memory_here(requests: int) -> dict[str, float]:
    """Most bytes allocated during one simulation, beyond its inputs, over the number of requests."""
    run = CONTENDERS[OURS](*inputs(10.0, requests))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run()
    return {"bytes": (tracemalloc.get_traced_memory()[1] - before) / requests}


def in_child(*arguments: str) -> dict[str, float]:
    """Run this script in a process of its own and read its one line of JSON."""
    command = [sys.executable, os.path.abspath(__file__), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=280, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def faults(results: list[Measured], bytes_a_request: float, *, targets: bool) -> list[str]:
    """What is wrong: counts that differ and, if asked for, targets missed."""
    table = {(one.rate, one.contender): one for one in results}
    found = []
    for rate in sorted({one.rate for one in results}):
        for peer, expected in ((REFERENCE, OURS), (HEAP, OURS), (SIMPY, OURS), (SIMFAAS, NEWEST_HEAP)):
            one, other = table[rate, peer].cold, table[rate, expected].cold
            if one != other:
                found.append(f"rate {rate:g}: {peer} counts {one} cold starts, {expected} {other}")
    for rate, peer, least in TARGETS if targets else ():
        ratio = table[rate, OURS].speed / table[rate, peer].speed
        if ratio < least:
            found.append(f"rate {rate:g}: {ratio:.0f} times {peer}, target {least:g}")
    if targets and not bytes_a_request < MOST_BYTES:
        found.append(f"{bytes_a_request:.1f} bytes a request beyond the inputs, target under {MOST_BYTES:g}")
    return found


def report(results: list[Measured], bytes_a_request: float) -> str:
    """The results as a Markdown table."""
    lines = [
        "| rate (1/s) | simulator | requests | requests/s | ours is faster by | cold starts |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    fastest = {one.rate: one.speed for one in results if one.contender == OURS}
    for one in results:
        ratio = fastest[one.rate] / one.speed
        lines.append(
            f"| {one.rate:g} | {one.contender} | {one.requests:,} | {one.speed:,.0f} | {ratio:,.1f} | {one.cold} |"
        )
    lines += [
        "",
        f"Memory of beyondlab beyond its inputs: {bytes_a_request:.2f} bytes a request.",
        "",
        f'{SIMFAAS} and "{NEWEST_HEAP}" use the newest environment first, the others the most recently used one.',
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 10.0, 100.0], help="arrivals a second")
    parser.add_argument("--requests", type=int, default=100_000, help="requests at each rate")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the best counts")
    parser.add_argument("--no-targets", action="store_true", help="compare counts and report, without targets")
    parser.add_argument("--child", choices=[*CONTENDERS, "memory"], help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    missing = {rate for rate, _, _ in TARGETS} - set(chosen.rates)
    if missing and not (chosen.no_targets or chosen.child):
        parser.error(f"the targets need the rates {sorted(missing)}: add them, or --no-targets")
    if chosen.child == "memory":
        print(json.dumps(memory_here(chosen.requests)))
        return 0
    if chosen.child:
        print(json.dumps(measure_here(chosen.child, chosen.rates[0], chosen.requests, chosen.repeat)))
        return 0
    results = []
    for rate in chosen.rates:
        for contender in CONTENDERS:
            print(f"measuring {contender} at rate {rate:g}", file=sys.stderr, flush=True)
            found = in_child(
                "--child", contender, "--rates", str(rate),
                "--requests", str(chosen.requests), "--repeat", str(chosen.repeat),
            )  # fmt: skip
            results.append(Measured(contender, rate, chosen.requests, found["seconds"], int(found["cold"])))
    requests = min(MEMORY_REQUESTS, 10 * chosen.requests)
    bytes_a_request = in_child("--child", "memory", "--requests", str(requests))["bytes"]
    print(report(results, bytes_a_request))
    found_faults = faults(results, bytes_a_request, targets=not chosen.no_targets)
    for fault in found_faults:
        print(f"MISSED: {fault}")
    if not found_faults:
        print("\nCold starts agree" + ("." if chosen.no_targets else "; every target is reached."))
    return 1 if found_faults else 0


if __name__ == "__main__":
    sys.exit(main())
