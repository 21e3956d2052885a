"""The figures of "Hybrid orchestration". Times in seconds unless an axis says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.fleets.model import YEAR, Plan, lost
from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.tables import quantity


def level_and_edge(wanted: Sequence[int], level: Sequence[int], edge: Sequence[int]) -> Figure:
    """Replicas over the steps of a run in which events are lost: what is wanted, and what two loops make of it."""
    steps = range(len(wanted))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.7))
        axes.step(steps, wanted, where="post", color=colour("ink"), linewidth=2.6, alpha=0.35, label="wanted")
        axes.step(steps, level, where="post", **{**series(1), "marker": ""}, label="level-triggered")
        axes.step(steps, edge, where="post", **{**series(2), "marker": ""}, label="edge-triggered")
        axes.set(xlabel="step", ylabel="replicas", ylim=(0, None))
        fig.legend(loc="outside upper center", ncols=3, columnspacing=1.2, handlelength=2.0)
    return Figure(
        fig,
        name="level-and-edge",
        alt=f"Replicas over {len(wanted)} steps. The level-triggered line follows what is wanted within a few steps and ends at "
        f"{level[-1]}, where {wanted[-1]} are wanted. The edge-triggered one loses an event now and then, never makes up for it, "
        f"and ends at {edge[-1]}.",
        caption="Both loops lose the same events. One adds up what it hears, the other looks at what is there: only the second ends right.",
    )


def paradox(totals: Sequence[int], old: Sequence[Mapping[str, int]], new: Sequence[Mapping[str, int]], cluster: str) -> Figure:
    """Replicas of one cluster against the total, by the older rule and by Webster's."""
    before, after = [each[cluster] for each in old], [each[cluster] for each in new]
    drops = [(totals[i], before[i]) for i in range(1, len(totals)) if before[i] < before[i - 1]]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        axes.plot(totals, before, **series(2), label="rounded down, rest to the heaviest")
        axes.plot(totals, after, **series(1), label="Webster")
        for total, count in drops:
            axes.annotate("−1", (total, count), xytext=(6, -13), textcoords="offset points", color=colour("series-2"))
        axes.set(xlabel="replicas in all", ylabel=f"replicas of {cluster}", ylim=(-0.6, None))
        fig.legend(loc="outside upper center", ncols=1)
    where = ", ".join(str(total) for total, _ in drops)
    return Figure(
        fig,
        name="paradox",
        alt=f"Replicas of {cluster} against the total from {totals[0]} to {totals[-1]}. Webster's line never falls. The older rule's falls "
        f"by one at a total of {where}.",
        caption="Where the dashed line falls, somebody scaled up and a cluster stopped a pod. Webster's method cannot do that.",
    )


def loss(series_: Sequence[tuple[float, Mapping[str, int]]], marks: Mapping[str, float], label: str) -> Figure:
    """Processes of pods in each cluster over the time of a loss and a return."""
    times = [t for t, _ in series_]
    names = list(series_[0][1])
    total = [sum(counts.values()) for _, counts in series_]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.3))
        axes.step(times, total, where="post", color=colour("muted"), linewidth=3.0, alpha=0.45, label="all")
        for number, name in enumerate(names, 1):
            axes.step(times, [counts[name] for _, counts in series_], where="post", **{**series(number), "marker": ""}, label=name)
        for place, (text, at) in enumerate(marks.items()):
            axes.axvline(at, color=colour("ink"), linewidth=0.9, linestyle=(0, (1, 2)))
            axes.annotate(text, (at, max(total) + 0.3 + 0.75 * (place % 2)), xytext=(2, 0), textcoords="offset points", fontsize=9.5)
        axes.set(xlabel="seconds", ylabel="processes of pods", ylim=(-0.3, max(total) + 1.9), yticks=range(0, max(total) + 1, 3))
        fig.legend(loc="outside upper center", ncols=2, columnspacing=1.2)
    return Figure(
        fig,
        name="loss",
        alt=f"Processes of pods over {times[-1]:.0f} seconds, of three clusters and in all. All together run {total[0]} at first and {max(total)} after the "
        f"kill at {marks['killed']:.1f} s: the {series_[0][1][names[0]]} of {names[0]} run on while others start elsewhere. After its return they stop; "
        f"{total[-1]} run at the end, placed as at first.",
        caption=f"Killing a control plane stops no pod: the thick line goes up, not down. The surplus ends when the cluster comes back. {label}.",
    )


def brains(spans: Mapping[str, Sequence[tuple[str, float, float]]], cut: float, label: str) -> Figure:
    """Who wrote when, without and with a lease. ``spans``: title -> (writer, begin, end); the link is cut from 0 to ``cut``."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.6))
        axes.axvspan(0, cut, color=colour("grid"), alpha=0.7, linewidth=0)
        rows = []
        for title, reigns in spans.items():
            for number, writer in enumerate(("cloud-a", "cloud-b"), 1):
                rows.append(f"{title}, {writer}")
                for name, begin, end in reigns:
                    if name == writer:
                        axes.barh(len(rows), end - begin, left=begin, height=0.55, **bars(number))
        axes.set(yticks=range(1, len(rows) + 1), yticklabels=rows, xlabel="seconds since the link was cut (grey: cut)")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    return Figure(
        fig,
        name="brains",
        alt="Bars of the times in which two writers wrote, around a cut link. Without a lease the bars of cloud A and cloud B overlap. "
        "With a lease cloud A's bar ends soon after the cut and cloud B's begins later: there is a gap, and no overlap.",
        caption=f"Without a lease there are two writers at once; with one there is none for a moment. That is the choice. {label}.",
    )


def availability(commons: Sequence[float], plans: Mapping[str, Plan], simulated: Mapping[str, Sequence[float]]) -> Figure:
    """Hours without service a year against the common-cause share; lines from the closed form, dots simulated."""
    from dataclasses import replace

    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.1))
        fine = np.geomspace(commons[0], 1, 60)
        for number, (name, plan) in enumerate(plans.items(), 1):
            axes.plot(100 * fine, [YEAR * lost(replace(plan, common=c)) for c in fine], label=name, **{**series(number), "marker": ""})
            axes.plot(100 * np.array(commons), YEAR * np.array(simulated[name]), linestyle="", marker="o", color=colour("ink"), markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="outages that hit all clusters, %", ylabel="hours lost a year")
        axes.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
        axes.set_yticks([0.1, 0.3, 1, 3, 10], ["0.1", "0.3", "1", "3", "10"])
        axes.minorticks_off()
        fig.legend(loc="outside upper center", ncols=2, columnspacing=1.2)
    from_, to = (YEAR * lost(replace(list(plans.values())[-1], common=c)) for c in (commons[0], 1.0))
    return Figure(
        fig,
        name="availability",
        alt=f"Hours of lost service a year against the share of outages that hit all clusters, both logarithmic. One cluster lies flat at "
        f"{quantity(YEAR * lost(next(iter(plans.values()))))} hours. The others rise from {quantity(from_)} hours at {100 * commons[0]:g} % to "
        f"{quantity(to)} at 100 %, where more clusters help nothing. Simulated dots lie on the lines.",
        caption="From the left, two or three clusters look like magic. How far to the right you are is decided by what they share.",
    )


def served(cases: Mapping[str, Sequence[tuple[float, float]]], *, until: float) -> Figure:
    """Share of the demand that is served in the minutes after a cluster is lost. ``cases``: name -> (seconds, share) steps."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.9))
        for number, (name, steps) in enumerate(cases.items(), 1):
            times = [-60.0, *(t for t, _ in steps), until]
            shares = [1.0, *(share for _, share in steps), steps[-1][1]]
            axes.step(np.array(times) / 60, 100 * np.array(shares), where="post", **{**series(number), "marker": ""}, label=name)
        axes.set(xlabel="minutes since the loss", ylabel="demand served, %", ylim=(40, 104))
        fig.legend(loc="outside upper center", ncols=2, columnspacing=1.2)
    words = "; ".join(f"{name}: " + ", ".join(f"{100 * share:.0f} % from {t / 60:.1f} min" for t, share in steps) for name, steps in cases.items())
    return Figure(
        fig,
        name="served",
        alt=f"Share of the demand served after one cluster is lost. {words}.",
        caption="The depth of the hole is decided by how many clusters there are, its width by timers, and its floor by spare room.",
    )
