"""The checks of the exercises in "Hybrid orchestration". None is a learner's answer not given yet."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from beyondlab.fleets import division, propagation
from beyondlab.fleets.lease import Entry, Times, rejected_by_fence
from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict


def check_capacity(percent: float | None) -> Verdict:
    """Exercise 1: total capacity, in per cent of the demand, with which four equal clusters survive the loss of one."""
    return check_number(
        percent, 100 * 4 / 3, unit="%", rtol=0.005,
        mistakes=[
            (125.0, "That is a quarter more on the whole; the three that are left must carry all of it: each a third of the demand."),
            (100 / 3, "That is what each of the four must be able to carry. The question is about all of them."),
            (400 / 3 - 100, "That is the spare part alone."),
            (200.0, "That is what two clusters need."),
        ],
        hint="What must each of the three that are left carry?",
    )  # fmt: skip


def check_next_cluster(function: Callable[..., Any] | None) -> Verdict:
    """Exercise 2: Webster's next cluster, from weights and replicas."""

    def reference(weights: Mapping[str, int], replicas: Mapping[str, int]) -> str:
        after = division.webster(1, weights, replicas)
        return next(name for name in weights if after[name] > replicas[name])

    cases = [
        ({"a": 3, "b": 2, "c": 1}, {"a": 0, "b": 0, "c": 0}), ({"a": 3, "b": 2, "c": 1}, {"a": 1, "b": 0, "c": 0}),
        ({"a": 3, "b": 2, "c": 1}, {"a": 2, "b": 1, "c": 0}), ({"a": 1, "b": 1}, {"a": 0, "b": 0}), ({"a": 3, "b": 1}, {"a": 1, "b": 0}),
        ({"a": 6, "b": 4, "c": 3}, {"a": 2, "b": 1, "c": 1}),
    ]  # fmt: skip
    return check_function(
        function, cases, reference=reference,
        hint="The highest weight / (2 × replicas + 1); of equals the one with fewer replicas, then the first by name.",
    )  # fmt: skip


def check_desired(function: Callable[..., Any] | None) -> Verdict:
    """Exercise 3: the autoscaler's replicas from usage (None: no metric), request and target, with tolerance 0.1."""

    def reference(usage: list[int | None], request: int, target: int) -> int:
        from beyondlab.fleets import hpa

        pods = [hpa.Pod(f"pod-{i}", request) for i in range(len(usage))]
        known = {f"pod-{i}": hpa.Sample(value) for i, value in enumerate(usage) if value is not None}
        return hpa.desired(len(usage), pods, known, target)

    cases = [
        ([300, 500, 700], 1000, 30), ([500, 500], 1000, 50), ([540, 540], 1000, 50), ([100, 300, 500, 250, 250], 1000, 50),
        ([1900, None], 1000, 100), ([600, None], 1000, 100), ([400, 95, None, None], 1000, 100), ([2000, None, None], 1000, 50),
    ]  # fmt: skip
    return check_function(
        function, cases, reference=reference,
        hint="A pod without a metric counts as its request if the ratio of the others is below 1, as 0 if above; then the ratio again. "
        "If it turned round, or lies within the tolerance, do nothing.",
    )  # fmt: skip


def check_reconcile(function: Callable[..., Any] | None) -> Verdict:
    """Exercise 4: a level-triggered reconcile(wanted, running) -> (names to start, names to stop), by running it."""
    if function is None:
        return verdict(False, "Not answered yet: write the function.")
    rng = random.Random(7)
    running: set[str] = set()
    for step in range(200):
        wanted = {f"pod-{i}" for i in range(rng.randrange(6))}
        if rng.random() < 0.3 and running:
            running.discard(rng.choice(sorted(running)))
        try:
            answer = function(set(wanted), set(running))
            start, stop = map(set, answer)
        except Exception as error:
            return verdict(False, f"reconcile({sorted(wanted)}, {sorted(running)}) raised {type(error).__name__}: {error}. It must return two collections of names.")
        if start & running:
            return verdict(False, f"Step {step}: {sorted(start & running)} is started although it runs.")
        if stop - running:
            return verdict(False, f"Step {step}: {sorted(stop - running)} is stopped although it does not run.")
        running = (running | start) - stop
        if running != wanted:
            return verdict(False, f"Step {step}: {sorted(wanted)} are wanted and {sorted(running)} run.")
    return verdict(True, "Right: 200 rounds with pods that die and wishes that change, and each ends as wanted.")


def check_policy(policy: Mapping[str, Any] | None) -> Verdict:
    """Exercise 5: a policy under which a workload stays on-premises, and another that may leave, is cheap and survives a loss."""
    if policy is None or any(policy.get(key) is None for key in ("ledger", "web")):
        return verdict(False, "Not answered yet: give the arguments of a Policy for 'ledger' and for 'web'.")
    clusters = [
        propagation.Cluster("cloud-a", True, {"kind": "cloud"}, 100, 0.040, 12), propagation.Cluster("cloud-b", True, {"kind": "cloud"}, 100, 0.044, 25),
        propagation.Cluster("on-premises", True, {"kind": "on-premises", "data": "stays"}, 8, 0.060, 4),
    ]  # fmt: skip
    try:
        ledger, web = (propagation.Policy(**policy[name]) for name in ("ledger", "web"))
        where = propagation.place(4, clusters, ledger)
        if set(where) != {"on-premises"}:
            return verdict(False, f"The ledger's data must stay on-premises; your policy places it on {', '.join(where)}.")
        where = propagation.place(10, clusters, web)
    except (TypeError, ValueError) as error:
        return verdict(False, f"Not yet: {error}")
    if len(where) < 2:
        return verdict(False, f"The web must survive the loss of a cluster; all ten run on {next(iter(where))}.")
    if "on-premises" in where:
        return verdict(False, "The web need not run on-premises, where a replica costs most.")
    if where.get("cloud-a", 0) < 9:
        return verdict(False, f"Cheaper is possible: {where}. Cloud A costs least, and one replica elsewhere is a foothold.")
    return verdict(True, f"Right: the ledger stays, and the web runs as {where}.")


def check_lease(times: Mapping[str, float] | None) -> Verdict:
    """Exercise 6: lease times with which another takes over within 10 s of a loss, no two lead, and two lost renewals are harmless."""
    if times is None or any(times.get(key) is None for key in ("duration", "deadline", "retry")):
        return verdict(False, "Not answered yet: give duration, deadline and retry in seconds.")
    try:
        given = Times(**times)
    except (TypeError, ValueError) as error:
        return verdict(False, f"Not yet: {error}")
    worst = given.duration + given.retry
    if worst > 10:
        return verdict(False, f"Too slow: the last renewal is seen, then {given.duration:g} s pass, and up to {given.retry:g} s until the next try: {worst:g} s.")
    if given.deadline < 3 * given.retry:
        return verdict(False, f"Too nervous: with {given.retry:g} s between tries and {given.deadline:g} s to succeed, two that fail end the lead.")
    if given.duration - given.deadline < 1:
        return verdict(False, f"Too tight: only {given.duration - given.deadline:g} s between one's stop and the other's start, for clocks and for a write under way; leave 1 s.")
    return verdict(True, f"Right: at worst {worst:g} s without a leader, and {given.duration - given.deadline:g} s between two.")


def check_flapping(answer: str | None) -> Verdict:
    """Exercise 7: what makes the replicas of a Deployment jump between 2 and 8, judged by its managed fields."""
    return check_choice(answer, "gitops", {
        "gitops": "argocd applies .spec.replicas: 2 by force every three minutes, and so takes the field from the autoscaler, which takes it back. "
        "Leave replicas out of the manifest.",
        "autoscaler": "The autoscaler does what it is for, and its wish is steady at 8. Who writes the other number?",
        "kubelet": "A kubelet writes the status of pods and nodes; it owns no field here.",
        "etcd": "etcd kept every write, in order. Two writers disagree.",
    })  # fmt: skip


def check_common(share: float | None) -> Verdict:
    """Exercise 8: the common-cause share at which a second cluster no longer halves what one loses."""
    single = 2.0 * 4.0 / 8_766

    def down(beta: float) -> float:
        return beta * single + ((1 - beta) * single) ** 2

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if down(middle) < single / 2 else (low, middle)
    return check_number(
        share, high, rtol=0.01,
        mistakes=[(50.0, "That is in per cent; a share lies between 0 and 1."), (0.25, "Half of the outages may be shared before half of the loss is.")],
        hint="Both down: β·u + ((1−β)·u)². The second term is tiny, for u is about 0.0009.",
    )  # fmt: skip


def check_fence(function: Callable[..., Any] | None) -> Verdict:
    """Exercise 9: of writes (time, writer, token) in the order of their arrival, those that a fence refuses."""

    def reference(writes: list[tuple[float, str, int]]) -> list[tuple[float, str, int]]:
        return [(each.time, each.writer, each.token) for each in rejected_by_fence([Entry(*write) for write in writes])]

    cases = [
        [(0.0, "a", 3), (0.1, "a", 3), (0.2, "b", 4), (0.3, "a", 3), (0.4, "b", 4)], [(0.0, "a", 0), (0.1, "b", 1), (0.2, "c", 2), (0.3, "b", 1), (0.4, "c", 2)],
        [(0.0, "a", 1)], [], [(0.0, "a", 5), (0.1, "b", 4), (0.2, "c", 6), (0.3, "a", 5)],
    ]  # fmt: skip
    return check_function(
        function, [(case,) for case in cases], reference=reference,
        hint="Remember the highest token seen so far. What comes with a lower one is refused.",
    )  # fmt: skip
