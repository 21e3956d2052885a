"""The checks of the exercises in "Service mesh". None is a learner's answer not given yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict
from beyondlab.mesh import kubernetes, tax, xds
from beyondlab.mesh.description import Description
from beyondlab.mesh.model import RetryBudget

LOG = """\
{"route": "to stock", "status": 200, "flags": "-",  "ms": 51, "attempts": 1}
{"route": "to stock", "status": 503, "flags": "UO", "ms": 0,  "attempts": 1}
{"route": "to stock", "status": 503, "flags": "UO", "ms": 0,  "attempts": 1}
{"route": "to stock", "status": 200, "flags": "-",  "ms": 52, "attempts": 1}"""
"""The access log of exercise 1."""


def check_log(cause: str | None) -> Verdict:
    """Exercise 1: what the flag UO in an access log means."""
    return check_choice(cause, "circuit breaker", {
        "circuit breaker": "UO is upstream overflow: too much was open already, so Envoy answered itself, in 0 ms.",
        "time-out": "a time-out takes time: the flag would be UT, the status 504, and ms the limit.",
        "no healthy host": "that would be UH. And the neighbouring requests are answered, so somebody is there.",
        "authorisation": "that answers 403, with UAEX or with details of RBAC.",
    })  # fmt: skip


def check_tiers(attempts: float | None) -> Verdict:
    """Exercise 2: attempts at the bottom of three calls in a row, each with up to three retries, when it is down."""
    return check_number(attempts, 64, rtol=1e-6, mistakes=[
        (4, "That is one caller. Its caller retries too, and each of those tries makes four."),
        (12, "The tries of one level multiply those of the next, they are not added."),
        (27, "Three retries are four attempts."),
        (10, "Count attempts, and multiply them from level to level."),
    ])  # fmt: skip


def check_replicas(replicas: float | None) -> Verdict:
    """Exercise 3: the fewest replicas of which Envoy's default lets two be ejected at a time."""
    return check_number(replicas, 20, rtol=1e-6, mistakes=[
        (10, "Of ten, 10 % are one."),
        (11, "Of eleven, two would be 18 %: over 10 %."),
        (2, "With max_ejection_percent at 10, of two replicas none is ejected."),
        (19, "Two of 19 are 10.5 %, and that is over 10 %."),
    ])  # fmt: skip


def check_safe_load(load: float | None) -> Verdict:
    """Exercise 4: the highest load, in per cent of capacity, from which a budget of 10 % still recovers."""
    return check_number(load, 90, unit="%", rtol=0.004, mistakes=[
        (80, "That is the one for a budget of 20 %."),
        (100 / 1.1, "The budget is a share of all attempts in flight, retries included: load / (1 − b), not load · (1 + b)."),
        (0.9, "That is the share; the answer is asked for in per cent."),
        (25, "That is three retries without a budget."),
    ], hint="Solve load / (1 − budget) = 1.")  # fmt: skip


def check_budget(may_retry: Callable[[int, int], bool] | None) -> Verdict:
    """Exercise 5: ``may_retry(active, retrying)``, for a budget of 20 % with three at least."""

    def reference(active: int, retrying: int) -> bool:
        return retrying < RetryBudget().most(active)

    cases = [(0, 0), (0, 2), (0, 3), (15, 3), (19, 3), (20, 3), (20, 4), (100, 19), (100, 20), (1000, 150), (1000, 200)]
    return check_function(may_retry, cases, reference=reference, hint="One more may be tried again while fewer are than 20 % of the active ones, or than 3.")


STEPS = ("old cluster removed", "routes", "clusters", "endpoints")
"""The steps of exercise 6, in no order."""


def check_order(order: Sequence[str] | None) -> Verdict:
    """Exercise 6: the order of xDS updates in which a new version can be brought in without a failed request."""
    if order is None:
        return verdict(False, "Not answered yet: replace None with a list of the four steps.")
    given = [str(step).strip().lower() for step in order]
    if sorted(given) != sorted(STEPS):
        return verdict(False, f"Use each of these once: {', '.join(STEPS)}.")
    place = {step: number for number, step in enumerate(given)}
    if place["routes"] < place["clusters"]:
        return verdict(False, "Not yet: for a moment a route points at a cluster that is not there. Envoy answers 503.")
    if place["clusters"] < place["endpoints"]:
        return verdict(False, "Not yet: a cluster without endpoints has to wait for them before it can be used.")
    if place["old cluster removed"] < place["routes"]:
        return verdict(False, "Not yet: the old cluster goes while the old route still points at it.")
    return verdict(True, "Right: make before break. What is pointed at exists before, and goes after.")


def check_policy(description: Description | None) -> Verdict:
    """Exercise 7: mutual TLS for stock, only ``orders`` may call it, with GET, at most 20 requests at once, 0.5 s each."""
    if description is None:
        return verdict(False, "Not answered yet: replace None with shop().change(\"stock\", ...).")
    if not isinstance(description, Description):
        return verdict(False, f"A Description is wanted, such as shop().change(...) gives; this is {description!r}.")
    policy = description.policy("stock")
    rules: list[tuple[bool, str]] = [
        (policy.mutual_tls, "stock still takes callers without a certificate: mutual_tls."),
        (policy.callers is not None, "any identity may call stock: callers."),
        (policy.callers == ("orders",), f"stock lets in {policy.callers}, not orders alone."),
        (policy.methods == ("GET",), f"the methods allowed are {policy.methods}, not GET alone."),
        (policy.limits is not None and policy.limits.requests == 20, "nothing limits stock to 20 requests at once: limits=Limits(requests=20)."),
        (policy.timeout == 0.5, f"the time-out is {policy.timeout:g} s, not 0.5 s."),
        (description.policy("orders") == Description(description.instances, description.calls).policy("orders"),
         "the policy of orders was changed too."),
    ]  # fmt: skip
    for holds, complaint in rules:
        if not holds:
            return verdict(False, f"Not yet: {complaint}")
    kinds = {document["kind"] for document in kubernetes.everything(description)}
    filters = len(xds.authorization(policy))
    return verdict(True, f"Right: {filters} RBAC filter for Envoy, and {len(kinds)} kinds of valid documents for Istio and Linkerd.")


def check_fleet(cpu: float | None) -> Verdict:
    """Exercise 8: vCPU that ambient uses at 30,000 requests a second, of which 40 % need HTTP features."""
    wanted = tax.ambient(tax.Fleet(50, 1000, 30_000, l7=0.4)).cpu
    return check_number(cpu, wanted, unit="vCPU", rtol=0.01, mistakes=[
        (tax.sidecars(tax.Fleet(50, 1000, 30_000)).cpu, "That is what sidecars use."),
        (30 * 0.06 + 0.4 * 30 * 0.25, "A request passes two ztunnels: the caller's node and the called one's."),
        (2 * 30 * 0.06, "40 % of the requests pass a waypoint as well."),
        (2 * 30 * 0.06 + 30 * 0.25, "Only 40 % of the requests pass a waypoint."),
    ])  # fmt: skip
