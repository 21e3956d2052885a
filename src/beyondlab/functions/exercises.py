"""The checks of the exercises in "AWS Lambda and its cold starts". None is a learner's answer not given yet."""

from __future__ import annotations

import ast
import math
import sys
import types
from collections.abc import Callable
from typing import Any

from beyondlab.kit.exercises import Verdict, check_function, check_number, verdict


def check_keep_alive(seconds: float | None) -> Verdict:
    """Exercise 1: the keep-alive time, in seconds, that leaves 1 % of the calls cold at one call in 600 s."""
    return check_number(
        seconds,
        -math.log(0.01) * 600,
        unit="s",
        rtol=0.01,
        mistakes=[
            (-math.log(0.99) * 600, "That leaves 99 % of the requests cold: the cold ones are those after a gap longer than K."),
            (-math.log(0.01) * 10, "That is in minutes."),
            (-math.log(0.01) / 600, "Divide by the rate: one in 600 seconds is a rate of 1/600."),
        ],
        hint="Solve exp(-K / 600) = 0.01 for K.",
    )


def check_fan_out(percent: float | None) -> Verdict:
    """Exercise 2: page views, in percent, that meet a cold start among 20 calls of 0.2 % each."""
    return check_number(
        percent,
        100 * (1 - 0.998**20),
        unit="%",
        rtol=0.005,
        mistakes=[
            (4.0, "20 times 0.2 % counts a view with two cold starts twice."),
            (100 * 0.998**20, "That is the share that meets none."),
            (1 - 0.998**20, "That is the share; the answer is asked for in percent."),
        ],
        hint="First the probability that none of the 20 is cold.",
    )


def check_scaling(seconds: float | None) -> Verdict:
    """Exercise 3: seconds until 10,000 environments, from 1,000 at once and 1,000 every 10 s."""
    return check_number(
        seconds,
        90.0,
        unit="s",
        rtol=0.001,
        mistakes=[
            (100.0, "The first 1,000 are there at second 0."),
            (840.0, "That follows the old rule, 3,000 and then 500 a minute."),
            (1.5, "That is in minutes."),
        ],
        hint="How many more are needed after the first 1,000, and how many come in 10 s?",
    )


def check_oldest_first(choose: Callable[..., Any], sandbox: type) -> Verdict:
    """Exercise 4: a policy that takes the usable sandbox used longest ago.

    ``sandbox`` is the notebook's class: ``busy_until`` in seconds, ``usable(now, keep_alive)``.
    """

    def run(ends: list[float], now: float, keep_alive: float) -> float | None:
        boxes = [sandbox(busy_until=end) for end in ends]
        chosen = choose(boxes, now, keep_alive)
        return None if chosen is None else chosen.busy_until

    def reference(ends: list[float], now: float, keep_alive: float) -> float | None:
        return min((end for end in ends if 0 <= now - end <= keep_alive), default=None)

    run.__name__ = getattr(choose, "__name__", "choose")
    cases = [([1.0, 3.0, 2.0], 4.0, 10.0), ([1.0, 3.0, 2.0], 12.5, 10.0), ([5.0, 6.0], 4.0, 10.0), ([], 4.0, 10.0)]
    return check_function(
        run, cases, reference=reference, hint="The arguments shown are: when each sandbox ended, now, and keep_alive."
    )


def _load(code: str, modules: dict[str, types.ModuleType] | None = None) -> dict[str, Any]:
    """Run the source of a handler's module; its names. ``modules`` stand in for imports while it runs."""
    modules = modules or {}
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        names: dict[str, Any] = {}
        exec(compile(code, "app.py", "exec"), names)
        return names
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)


def check_lazy_import(code: str) -> Verdict:
    """Exercise 5: a module that imports scipy only where it is needed, and still answers both events."""
    try:
        names = _load(code)
        top = ast.parse(code).body
    except Exception as error:
        return verdict(False, f"The module does not load: {type(error).__name__}: {error}")
    imported = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    if any(name.split(".")[0] == "scipy" for name in imported):
        return verdict(False, "Not yet: scipy is still imported when the module loads, at init.")
    handler = names.get("handler")
    if not callable(handler):
        return verdict(False, "Not yet: there is no function named handler.")
    try:
        ping, value = handler("ping", None), handler({"p": 0.975}, None)
    except Exception as error:
        return verdict(False, f"Not yet: the handler raised {type(error).__name__}: {error}")
    if ping != "pong":
        return verdict(False, f"Not yet: the event 'ping' should give 'pong'; it gave {ping!r}.")
    if not (isinstance(value, float) and abs(value - 1.959964) < 1e-5):
        return verdict(False, f"Not yet: the event {{'p': 0.975}} should give 1.959964; it gave {value!r}.")
    return verdict(True, "Right: init loads nothing heavy, and the first event that needs scipy pays for it.")


def check_pings(cold_share: float | None) -> Verdict:
    """Exercise 6: share of the real requests that is cold when bursts of ten meet one warm environment."""
    return check_number(
        cold_share,
        0.9,
        rtol=0.001,
        mistakes=[
            (1.0, "The ping keeps one environment warm: one of the ten finds it."),
            (0.0, "One ping at a time keeps one environment warm, not ten."),
            (0.1, "That is the share of the warm ones."),
            (90.0, "That is in percent; a share lies between 0 and 1."),
        ],
        hint="How many environments can one ping keep warm, and how many does a burst need?",
    )


def check_unique_after_restore(code: str) -> Verdict:
    """Exercise 7: a module whose token differs in each restored copy.

    The hooks of snapshot_restore_py are stood in for, so that this works on every machine: the module is loaded,
    "snapshotted", and its after-restore hooks run twice, as in two copies.
    """
    hooks: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
    stand_in = types.ModuleType("snapshot_restore_py")
    stand_in.register_after_restore = lambda f, *a, **k: (hooks.append((f, a, k)), f)[1]
    stand_in.register_before_snapshot = lambda f, *a, **k: f
    try:
        handler = _load(code, {"snapshot_restore_py": stand_in})["handler"]
        tokens = [handler(None, None)]
        for _ in range(2):
            for hook, arguments, keywords in hooks:
                hook(*arguments, **keywords)
            tokens.append(handler(None, None))
        again = handler(None, None)
    except Exception as error:
        return verdict(False, f"Not yet: {type(error).__name__}: {error}")
    if not hooks:
        return verdict(False, "Not yet: nothing is registered with register_after_restore, so both copies share one token.")
    if len(set(tokens)) < 3:
        return verdict(False, "Not yet: after the hook ran, the handler still answers the token of the snapshot.")
    if again != tokens[-1]:
        return verdict(False, "Not yet: the token changes with every request. Once for each restored copy is enough.")
    return verdict(True, "Right: each copy makes its own token, once, after its restore.")
