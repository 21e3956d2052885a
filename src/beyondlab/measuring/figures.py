"""The figures of "Measuring and simulating"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import ArrayLike

from beyondlab.kit.figures import Figure, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import percent, quantity

_TAIL = np.array([50, 60, 70, 80, 90, 95])


def fan_out(leaves: ArrayLike, exact: ArrayLike, simulated: ArrayLike, *, slow: float) -> Figure:
    """Share of pages that meet a slow answer, against the calls a page makes."""
    leaves, exact, simulated = map(np.asarray, (leaves, exact, simulated))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        axes.plot(leaves, 100 * exact, label="1 − (1 − p)ⁿ", **{**series(1), "marker": ""})
        axes.plot(leaves, 100 * simulated, linestyle="", marker="o", color=colour("ink"), label="simulated")
        axes.set(xlabel="calls that a page makes", ylabel="pages with a slow call, %", ylim=(0, 100))
        axes.legend()
    return Figure(
        fig,
        name="fan-out",
        alt=f"Share of pages with at least one slow call against the number of calls, each slow with {percent(slow)}. "
        f"It rises from {percent(exact[0])} at {leaves[0]} to {percent(exact[-1])} at {leaves[-1]}; "
        "the simulated dots lie on the formula.",
        caption="What is rare for a server is normal for a page: follow the line to one hundred calls.",
    )


def tails(samples: Mapping[str, ArrayLike], *, label: str) -> Figure:
    """Response time in milliseconds against the percentile, one line a way of measuring. ``label`` says whence."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.1))
        for number, (name, values) in enumerate(samples.items(), 1):
            axes.plot(range(_TAIL.size), np.percentile(values, _TAIL), label=name, **series(number))
        axes.set_yscale("log")
        axes.set_xticks(range(_TAIL.size), [f"p{value:g}" for value in _TAIL])
        axes.set(xlabel="percentile", ylabel="milliseconds")
        ticks = [10, 30, 100, 300, 1000]
        axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="center right")
    said = "; ".join(
        f"{name}: p50 {quantity(float(np.percentile(values, 50)))}, p90 {quantity(float(np.percentile(values, 90)))} ms"
        for name, values in samples.items()
    )
    return Figure(
        fig,
        name="tails",
        alt=f"Response time, logarithmic, from the median to p95, measured in {len(samples)} ways. {said}.",
        caption=f"One server, one stall of a second. The lowest line is what a careless tool reports. {label}.",
    )


def hockey_stick(utilisation: ArrayLike, curves: Mapping[str, ArrayLike], dots: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Mean response time, in service times, against utilisation: formulas as lines, simulations as dots."""
    utilisation = np.asarray(utilisation)
    with style():
        fig, axes = plt.subplots()
        for number, (name, values) in enumerate(curves.items(), 1):
            axes.plot(utilisation, values, label=name, **{**series(number), "marker": ""})
        for number, (name, (at, values)) in enumerate(dots.items(), 1):
            axes.plot(at, values, linestyle="", marker=series(number)["marker"], color=colour("ink"))
        axes.set(xlabel="utilisation", ylabel="response time ÷ service time", xlim=(0, 1), ylim=(0, 12))
        axes.legend(loc="upper left", title="lines: formula, dots: simulated")
    last = "; ".join(f"{name} {quantity(float(np.interp(0.9, utilisation, values)))}" for name, values in curves.items())
    return Figure(
        fig,
        name="hockey-stick",
        alt="Mean response time, in units of the service time, against utilisation. All curves are flat at first and rise "
        f"steeply near one. At 90 percent: {last}. Simulated dots lie on the curves.",
        caption="The last ten per cent of a server are the dearest. Less variation and more servers move the bend to the "
        "right; nothing removes it.",
    )


def measured_queue(result: Result, utilisation: Sequence[float]) -> Figure:
    """Mean response of the real server beside model and formula, in milliseconds; one group a utilisation."""
    kinds = ["measured", "modelled", "formula"]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        for number, kind in enumerate(kinds, 1):
            values = [result[f"{kind} at {rho:g}"].value for rho in utilisation]
            axes.plot(utilisation, values, label=kind, **series(number))
        axes.set(xlabel="planned utilisation", ylabel="mean response, ms", ylim=(0, None))
        axes.legend()
    said = "; ".join(
        f"{rho:.0%}: " + ", ".join(f"{kind} {result[f'{kind} at {rho:g}'].value:.0f}" for kind in kinds) for rho in utilisation
    )
    return Figure(
        fig,
        name="measured-queue",
        alt=f"Mean response time in milliseconds against planned utilisation. {said}.",
        caption="The model was given the moments and service times that the server really had; the formula knows only their "
        f"averages. {result.label}.",
    )


def intervals(sizes: Sequence[int], estimates: Mapping[int, ArrayLike], *, truth: float) -> Figure:
    """The p99 of repeated runs against the requests in a run; ``truth`` is the exact value, in service times."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        for place, size in enumerate(sizes):
            values = np.asarray(estimates[size])
            axes.plot(np.full(values.size, place), values, linestyle="", marker="_", markersize=16,
                      markeredgewidth=1.4, color=colour("series-1"))  # fmt: skip
        axes.axhline(truth, label="exact", **{**series(2), "marker": ""})
        axes.set_xticks(range(len(sizes)), [f"{size:,}" for size in sizes])
        axes.set(xlabel="requests in a run", ylabel="p99 ÷ service time", ylim=(0, None), xlim=(-0.5, len(sizes) - 0.5))
        axes.legend(loc="lower right")
    said = "; ".join(
        f"{size:,}: {quantity(float(np.min(estimates[size])))} to {quantity(float(np.max(estimates[size])))}" for size in sizes
    )
    return Figure(
        fig,
        name="intervals",
        alt=f"The 99th percentile found by 20 runs of each length, each run a dash. Exact {quantity(truth)}. {said}.",
        caption="Every dash is an honest run with another seed. Cover all but one of a column: that is what a benchmark "
        "shows that was run once.",
    )
