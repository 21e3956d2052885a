"""The figures of "What is a container?". Times in seconds unless an axis says otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import ArrayLike

from beyondlab.containers.model import PERIOD, Latency, burst_time
from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import quantity


def burst(work: float, cases: Sequence[tuple[float, int]], *, period: float = PERIOD) -> Figure:
    """When a burst of ``work`` CPU-seconds runs and when it waits, for each (limit in processors, threads)."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 0.9 + 0.55 * len(cases)))
        ends = []
        for row, (limit, threads) in enumerate(cases):
            end = burst_time(work, limit, threads=threads, period=period)
            ends.append(end)
            runs = min(period, limit * period / threads)
            for number in range(math.ceil(end / period - 1e-9)):
                begin = number * period
                stop = min(begin + runs, end)
                axes.barh(row, 1e3 * (stop - begin), left=1e3 * begin, height=0.55, **bars(1))
                if begin + period < end:
                    axes.barh(row, 1e3 * (period - runs), left=1e3 * stop, height=0.16, **bars(2))
            axes.annotate(f"{1e3 * end:.0f} ms", (1e3 * end, row), xytext=(5, 0), textcoords="offset points", va="center")
        labels = [f"limit {limit:g}\n{threads} thread{'s' if threads > 1 else ''}" for limit, threads in cases]
        axes.set(yticks=range(len(cases)), yticklabels=labels, xlabel="milliseconds since a period began")
        axes.set_xlim(0, 1e3 * max(ends) * 1.2)
        axes.set_xticks(np.arange(0, 1e3 * max(ends) + 1, 1e3 * period))
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
        handles = [plt.Rectangle((0, 0), 1, 1, **bars(1)), plt.Rectangle((0, 0), 1, 1, **bars(2))]
        fig.legend(handles, ["runs", "throttled"], loc="outside upper center", ncols=2)
    told = "; ".join(
        f"limit {limit:g} on {threads} thread{'s' if threads > 1 else ''} {1e3 * end:.0f} ms"
        for (limit, threads), end in zip(cases, ends)
    )
    return Figure(
        fig,
        name="burst",
        alt=f"Time lines of {1e3 * work:.0f} ms of CPU work, one for each limit: {told}. Each begins to run at a period "
        "boundary, stops when its quota is used up, and goes on at the next boundary.",
        caption="The same work under different limits. More threads use up the same quota sooner: the wait after it gets "
        "longer, and everything else in the container waits with it.",
    )


def start_up(results: Result, *, plain: str) -> Figure:
    """Median start-up times in ms, every measurement a dot; ``plain`` names the bar the others are compared with."""
    names = list(results)
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 0.9 + 0.36 * len(names)))
        for row, name in enumerate(names):
            axes.barh(row, results[name].value, height=0.5, **bars(3 if name == plain else 1))
            dots = np.clip(results[name].samples, None, 3 * max(results[other].value for other in names))
            axes.plot(dots, [row] * len(dots), "o", color=colour("ink"), markersize=2.2, alpha=0.6)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel="start to end of a program that does nothing, ms")
        axes.set_xlim(0, 1.35 * max(results[name].spread[1] for name in names))
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
    medians = "; ".join(f"{name} {quantity(results[name].value)} ms" for name in names)
    return Figure(
        fig,
        name="start-up",
        alt=f"Bars of median times from start to end: {medians}. Dots are single runs.",
        caption=f"What each part of a container adds to a plain process. {results.label}.",
    )


def tail(widths: Sequence[int], results: Mapping[str, Sequence[Latency]]) -> Figure:
    """The p99 of small requests against the threads of the bursts beside them; one line for each setting."""
    with style():
        fig, axes = plt.subplots()
        for number, (name, found) in enumerate(results.items(), 1):
            axes.plot(widths, [1e3 * one.p99 for one in found], label=name, **series(number))
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(widths), [str(width) for width in widths])
        axes.minorticks_off()
        axes.set(xlabel="threads that a burst uses", ylabel="p99 of small requests, ms")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
    told = "; ".join(
        f"{name}: {1e3 * found[0].p99:.0f} ms with bursts on {widths[0]}, "
        f"{1e3 * found[-1].p99:.0f} ms on {widths[-1]} threads"
        for name, found in results.items()
    )
    return Figure(
        fig,
        name="tail",
        alt=f"99th percentile of the latency of small requests against the number of threads a burst uses. {told}.",
        caption="The same work, the same average use. What grows is how fast the bursts use up the quota that the small "
        "requests need too.",
    )


def sharing(counts: ArrayLike, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Bytes pulled against the number of images; for each curve the closed form and the simulated values."""
    counts = np.asarray(counts)
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.0))
        ends = []
        for number, (name, (exact, simulated)) in enumerate(curves.items(), 1):
            exact, simulated = np.asarray(exact), np.asarray(simulated)
            axes.plot(counts, exact / 1e9, label=name, **{**series(number), "marker": ""})
            axes.plot(counts, simulated / 1e9, linestyle="", marker=series(number)["marker"], color=colour("ink"))
            ends.append(f"{name} {quantity(exact[-1] / 1e9)} GB")
        axes.set(xlabel="images on the machine", ylabel="pulled, GB", xlim=(0, None), ylim=(0, None))
        axes.legend(loc="upper left")
    return Figure(
        fig,
        name="sharing",
        alt=f"Gigabytes pulled against the number of images, up to {counts[-1]}: {'; '.join(ends)}. Simulated dots lie on "
        "the lines of the closed form.",
        caption="A layer is pulled once, however many images name it. What that saves depends on how many different bases "
        "the images choose from.",
    )
