"""The figures of "Stateful serverless"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.durable.orders import EFFECTS
from beyondlab.durable.sensors import Reading
from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import quantity


def crash_map(result: Result) -> Figure:
    """Every point at which the cancelled order was killed, and how often each effect was done, without a key.

    ``result`` is what :func:`beyondlab.durable.lab.kill_ours` gave.
    """
    rows = result["cancelled"]
    effects = [effect for effect in EFFECTS if effect in {name for row in rows for name in row[2]}]
    columns = ["reserve", "charge", "refund", "release"]
    columns = [effect for effect in columns if effect in effects]
    twice = 0
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 4.6))
        for y, (_, _, attempts, _) in enumerate(rows):
            for x, effect in enumerate(columns):
                count = attempts.get(effect, 0)
                twice += count > 1
                kind = {**bars(2), "hatch": ""} if count > 1 else bars(1)
                axes.barh(y, 0.86, left=x - 0.43, height=0.86, **kind)
                text = "twice" if count > 1 else str(count)
                axes.text(x, y, text, ha="center", va="center", color=colour("paper"), fontsize=9.5, fontweight="bold")
        axes.set_yticks(range(len(rows)), [_shown(row[0]) for row in rows])
        axes.set_xticks(range(len(columns)), columns)
        axes.xaxis.tick_top()
        axes.tick_params(axis="y", labelsize=9.5)
        axes.set(ylim=(len(rows) - 0.4, -0.6), ylabel="killed at step, point")
        axes.grid(visible=False)
    return Figure(
        fig,
        name="crash-map",
        alt=f"A table of {len(rows)} rows, one for each point at which an order that cannot be shipped was killed, and "
        f"{len(columns)} columns: {', '.join(columns)}. Each field holds how often the effect was done, once in all but {twice}, "
        "where it is twice: in the row of its own step that is done and not recorded.",
        caption="Every row is an order killed at that point and resumed. Only between an effect and its record is it done "
        f"again. Steps 1 to 5: reserve, charge, ship (which fails), refund, release. {result.label}.",
    )


def _shown(point: str) -> str:
    step, _, rest = point.partition(" ")
    said = {
        "scheduled: made": "not yet asked", "scheduled: recorded": "asked", "completed: made": "done, no record",
        "completed: recorded": "done, recorded",
    }  # fmt: skip
    return f"{step} {said.get(rest, rest)}"


def watermark(readings: Sequence[Reading], *, delay: int) -> Figure:
    """Event time against the order of arrival: the watermark, and the readings that come after it (times in ms)."""
    order = np.arange(len(readings))
    taken = np.array([reading.time for reading in readings]) / 1e3
    marks = np.maximum.accumulate(taken) - delay / 1e3
    late = taken < np.concatenate([[-np.inf], marks[:-1]])
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.0))
        axes.plot(order[~late], taken[~late], ".", color=colour("series-1"), markersize=3, alpha=0.6, label="in time")
        axes.plot(order[late], taken[late], "x", color=colour("series-2"), markersize=5, markeredgewidth=1.4, label="behind the watermark")
        axes.plot(order, marks, color=colour("ink"), linewidth=1.5, label=f"watermark: newest − {delay / 1e3:g} s")
        axes.set(xlabel="readings, in the order of arrival", ylabel="event time, s")
        axes.legend(loc="upper left")
    return Figure(
        fig,
        name="watermark",
        alt=f"{len(readings):,} readings by order of arrival and event time: a band that rises, and {int(late.sum())} crosses "
        f"below it, which arrive late. The watermark, a staircase {delay / 1e3:g} seconds under the newest reading, runs along the "
        "lower edge of the band.",
        caption="The watermark is a bet: nothing older will come. Crosses are readings that prove it wrong; a window that has "
        "closed drops them.",
    )


def latency_by_rate(rates: Sequence[float], exact: Mapping[str, Any], points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Mean response time (seconds) of the four architectures against the rate; dots are simulated (rate, seconds)."""
    rates = np.asarray(rates)
    names = {"remote": "store a call", "cached": "cache beside it", "log": "log", "partition": "partition"}
    with style():
        fig, axes = plt.subplots()
        for number, name in enumerate(exact, 1):
            known = np.isfinite(exact[name])
            axes.loglog(rates[known], 1e3 * np.asarray(exact[name])[known], **{**series(number), "marker": ""}, label=names[name])
            xs, ys = zip(*points[name])
            axes.plot(xs, 1e3 * np.array(ys), linestyle="", marker=series(number)["marker"], color=colour("ink"))
        axes.set(xlabel="requests a second", ylabel="mean response, ms", ylim=(1, 60))
        ticks = [1, 3, 10, 30]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([30, 100, 300, 1000, 3000, 10000], ["30", "100", "300", "1,000", "3,000", "10,000"])
        axes.minorticks_off()
        axes.legend(loc="upper left", ncols=2)
    low = {name: 1e3 * exact[name][0] for name in exact}
    return Figure(
        fig,
        name="latency-by-rate",
        alt="Mean response time against requests a second, both logarithmic, four lines with simulated dots on them. At "
        f"{quantity(float(rates[0]))} a second: a store at every call {low['remote']:.1f} ms, "
        f"a log {low['log']:.1f}, a partition {low['partition']:.1f}, "
        f"a cache beside the function {low['cached']:.1f}. The store's line turns up at 1,333 requests a second, "
        "cache and log near 4,000; the partition's stays flat to the end.",
        caption="Where a line ends, the store is full. The partition's commit makes it slow when there is little to do, and "
        "it alone does not care how much there is.",
    )


def replay_time(times: Result) -> Figure:
    """Measured replay time against the number of steps, and the line of the median time a step."""
    steps = [int(name.split()[0].replace(",", "")) for name in times]
    values = [times[name].value for name in times]
    per_step = float(np.median([value / count for value, count in zip(values, steps)]))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.8))
        axes.loglog(steps, [per_step * n for n in steps], **{**series(2), "marker": ""}, label="in proportion to the steps")
        axes.loglog(steps, values, linestyle="", marker="o", color=colour("series-1"), label="measured")
        axes.axvline(25_600, color=colour("muted"), linewidth=1.2)
        axes.text(23_500, min(values), "Temporal's\nlimit", ha="right", va="bottom", color=colour("muted"))
        axes.set(xlabel="steps in the history", ylabel="replay, ms")
        axes.set_xticks(steps, [f"{n:,}" for n in steps])
        ticks = [tick for tick in (0.1, 1, 10, 100, 1_000, 10_000, 100_000) if min(values) / 5 < tick < max(values) * 5]
        axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.minorticks_off()
        axes.legend(loc="upper left")
    pairs = ", ".join(f"{name} {quantity(value, digits=2)} ms" for name, value in zip(times, values))
    return Figure(
        fig,
        name="replay-time",
        alt=f"Replay time against history length, both logarithmic: {pairs}. "
        f"The dots lie about a line of proportion, {quantity(1e3 * per_step, digits=2)} microseconds a step.",
        caption="Ten times the history, ten times the wait before the workflow does anything new. "
        f"The vertical line is 51,200 events, two a step. {times.label}.",
    )


