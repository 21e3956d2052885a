"""Scale to zero for a model that takes seconds to load, and what a thousand predictions cost where.

Pure functions over the closed form of :mod:`beyondlab.sim.closed_form`, published bandwidths and the dated prices of
:mod:`beyondlab.kit.prices`. Time in seconds, sizes in GB of 10^9 bytes, money in USD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from beyondlab.kit import check
from beyondlab.kit.prices import price
from beyondlab.kit.tables import Table, percent, quantity, table
from beyondlab.sim.closed_form import erlang_b, keep_alive_exact

# Where the weights are: tiers


@dataclass(frozen=True)
class Tier:
    """Where weights wait. ``stages``: GB a second of each step to the GPU; ``start``: seconds before the first."""

    name: str
    stages: tuple[float, ...]
    start: float = 0.0

    def load(self, gb: float) -> float:
        """Seconds until ``gb`` of weights are in the GPU. Raises ValueError unless ``gb`` is positive."""
        check.positive("gb", gb, "GB")
        return self.start + sum(gb / stage for stage in self.stages)


ORDINARY = 60 / 34
"""GB a second of an ordinary loader: OPT-30B, 60 GB in 16 bits, takes 34 s (Fu et al., OSDI'24)."""
FASTER = (3.6, 8.2)
"""How much faster ServerlessLLM's loader is (Fu et al., OSDI'24)."""
DOWNLOAD = 5.0
"""GB a second of the paper's example of a fast network: 130 GB in 26 s."""
PCIE = 31.5
"""GB a second of PCI Express 4.0 with 16 lanes: 16 GT/s a lane, 128b/130b coding. A limit, not a measurement."""
GPU_START = 5.0
"""Seconds until an instance of Cloud Run with a GPU has started, drivers included (Google's documentation)."""

TIERS = (
    Tier("object store, new instance", (DOWNLOAD, ORDINARY), GPU_START),
    Tier("local SSD, ordinary loader", (ORDINARY,)),
    Tier("local SSD, ServerlessLLM", (ORDINARY * FASTER[0],)),
    Tier("host memory", (PCIE,)),
)
"""From far to near. The last three need a server that stays; only its GPU is handed from model to model."""


@dataclass(frozen=True)
class Scaled:
    """A model on GPUs that scales to zero: share of cold requests, mean seconds to the first token, USD per 1,000."""

    keep_alive: float
    cold_share: float
    first_token: float
    usd_per_1000: float


def gpu_second() -> float:
    """USD a second of the smallest Cloud Run instance with an L4: the GPU, 4 vCPU and 16 GiB."""
    return (
        price("inference.cloud-run-l4")
        + 4 * price("inference.cloud-run-instance-vcpu")
        + 16 * price("inference.cloud-run-instance-memory")
    )


def scale_to_zero(rate: float, service: float, load: float, keep_alive: float, *, prefill: float = 0.2) -> Scaled:
    """One model, ``rate`` requests a second of ``service`` seconds each, instances kept ``keep_alive`` seconds.

    Cold requests wait ``load`` seconds more, and the instance is paid from its start to its end. The share is that of
    the closed form, which does not know that requests which come during a load make more cold starts: right for a
    load that is short beside the gaps, too low otherwise (see the simulation).
    """
    exact = keep_alive_exact(rate, service, keep_alive)
    return _scaled(rate, load, keep_alive, prefill, exact.cold_share, exact.instances + rate * exact.cold_share * load)


def simulated_scale_to_zero(
    rate: float,
    service: float,
    load: float,
    keep_alive: float,
    *,
    prefill: float = 0.2,
    count: int = 50_000,
    seed: int = 1,
) -> Scaled:
    """The same by simulation, a cold request taking ``service + load``."""
    from beyondlab import sim

    arrivals = sim.poisson(rate, count=count, seed=seed)
    seconds = sim.exponential(service, count=count, seed=seed + 1)
    run = sim.simulate(arrivals, seconds, keep_alive, cold_service=seconds + load)
    return _scaled(rate, load, keep_alive, prefill, run.cold_share, run.mean_instances)


def _scaled(rate: float, load: float, keep_alive: float, prefill: float, cold: float, instances: float) -> Scaled:
    return Scaled(keep_alive, cold, prefill + cold * load, 1000 * instances * gpu_second() / rate)


# What a thousand predictions cost


@dataclass(frozen=True)
class Prediction:
    """A model in service, as its owner knows it.

    ``rate``: predictions a second, on average. ``seconds``: of one vCPU for one prediction. ``gb``: weights.
    ``load``: seconds of a cold start. ``keep_alive``: seconds an idle instance stays. ``gpu``: how many times faster a
    GPU is.
    """

    rate: float
    seconds: float
    gb: float
    load: float
    keep_alive: float = 600.0
    gpu: float = 10.0

    def __post_init__(self) -> None:
        check.all_positive(**vars(self))

    @property
    def memory(self) -> float:
        """GB that an environment needs: the weights, a fifth more, and half a GB for the runtime."""
        return 1.2 * self.gb + 0.5


@dataclass(frozen=True)
class Option:
    """One way to serve: USD per 1,000 predictions, share of cold ones and their wait; ``why`` if it does not work."""

    name: str
    usd_per_1000: float = math.inf
    cold_share: float = 0.0
    wait: float = 0.0
    why: str = ""


LAMBDA_MEMORY = 10_240 / 1_024
"""GB, the largest that Lambda has."""
ONE_VCPU = 1_769 / 1_024
"""GB of Lambda's memory that come with one vCPU."""
BUSY = 0.6
"""The utilisation up to which servers are filled."""
CLOUD_RUN_MEMORY = {1: 4.0, 2: 8.0, 4: 16.0, 8: 32.0}
"""vCPU to the most GiB that Cloud Run gives with them."""
SERVER_MEMORY, SERVER_VCPU, GPU_MEMORY = 8.0, 2, 24.0


def on_lambda(p: Prediction) -> Option:
    """AWS Lambda on demand: one request an environment, init billed."""
    if p.memory > LAMBDA_MEMORY:
        return Option("Lambda", why=f"needs {p.memory:.1f} GB, Lambda has {LAMBDA_MEMORY:.0f}")
    cold = keep_alive_exact(p.rate, p.seconds, p.keep_alive).cold_share
    billed = _lambda_memory(p) * (p.seconds + cold * p.load)
    usd = price("lambda.requests") / 1e6 + billed * price("lambda.duration-x86")
    return Option("Lambda", 1000 * usd, cold, p.load)


def _lambda_memory(p: Prediction) -> float:
    return max(ONE_VCPU, p.memory)


def on_cloud_run(p: Prediction) -> Option:
    """Cloud Run, request-based, one request an instance; each rounded up to 100 ms."""
    vcpu = next((vcpu for vcpu, most in CLOUD_RUN_MEMORY.items() if p.memory <= most), None)
    if vcpu is None:
        return Option("Cloud Run", why=f"needs {p.memory:.1f} GB, Cloud Run has {max(CLOUD_RUN_MEMORY.values()):.0f}")
    cold = keep_alive_exact(p.rate, p.seconds, p.keep_alive).cold_share
    second = vcpu * price("inference.cloud-run-vcpu") + p.memory * price("inference.cloud-run-memory")
    billed = math.ceil(p.seconds / 0.1 - 1e-9) * 0.1 + cold * p.load
    return Option("Cloud Run", 1000 * (second * billed + price("inference.cloud-run-requests") / 1e6), cold, p.load)


def on_cloud_run_gpu(p: Prediction) -> Option:
    """Cloud Run with an L4: billed as long as the instance lives."""
    if p.memory > GPU_MEMORY:
        return Option("Cloud Run, L4", why=f"needs {p.memory:.1f} GB, the GPU has {GPU_MEMORY:.0f}")
    scaled = scale_to_zero(p.rate, p.seconds / p.gpu, GPU_START + p.load, p.keep_alive)
    return Option("Cloud Run, L4", scaled.usd_per_1000, scaled.cold_share, GPU_START + p.load)


def warm_pool(p: Prediction, *, target: float = 1e-3) -> Option:
    """Lambda's provisioned concurrency, as much as leaves at most ``target`` of the requests cold."""
    if p.memory > LAMBDA_MEMORY:
        return Option("Warm pool", why=f"needs {p.memory:.1f} GB, Lambda has {LAMBDA_MEMORY:.0f}")
    count, gb = 1, _lambda_memory(p)
    while (cold := keep_alive_exact(p.rate, p.seconds, p.keep_alive, provisioned=count).cold_share) > target:
        count += 1
    spilled = erlang_b(count, p.rate * p.seconds)
    usd = (
        price("lambda.requests") / 1e6
        + count * gb * price("lambda.provisioned-x86") / p.rate
        + (1 - spilled) * p.seconds * gb * price("lambda.provisioned-duration-x86")
        + (spilled * p.seconds + cold * p.load) * gb * price("lambda.duration-x86")
    )
    return Option(f"Warm pool of {count}", 1000 * usd, cold, p.load)


def servers(p: Prediction) -> int:
    """How many servers of two vCPU the rate needs at 60 % utilisation."""
    return max(1, math.ceil(p.rate * p.seconds / (SERVER_VCPU * BUSY)))


def on_servers(p: Prediction) -> Option:
    """Plain virtual machines, always on."""
    if p.memory > SERVER_MEMORY:
        return Option("Server", why=f"needs {p.memory:.1f} GB, the server has {SERVER_MEMORY:.0f}")
    count = servers(p)
    return Option(f"{count} server{'s' * (count > 1)}", count * price("inference.server") / 3.6 / p.rate)


def on_gpu_servers(p: Prediction) -> Option:
    """Virtual machines with a GPU, always on."""
    if p.memory > GPU_MEMORY:
        return Option("GPU server", why=f"needs {p.memory:.1f} GB, the GPU has {GPU_MEMORY:.0f}")
    count = max(1, math.ceil(p.rate * p.seconds / p.gpu / BUSY))
    return Option(f"{count} GPU server{'s' * (count > 1)}", count * price("inference.gpu-server") / 3.6 / p.rate)


def options(p: Prediction) -> list[Option]:
    """All six ways."""
    return [on_lambda(p), on_cloud_run(p), on_cloud_run_gpu(p), warm_pool(p), on_servers(p), on_gpu_servers(p)]


def decide(p: Prediction) -> Table:
    """The options as a table, the cheapest marked."""
    found = options(p)
    best = min(option.usd_per_1000 for option in found)
    rows = []
    for o in found:
        if o.why:
            rows.append([o.name, "–", "–", o.why])
        else:
            mark = " ←" if o.usd_per_1000 == best else ""
            wait = f"{percent(o.cold_share, digits=2)} wait {o.wait:.2g} s" if o.wait else "none"
            rows.append([o.name, f"{quantity(o.usd_per_1000)}{mark}", quantity(o.usd_per_1000 * p.rate * 2_592), wait])
    return table(["Option", "USD per 1,000", "USD a month", "Cold"], rows, align="lrrl")


def break_even(p: Prediction) -> float:
    """Predictions a second above which one server is cheaper than Lambda, cold starts left out.

    Infinite if the server is full before that, or too small; 0 if Lambda cannot run it.
    """
    if p.memory > SERVER_MEMORY:
        return math.inf
    if p.memory > LAMBDA_MEMORY:
        return 0.0
    per_request = price("lambda.requests") / 1e6 + _lambda_memory(p) * p.seconds * price("lambda.duration-x86")
    rate = price("inference.server") / 3600 / per_request
    return rate if servers(replace(p, rate=rate)) == 1 else math.inf


def of_size(gb: float, *, rate: float = 1.0, read: float = 8.0, store: float = 0.3) -> Prediction:
    """A dense model of ``gb``: a prediction reads all weights once, at ``read`` GB a second; a start fetches them.

    ``store``: GB a second from the object store; half a second of process and imports comes on top.
    """
    return Prediction(rate=rate, seconds=gb / read, gb=gb, load=0.5 + gb / store)


# Versions


def requests_to_notice(good: float, bad: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """Requests that a canary needs until a success rate of ``bad`` is told from ``good``, one-sided.

    The sample size of a test of one proportion (J. L. Fleiss et al., "Statistical Methods for Rates and Proportions",
    3rd ed., 2003, chapter 2): false alarms at most 1 - ``confidence``, a bad version found with ``power``.
    """
    for name, value in (("good", good), ("bad", bad), ("confidence", confidence), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r}: must lie between 0 and 1")
    if not bad < good:
        raise ValueError(f"bad={bad!r}: must be under good={good!r}")
    from scipy.stats import norm

    spread = norm.ppf(confidence) * math.sqrt(good * (1 - good)) + norm.ppf(power) * math.sqrt(bad * (1 - bad))
    return math.ceil((spread / (good - bad)) ** 2)


def break_even_table(sizes: Sequence[float]) -> Table:
    """For dense models of these GB: seconds a prediction and a start take, and the break-even rate."""
    rows = []
    for gb in sizes:
        p = of_size(gb)
        rate = break_even(p)
        rows.append(
            [
                quantity(gb),
                quantity(1000 * p.seconds),
                quantity(p.load),
                "never on one server" if math.isinf(rate) else quantity(rate),
                "–" if on_lambda(p).why else quantity(on_lambda(p).usd_per_1000),
            ]
        )
    header = ["Weights, GB", "Prediction, ms", "Start, s", "Break-even, a second", "Lambda, USD per 1,000"]
    return table(header, rows, align="rrrrr")
