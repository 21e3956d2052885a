"""The figures of "Event-driven architectures". Times in seconds unless an axis says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.events.model import Scaled
from beyondlab.kit.figures import Figure, bars, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import percent, quantity


def windowed(times: Any, values: Any, *, width: float, percentile: float) -> tuple[np.ndarray, np.ndarray]:
    """The percentile of the values in each window of ``width`` seconds that holds any: middle of the window, value."""
    times, values = np.asarray(times, float), np.asarray(values, float)
    place = (times // width).astype(int)
    found = np.unique(place)
    return (found + 0.5) * width, np.array([np.percentile(values[place == k], percentile) for k in found])


def burst(seen: Result, modelled: Scaled) -> Figure:
    """A burst as the broker and its consumers saw it: lag, replicas, p99 age, consumer-seconds; and the model's replicas."""
    t, lag, replicas = (np.asarray(seen[name], float) for name in ("time", "lag", "replicas"))
    when, p99 = windowed(seen["done"], seen["ages"], width=0.5, percentile=99)
    spent = np.concatenate([[0.0], np.cumsum(np.diff(t) * replicas[:-1])])
    with style():
        fig, axes = plt.subplots(4, 1, figsize=(5.2, 5.6), sharex=True, height_ratios=[1.2, 1, 1, 1])
        axes[0].fill_between(t, lag, step="post", **{**bars(1), "linewidth": 0})
        axes[0].set_ylabel("lag, events")
        axes[1].step(t, replicas, where="post", label="real", **{**series(2), "marker": ""})
        axes[1].step(modelled.time, modelled.replicas, where="post", label="model", **{**series(6), "marker": ""})
        axes[1].set_ylabel("replicas")
        axes[1].legend(loc="center", bbox_to_anchor=(0.38, 0.45))
        axes[2].plot(when, p99, **series(3))
        axes[2].set_ylabel("p99 age, s")
        axes[3].plot(t, spent, **{**series(4), "marker": ""})
        axes[3].set(ylabel="consumer-s", xlabel="seconds")
        for one in axes:
            one.set_ylim(bottom=0)
            one.set_xlim(0, float(t[-1]) * 1.02)
        fig.align_ylabels(axes)
    return Figure(
        fig,
        name="burst",
        alt=f"Four time lines over {t[-1]:.1f} seconds. The lag rises to {lag.max():.0f} events and falls to 0. Replicas go "
        f"from 0 to {replicas.max():.0f} and back to 0; the model's line does the same. The 99th percentile of the age, in "
        f"windows of half a second, rises from {p99[0]:.1f} to at most {p99.max():.1f} s. Consumer-seconds add up to {spent[-1]:.1f}.",
        caption="Consumers come after the lag, and go after it too: the area under the replicas is what you pay, the age "
        f"is what you pay with. {seen.label}.",
    )


def overload(runs: Mapping[str, tuple[Any, Any]], *, begin: float, end: float) -> Figure:
    """The age of events against when they came, for each way to treat an overload. ``runs``: name -> (arrival, age)."""
    peaks = {}
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.0))
        axes.axvspan(begin / 60, end / 60, color=bars(5)["facecolor"], alpha=0.15, linewidth=0)
        for place, (name, (times, ages)) in enumerate(runs.items(), 1):
            x, y = windowed(times, ages, width=30.0, percentile=99)
            peaks[name] = y.max()
            axes.semilogy(x / 60, y, label=name, **{**series(place), "marker": ""})
        axes.set(xlabel="minute in which the event came", ylabel="p99 age, s", xlim=(0, None))
        axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        axes.minorticks_off()
        axes.legend(loc="upper right", fontsize=9.5)
    told = "; ".join(f"{name}: {quantity(float(value), digits=2)} s at most" for name, value in peaks.items())
    return Figure(
        fig,
        name="overload",
        alt=f"The 99th percentile of the age of events, logarithmic, over the minute of their arrival; between minute {begin / 60:g} "
        f"and {end / 60:g} more come than can be worked. {told}. Without a bound the age stays high long after the overload.",
        caption="The shaded ten minutes are over, and the unbounded queue is not: what it stored it still has to serve. "
        "The bounded ones turned the surplus away, and kept everyone else's age.",
    )


def storm(runs: Mapping[str, tuple[Any, Any]], *, begin: float, end: float, width: float = 5.0) -> Figure:
    """Share of requests answered in time, by when they came. ``runs``: name -> (arrival, answered)."""
    ends = {}
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.8))
        axes.axvspan(begin, end, color=bars(5)["facecolor"], alpha=0.15, linewidth=0)
        for place, (name, (times, answered)) in enumerate(runs.items(), 1):
            slot = (np.asarray(times) // width).astype(int)
            x = np.unique(slot)
            y = np.array([100 * np.mean(np.asarray(answered)[slot == k]) for k in x])
            ends[name] = y[-1]
            axes.plot((x + 0.5) * width, y, label=name, **{**series(place), "markersize": 3.5})
        axes.set(xlabel="second in which the request came", ylabel="answered in time, %", ylim=(-4, 104), xlim=(0, None))
        axes.legend(loc="center right", fontsize=9.5)
    told = "; ".join(f"{name}: {value:.0f} % in the last {width:g} s" for name, value in ends.items())
    return Figure(
        fig,
        name="storm",
        alt=f"Share of requests answered in time over the second of their arrival. All begin at 100 %. From second {begin:g} to "
        f"{end:g} too many come and all curves fall. {told}.",
        caption="Ten seconds of overload, and two of three systems never come back, though the cause is long gone. "
        "Pauses spread the retries; they do not make them fewer.",
    )


def efficiency(shares: Sequence[float], scaled: Sequence[Scaled], fixed: Sequence[Scaled]) -> Figure:
    """Utilisation and p99 age of consumers scaled on events and always on, by the share of time in which events come."""
    x = 100 * np.asarray(shares)
    busy = [[100 * r.utilisation for r in runs] for runs in (scaled, fixed)]
    age = [[r.p99 for r in runs] for runs in (scaled, fixed)]
    with style():
        fig, axes = plt.subplots(2, 1, figsize=(5.2, 4.0), sharex=True)
        for place, name in enumerate(("scaled on events", "always on, for the peak")):
            axes[0].semilogx(x, busy[place], label=name, **series(place + 1))
            axes[1].loglog(x, age[place], label=name, **series(place + 1))
        axes[0].set(ylabel="consumers busy, %", ylim=(0, 100))
        axes[0].legend(loc="upper left", fontsize=9.5)
        axes[1].set(ylabel="p99 age, s", xlabel="share of the time in which events come")
        axes[1].set_yticks([1, 10, 100], ["1", "10", "100"])
        axes[1].set_xticks(x, [percent(s, digits=1 if s < 0.05 else 2) for s in shares])
        axes[1].minorticks_off()
    return Figure(
        fig,
        name="efficiency",
        alt="Two panels over the share of the time in which events come, "
        + ", ".join(
            f"{percent(s, digits=2)}: busy {a:.0f} against {b:.0f} %, p99 age {c:.0f} against {d:.1f} s"
            for s, a, b, c, d in zip(shares, busy[0], busy[1], age[0], age[1])
        )
        + "; first scaled on events, then always on.",
        caption="Left, bursty: scaling on events keeps consumers many times busier, and every burst waits for them. "
        "Right, steady: nothing to gain.",
    )
