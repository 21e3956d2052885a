"""The figures of "AWS Lambda and its cold starts". Times in seconds unless an axis says otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import percent
from beyondlab.sim.population import PopulationResult


def life(sandboxes: Sequence[Any], arrivals: Sequence[float], *, keep_alive: float) -> Figure:
    """The lives of environments: one row each, with init, work, idle time and expiry.

    ``sandboxes`` have ``work``: a list of (begin, end, "init" or "invoke"), in seconds.
    """
    kinds = {"init": bars(2), "invoke": bars(1)}
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.6))
        for row, box in enumerate(sandboxes, 1):
            born, last = box.work[0][0], box.work[-1][1]
            axes.plot([born, last + keep_alive], [row, row], "-", color=colour("muted"), linewidth=1.4)
            axes.plot(last + keep_alive, row, marker="x", color=colour("ink"), markersize=7, markeredgewidth=1.6)
            for begin, end, kind in box.work:
                axes.barh(row, end - begin, left=begin, height=0.5, **kinds[kind])
        top = len(sandboxes) + 0.62
        axes.plot(arrivals, [top] * len(arrivals), "v", color=colour("ink"), markersize=6)
        handles = [plt.Rectangle((0, 0), 1, 1, **kinds[kind]) for kind in kinds]
        handles.append(plt.Line2D([], [], linestyle="-", color=colour("muted"), linewidth=1.4))
        handles.append(plt.Line2D([], [], color=colour("ink"), marker="x", linestyle="", markeredgewidth=1.6))
        fig.legend(handles, ["init", "invoke", "idle", "expired"], loc="outside upper center", ncols=4, columnspacing=1.2)
        axes.set(xlabel="seconds (triangles: requests)", yticks=range(1, len(sandboxes) + 1), ylim=(0.45, top + 0.3))
        axes.set_ylabel("environment")
        axes.set_xlim(left=-0.6)
        axes.grid(axis="y", visible=False)
    colds = sum(kind == "init" for box in sandboxes for _, _, kind in box.work)
    return Figure(
        fig,
        name="life",
        alt=f"Time line of {len(sandboxes)} environments over {arrivals[-1]:.0f} seconds and {len(arrivals)} requests. "
        f"Each begins with an init, {colds} in all, then works, idles and expires {keep_alive:g} seconds after its "
        "last work. The second starts because the first is busy, the third after a gap.",
        caption="Each row is an environment. Look at what starts a new row: a request that comes while all are busy, "
        "or after all have expired.",
    )


def init_by_import(inits: Result) -> Figure:
    """Init time by what the handler's module imports: every measurement and the median. ``inits`` in ms."""
    names = list(inits)
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.3))
        for row, name in enumerate(reversed(names)):
            axes.barh(row, inits[name].value, height=0.5, **bars(1))
            axes.plot(inits[name].samples, [row] * len(inits[name].samples), "o", color=colour("ink"), markersize=3.5)
        axes.set(yticks=range(len(names)), yticklabels=list(reversed(names)), xlabel="init, milliseconds", xlim=(0, None))
        axes.grid(axis="y", visible=False)
    medians = ", ".join(f"{name} {inits[name].value:.0f} ms" for name in names)
    return Figure(
        fig,
        name="init-by-import",
        alt=f"Bars of the median init time by what the module imports: {medians}. Dots are single runs.",
        caption="The shortest bar is Python and AWS's client. What the others have more is the handler's own imports. "
        f"{inits.label}.",
    )


def cold_share_by_rate(rates: Any, exact: Any, simulated: Any, *, keep_alive: float) -> Figure:
    """Share of cold starts against the rate (requests a second): closed form, rule of thumb and simulation.

    ``simulated`` has a value for every second of the ``rates``.
    """
    rates = np.asarray(rates)
    with style():
        fig, axes = plt.subplots()
        axes.loglog(rates, exact, label="closed form", **{**series(1), "marker": ""})
        thumb = np.exp(-rates * keep_alive)
        line = np.geomspace(rates[0], rates[-1], 400)
        axes.loglog(line, np.exp(-line * keep_alive), label="exp(−λK)", **{**series(2), "marker": ""})
        axes.loglog(rates[::2], simulated, linestyle="", marker="o", color=colour("ink"), label="simulated")
        axes.set(xlabel="requests a second", ylabel="share of requests that are cold", ylim=(4e-5, 1.5))
        axes.set_yticks([1, 0.1, 0.01, 0.001, 0.0001], ["100 %", "10 %", "1 %", "0.1 %", "0.01 %"])
        ticks = {1 / 3600: "1/h", 1 / 60: "1/min", 1: "1/s", 100: "100/s"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.legend(loc="lower left")
    minute = int(np.argmin(np.abs(np.log(rates * 60))))
    return Figure(
        fig,
        name="cold-share-by-rate",
        alt=f"Share of cold requests against the request rate, both on logarithmic axes. The closed form falls from "
        f"{percent(exact[0])} at one an hour to {percent(exact[minute])} at about one a minute and "
        f"{percent(exact[-1])} at 100 a second; "
        f"the simulated dots lie on it. The rule of thumb agrees up to some six an hour, then drops to nothing "
        f"({percent(thumb[minute])} at about one a minute).",
        caption="Dots on the line: simulator and closed form agree. The dashed rule of thumb knows only gaps; from one "
        "request a minute on, nearly every cold start is an overlap.",
    )


def day(rates: Any, result: PopulationResult, *, keep_alive: float) -> Figure:
    """Each function of a day's simulation: its share of cold starts against its rate (requests a second).

    """
    rates = np.asarray(rates)
    called = np.isfinite(result.function_cold_share)
    share, overall = result.function_cold_share[called], result.cold_share
    with style():
        fig, axes = plt.subplots()
        axes.semilogx(rates[called], 100 * share, linestyle="", marker="o", markersize=2.6, alpha=0.75,
                      color=colour("series-1"), label="a function")  # fmt: skip
        axes.axhline(100 * overall, **{**series(2), "marker": ""}, label=f"all requests: {percent(overall)}")
        axes.axhline(100 * np.median(share), **{**series(3), "marker": ""}, label=f"median function: {percent(np.median(share), digits=2)}")
        ticks = {1 / 86400: "1/day", 1 / 3600: "1/h", 1 / 60: "1/min", 1: "1/s"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.set(xlabel="how often it is called", ylabel="cold requests, %", ylim=(-3, 104))
        axes.legend(loc="center left", bbox_to_anchor=(0, 0.3))
    return Figure(
        fig,
        name="day",
        alt=f"Share of cold requests of {called.sum()} functions that were called in a day, against how often they are called. "
        "Functions called less than once an hour lie mostly between 80 and 100 percent, between once an hour and once a "
        f"minute the share falls to near zero. Of all requests {percent(overall)} are cold; the median function has "
        f"{percent(np.median(share), digits=2)}.",
        caption="One cloud of functions, two averages: weighted by requests the line lies on the floor, counted by "
        "functions it lies in the middle.",
    )


def trade_off(timeouts: Sequence[float], results: Sequence[PopulationResult]) -> Figure:
    """Cold share against memory-time that idles, a point for each keep-alive time (seconds)."""
    cold = np.array([r.cold_share for r in results])
    idle = np.array([r.idle_seconds.sum() / r.busy_seconds.sum() for r in results])
    names = [f"{t / 60:g} min" for t in timeouts]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        axes.semilogy(idle, 100 * cold, **series(1))
        for x, y, name in zip(idle, 100 * cold, names):
            axes.annotate(name, (x, y), xytext=(7, 4), textcoords="offset points")
        axes.set(xlabel="idle seconds for each busy second", ylabel="cold requests, %")
        axes.set_xlim(0, idle.max() * 1.18)
        ticks = [1, 0.3, 0.1, 0.03]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    pairs = "; ".join(f"{n}: {percent(c)} cold, {i:.2f} idle" for n, c, i in zip(names, cold, idle))
    return Figure(
        fig,
        name="trade-off",
        alt="Share of cold requests, logarithmic, against seconds of idle environments for each busy second, a point for "
        f"each time-out. {pairs}.",
        caption="Every step to the right is memory that waits. The first minutes buy most; after that each halving of the "
        "cold starts costs about the same again.",
    )
