"""The checks of the exercises in "Knative and portable serverless". None is a learner's answer not given yet."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict
from beyondlab.knative import kpa, manifests


def check_pods(pods: float | None) -> Verdict:
    """Exercise 1: pods for 420 requests in flight, a limit of 100 a pod and the default utilisation of 70 %."""
    return check_number(
        pods,
        6,
        unit="pods",
        rtol=1e-9,
        mistakes=[
            (5, "420 / 100 = 4.2 fills the pods. Knative aims at 70 % of the limit."),
            (4, "Knative rounds up, and it aims at 70 % of the limit."),
            (9, "The utilisation counts once: the target is 70, not 49."),
        ],
        hint="The target of a pod is limit times utilisation; then divide and round up.",
    )


def check_direct(pods: float | None) -> Verdict:
    """Exercise 2: ready pods from which the activator leaves the path: 100 a pod, 40 in flight, burst capacity 211."""
    return check_number(
        pods,
        3,
        unit="pods",
        rtol=1e-9,
        mistakes=[
            (2, "2 x 100 - 211 - 40 is negative: the activator stays."),
            (4, "Excess burst capacity counts the full limit of 100 a pod, not the target of 70."),
        ],
        hint="Excess burst capacity is ready x limit - 211 - in flight; the activator leaves at zero or more.",
    )


def check_flapping(cause: str | None) -> Verdict:
    """Exercise 3: two idle pods, limit 100, burst capacity 200: why every single request moves the activator."""
    return check_choice(
        cause,
        "equality",
        {
            "panic": "one request on two pods is far from twice the target of 70; nobody panics.",
            "equality": "2 x 100 - 200 is exactly 0. One request makes it -1, its end makes it 0 again. Knative's default is 211 since.",
            "window": "the excess burst capacity is computed at each tick from the panic window; the stable window plays no part.",
            "utilisation": "capacity counts with the full limit, 100; the utilisation of 70 % plays no part in it.",
        },
    )


def check_window(function: Callable[..., Any] | None) -> Verdict:
    """Exercise 4: the average over the last buckets, newest last, of those that there are."""

    def reference(values: list[float], window: int) -> float:
        kept = values[-window:]
        return sum(kept) / len(kept) if kept else 0.0

    cases = [([0, 0, 12], 60), ([6.0] * 6 + [0.0] * 60, 60), (list(range(100)), 6), ([], 60), ([5.0], 1)]
    return check_function(
        function, cases, reference=reference, hint="Buckets that were never recorded do not count: 3 s of data are averaged over 3 s."
    )


def check_keep(seconds: float | None) -> Verdict:
    """Exercise 5: retention period so that a function called every 600 s on average, at random, is cold half the time."""
    return check_number(
        seconds,
        math.log(2) * 600 - 60,
        unit="s",
        rtol=0.02,
        mistakes=[
            (math.log(2) * 600, "That is the whole time the pod must stay. The stable window gives 60 s of it already."),
            (300.0, "Gaps are exponential, not even: half of them are shorter than 0.69 x 600 s."),
            (600.0 - 60, "That leaves exp(-1) = 37 % cold."),
        ],
        hint="exp(-K / 600) = 0.5 gives the time K that the last pod must stay after the last request; the window is part of K.",
    )


def check_event(handler: Callable[..., Any] | None) -> Verdict:
    """Exercise 6: a handler that answers an event it has seen, by source and id, as it did the first time, without work."""
    if handler is None:
        return verdict(False, "Not answered yet: write the function.")
    if not callable(handler):
        return verdict(False, f"A function is wanted; this is {handler!r}.")
    store: dict[Any, Any] = {}
    done: list[Any] = []

    def charge(event: Mapping[str, Any]) -> dict[str, Any]:
        done.append(event["id"])
        return {"receipt": len(done)}

    def event(id: str, source: str = "/shop") -> dict[str, Any]:
        return {"specversion": "1.0", "id": id, "source": source, "type": "order", "data": {"amount": 7}}

    try:
        answers = [handler(event(*which), store, charge) for which in [("1",), ("2",), ("1",), ("1", "/other"), ("2",)]]
    except Exception as error:
        return verdict(False, f"Not yet: {type(error).__name__}: {error}")
    if any(answer is None for answer in answers):
        return verdict(False, "Not yet: the handler returned nothing. Is a return missing?")
    if len(done) == 5:
        return verdict(False, "Not yet: the repeated event was charged again. Look into the store first.")
    if len(done) == 2:
        return verdict(False, "Not yet: another source may use the same id. CloudEvents are the same if source and id are.")
    if len(done) != 3 or answers[2] != answers[0] or answers[4] != answers[1] or answers[3] == answers[0]:
        return verdict(False, f"Not yet: 3 charges and the first answers again are wanted; there were {len(done)} and {json.dumps(answers)}.")
    return verdict(True, "Right: five deliveries, three charges, and who asks again hears the same answer.")


def check_manifest(manifest: Mapping[str, Any] | None) -> Verdict:
    """Exercise 7: a Knative Service that Cloud Run's API takes without a complaint: at most 20 copies, never under 1."""
    if manifest is None:
        return verdict(False, "Not answered yet: replace None with the manifest.")
    if not isinstance(manifest, Mapping):
        return verdict(False, f"A mapping is wanted, as yaml.safe_load gives it; this is {type(manifest).__name__}.")
    for kind in ("knative", "cloud-run"):
        if wrong := manifests.problems(kind, manifest):
            return verdict(False, f"Not yet, says the schema of {kind}: {wrong[0]}")
    annotations = manifest["spec"]["template"].get("metadata", {}).get("annotations", {})
    asked = {name.removeprefix(manifests.PREFIX): value for name, value in annotations.items()}
    if asked.get("minScale") != "1" or asked.get("maxScale") != "20":
        return verdict(False, f"Not yet: minScale must be '1' and maxScale '20', both as text; there is {asked}.")
    return verdict(True, "Right: both take it. Knative still reads the old names of these two annotations.")


def check_settings(settings: kpa.Settings | None, simulate: Callable[[kpa.Settings], Any]) -> Verdict:
    """Exercise 8: settings with at most 1 % cold and at most 370 pod-hours, by the notebook's simulation."""
    if settings is None:
        return verdict(False, "Not answered yet: replace None with model.with_settings(...).")
    if not isinstance(settings, kpa.Settings):
        return verdict(False, f"Settings are wanted, as model.with_settings(...) gives them; this is {settings!r}.")
    found = simulate(settings)
    if found.cold_share > 0.01:
        return verdict(False, f"Not yet: {100 * found.cold_share:.2f} % of the requests are cold. Which setting keeps the last pod?")
    if found.pod_hours > 370:
        return verdict(False, f"Not yet: {found.pod_hours:.0f} pod-hours. Cold enough, but too dear: shorten the retention period, or raise the target.")
    if found.p99 > 2.5:
        return verdict(False, f"Not yet: p99 is {found.p99:.1f} s. A long stable window makes the autoscaler slow upwards too.")
    return verdict(True, f"Right: {100 * found.cold_share:.2f} % cold, {found.pod_hours:.0f} pod-hours, p99 {found.p99:.1f} s.")
