"""The middle floor: arrivals and workloads, the keep-alive kernel, closed forms.

Importing it imports neither numba nor pandas: that happens when a simulation or a sweep first runs.
"""

from beyondlab.sim.arrivals import poisson, poisson_chunks, renewal, renewal_chunks
from beyondlab.sim.azure import execution_seconds, function_rates
from beyondlab.sim.closed_form import KeepAliveExact, erlang_b, erlang_c, idle_expiry_share, keep_alive_exact
from beyondlab.sim.keep_alive import COLD, THROTTLED, WARM, KeepAlive, KeepAliveResult, simulate
from beyondlab.sim.population import DAY, PopulationResult, simulate_day
from beyondlab.sim.service import constant, exponential, lognormal
from beyondlab.sim.sweeps import SweepError, SweepResult, sweep

__all__ = [
    "COLD",
    "DAY",
    "THROTTLED",
    "WARM",
    "KeepAlive",
    "KeepAliveExact",
    "KeepAliveResult",
    "PopulationResult",
    "SweepError",
    "SweepResult",
    "constant",
    "erlang_b",
    "erlang_c",
    "execution_seconds",
    "exponential",
    "function_rates",
    "idle_expiry_share",
    "keep_alive_exact",
    "lognormal",
    "poisson",
    "poisson_chunks",
    "renewal",
    "renewal_chunks",
    "simulate",
    "simulate_day",
    "sweep",
]
