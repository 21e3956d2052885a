"""The middle floor: arrivals and workloads, the keep-alive kernel, closed forms.

Importing it does not import numba: that happens when a simulation first runs.
"""

from beyondlab.sim.arrivals import poisson, poisson_chunks, renewal, renewal_chunks
from beyondlab.sim.azure import execution_seconds, function_rates
from beyondlab.sim.closed_form import KeepAliveExact, erlang_b, erlang_c, idle_expiry_share, keep_alive_exact
from beyondlab.sim.keep_alive import COLD, THROTTLED, WARM, KeepAlive, KeepAliveResult, simulate
from beyondlab.sim.population import DAY, PopulationResult, simulate_day
from beyondlab.sim.service import constant, exponential, lognormal

__all__ = [
    "COLD",
    "DAY",
    "THROTTLED",
    "WARM",
    "KeepAlive",
    "KeepAliveExact",
    "KeepAliveResult",
    "PopulationResult",
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
]
