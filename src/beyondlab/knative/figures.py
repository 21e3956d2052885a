"""The plots of "Knative and portable serverless"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.tables import percent, quantity
from beyondlab.knative.model import Fleet, Move


def panic(rows: Sequence[Sequence[float]], *, target: float) -> Figure:
    """Ticks of an autoscaler: (time, in flight, stable average, panic average, pods). Times in seconds."""
    time, load, stable, urgent, pods = np.array(rows, float).T
    with style():
        fig, (above, below) = plt.subplots(2, 1, figsize=(5.2, 4.2), sharex=True, height_ratios=[3, 2])
        above.step(time, load, where="post", color=colour("muted"), label="in flight")
        above.plot(time, urgent, **{**series(2), "marker": ""}, label="panic window, 6 s")
        above.plot(time, stable, **{**series(1), "marker": ""}, label="stable window, 60 s")
        above.set(ylabel="requests in flight")
        above.legend(loc="upper right")
        below.step(time, pods, where="post", color=colour("ink"))
        below.set(xlabel="seconds", ylabel="pods wanted", ylim=(0, max(pods) * 1.2))
    jump = time[np.argmax(load > load[0])]
    there = time[np.argmax(pods == pods.max())]
    return Figure(
        fig,
        name="panic",
        alt=f"Two plots over {time[-1]:.0f} seconds. Above, requests in flight step from {load[0]:.0f} to {load.max():.0f} and back; "
        f"the average over six seconds follows within six seconds, that over sixty seconds rises and falls in a slope. Below, the "
        f"pods wanted: {pods[0]:.0f}, then {pods.max():.0f} from second {there:.0f}, {there - jump:.0f} s after the step, and down only "
        "after the burst, in steps of a half.",
        caption="The short window sees the step and takes over. Going down waits for the long window, and halves at each tick at most.",
    )


def lives(result: Mapping[str, Any]) -> Figure:
    """Each request of the burst: waiting in the activator, then served; above them the pods' starts.

    ``result``: "lives" (rows of arrival at the activator, leaving it, the function's begin and end) and "pods" (rows of
    created and ready), all in seconds since the burst.
    """
    lives, pods = np.array(result["lives"], float), np.array(result["pods"], float)
    order = np.argsort(lives[:, 2], kind="stable")
    lives = lives[order]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.9))
        first = pods[:, 1].min()
        for row, (created, ready) in enumerate(pods):
            axes.barh(row, ready - created, left=created, height=0.7, **bars(4), label="pod starts" if row == 0 else None)
        for row, (held, left, begin, end) in enumerate(lives, len(pods) + 1):
            cut = min(left, max(held, first))
            axes.barh(row, cut - held, left=held, height=0.7, **bars(6), label="held: no pod" if row == len(pods) + 1 else None)
            if left > cut:
                axes.barh(row, left - cut, left=cut, height=0.7, **bars(2), label="held: no place" if row == len(pods) + len(lives) else None)
            axes.barh(row, end - begin, left=begin, height=0.7, **bars(3), label="served" if row == len(pods) + 1 else None)
        axes.invert_yaxis()
        axes.set(xlabel="seconds since the burst", yticks=[(len(pods) - 1) / 2, len(pods) + len(lives) / 2 + 0.5])
        axes.set_yticklabels([f"{len(pods)} pods", f"{len(lives)} requests"], rotation=90, va="center")
        axes.grid(axis="y", visible=False)
        handles, labels = axes.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2)
    waited = lives[:, 2]
    return Figure(
        fig,
        name="lives",
        alt=f"Bars over time. Three pods start at second {pods[:, 0].min():.2f} and are ready between {pods[:, 1].min():.2f} and "
        f"{pods[:, 1].max():.2f}. Below, {len(lives)} requests are held from the start; the first is served at {waited.min():.2f} s, the "
        f"last begins at {waited.max():.2f} s. All are served.",
        caption="Every request waits at least as long as the first pod needs to start. Then pods with two places each work off the rest.",
    )


def first_answers(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """First and next answers by place, in milliseconds, on a logarithmic axis."""
    first, then = rows["First answer, ms"], rows["Next answers, ms"]
    names = list(first)
    y = np.arange(len(names))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.2))
        axes.barh(y - 0.2, list(first.values()), height=0.36, **bars(1), label="first answer, start included")
        axes.barh(y + 0.2, list(then.values()), height=0.36, **bars(2), label="next answer")
        axes.set_xscale("log")
        axes.set_xticks([10, 100, 1_000, 10_000], ["10", "100", "1,000", "10,000"])
        axes.minorticks_off()
        axes.set_yticks(y, names)
        axes.invert_yaxis()
        axes.set(xlabel="milliseconds, logarithmic")
        axes.grid(axis="y", visible=False)
        fig.legend(loc="outside lower center", ncols=1)
    said = "; ".join(f"{name} {first[name]:,.0f} and {then[name]:,.1f}" for name in names)
    return Figure(
        fig,
        name="first-answers",
        alt=f"Bars of the first and of the next answers by place, in milliseconds. {said}.",
        caption="The same handler everywhere. What differs is what has to start before it, and what stays for the next event.",
    )


def trade_off(groups: Mapping[str, Sequence[tuple[str, Fleet]]]) -> Figure:
    """Share of cold requests against pod-hours; a line for each group of (label, fleet)."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.6))
        for number, (name, points) in enumerate(groups.items(), 1):
            x = [fleet.pod_hours for _, fleet in points]
            y = [100 * fleet.cold_share for _, fleet in points]
            axes.loglog(x, y, **series(number), label=name)
            for (label, _), px, py in zip(points, x, y):
                axes.annotate(label, (px, py), xytext=(6, 5) if number == 1 else (-6, -13), textcoords="offset points",
                              ha="left" if number == 1 else "right", color=colour(f"series-{number}"))  # fmt: skip
        axes.set(xlabel="pod-hours in six hours", ylabel="cold requests, %")
        axes.margins(x=0.2, y=0.15)
        axes.set_yticks([5, 2, 1, 0.5], ["5", "2", "1", "0.5"])
        axes.set_xticks([300, 400, 500], ["300", "400", "500"])
        axes.minorticks_off()
        axes.legend(loc="upper right")
    said = " ".join(
        f"{name}: " + "; ".join(f"{label} {percent(f.cold_share, digits=2)}, {f.pod_hours:.0f} h" for label, f in points) + "."
        for name, points in groups.items()
    )
    return Figure(
        fig,
        name="trade-off",
        alt=f"Share of cold requests against pod-hours, both logarithmic. {said}",
        caption="Two knobs, one curve: what buys fewer cold starts is the time that the last pod stays. They differ in the waits (table).",
    )


def moves(named: Mapping[str, Move]) -> Figure:
    """Hours left to do, by part, for each move."""
    parts = [part.name for part in next(iter(named.values())).parts]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.0))
        left = np.zeros(len(named))
        for number, part in enumerate(parts, 1):
            hours = np.array([move.functions * next(p.left for p in move.parts if p.name == part) for move in named.values()])
            axes.barh(list(named), hours, left=left, height=0.6, **bars(number), label=part)
            left += hours
        axes.invert_yaxis()
        axes.set(xlabel="hours of work left")
        axes.grid(axis="y", visible=False)
        fig.legend(loc="outside lower center", ncols=3)
    said = "; ".join(f"{name} {quantity(move.hours)} h" for name, move in named.items())
    return Figure(
        fig,
        name="moves",
        alt=f"Stacked bars of the hours of work that a move leaves, by part: {', '.join(parts)}. In all: {said}.",
        caption="With the contract, less than half of the code is left to do. Settings, identity and events do not move by themselves.",
    )
