"""The middle floor: arrivals and workloads, keep-alive and its policies, queues, statistics, closed forms, sweeps.

Importing it imports neither numba nor pandas: that happens when a simulation or a sweep first runs.
"""

from beyondlab.sim.arrivals import poisson, poisson_chunks, renewal, renewal_chunks
from beyondlab.sim.azure import execution_seconds, function_rates
from beyondlab.sim.balancing import POLICIES, BalanceResult, balance
from beyondlab.sim.closed_form import (
    KeepAliveExact,
    allen_cunneen,
    erlang_b,
    erlang_c,
    erlang_c_wait,
    fan_out_slow,
    idle_expiry_share,
    keep_alive_exact,
    largest_of,
    leaf_percentile,
    littles_law,
    pollaczek_khinchine,
    response_percentile,
    wait_exceeds,
)
from beyondlab.sim.keep_alive import COLD, THROTTLED, WARM, KeepAlive, KeepAliveResult, simulate
from beyondlab.sim.policies import (
    FixedKeepAlive,
    GreedyDual,
    HybridHistogram,
    LeastRecentlyUsed,
    PolicyResult,
    simulate_policy,
)
from beyondlab.sim.population import DAY, PopulationResult, simulate_day
from beyondlab.sim.queues import Backoff, QueueResult, RetryResult, queue, queue_with_retries
from beyondlab.sim.service import constant, exponential, lognormal
from beyondlab.sim.statistics import (
    Interval,
    batch_means,
    batch_percentile,
    correct_omission,
    mean_interval,
    percentile_interval,
    warm_up_length,
    without_warm_up,
)
from beyondlab.sim.sweeps import SweepError, SweepResult, sweep
from beyondlab.sim.traces import TraceError, arrivals_of_minutes, read_durations, read_invocations, read_memory, read_requests
from beyondlab.sim.workloads import Workload, workload

__all__ = [
    "COLD",
    "DAY",
    "POLICIES",
    "THROTTLED",
    "WARM",
    "Backoff",
    "BalanceResult",
    "FixedKeepAlive",
    "GreedyDual",
    "HybridHistogram",
    "Interval",
    "KeepAlive",
    "KeepAliveExact",
    "KeepAliveResult",
    "LeastRecentlyUsed",
    "PolicyResult",
    "PopulationResult",
    "QueueResult",
    "RetryResult",
    "SweepError",
    "SweepResult",
    "TraceError",
    "Workload",
    "allen_cunneen",
    "arrivals_of_minutes",
    "balance",
    "batch_means",
    "batch_percentile",
    "constant",
    "correct_omission",
    "erlang_b",
    "erlang_c",
    "erlang_c_wait",
    "execution_seconds",
    "exponential",
    "fan_out_slow",
    "function_rates",
    "idle_expiry_share",
    "keep_alive_exact",
    "largest_of",
    "leaf_percentile",
    "littles_law",
    "lognormal",
    "mean_interval",
    "percentile_interval",
    "poisson",
    "poisson_chunks",
    "pollaczek_khinchine",
    "queue",
    "queue_with_retries",
    "read_durations",
    "read_invocations",
    "read_memory",
    "read_requests",
    "renewal",
    "renewal_chunks",
    "response_percentile",
    "simulate",
    "simulate_day",
    "simulate_policy",
    "sweep",
    "wait_exceeds",
    "warm_up_length",
    "without_warm_up",
    "workload",
]
