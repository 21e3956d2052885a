"""The figures of "Serverless for machine learning". Times in ms where a measurement is shown, else in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.inference import lab, model, phases
from beyondlab.kit.figures import Figure, bars, colour, log_ticks, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import quantity


def cold_starts(result: Result) -> Figure:
    """The phases of the first answer on both platforms, stacked; ``result`` of ``lab.platforms``."""
    names = ("Lambda", "Cloud Run")
    shown = {"process": 6, "runtime": 3, "imports": 1, "session": 2, "hand-over": 5}
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.3))
        for row, name in enumerate(reversed(names)):
            left = 0.0
            for phase, number in shown.items():
                width = result[f"{name}: {phase}"].value
                if phase == "session":
                    width += result[f"{name}: model read"].value + result[f"{name}: first inference"].value
                axes.barh(row, width, left=left, height=0.55, **bars(number))
                left += width
        handles = [plt.Rectangle((0, 0), 1, 1, **bars(number)) for number in shown.values()]
        labels = ["process", "runtime", "imports", "model: read, session, first inference", "hand-over"]
        fig.legend(handles, labels, loc="outside upper center", ncols=2, columnspacing=1.2)
        axes.set(yticks=range(2), yticklabels=list(reversed(names)), xlabel="milliseconds to the first answer")
        axes.grid(axis="y", visible=False)
    parts = "; ".join(
        f"{name}: "
        + ", ".join(f"{phase} {quantity(result[f'{name}: {phase}'].value, digits=2)}" for phase in phases.PHASES)
        for name in names
    )
    later = " and ".join(f"{quantity(result[f'{name}: later'].value, digits=2)} ms on {name}" for name in names)
    return Figure(
        fig,
        name="cold-starts",
        alt=f"Stacked bars of the first answer, medians in milliseconds. {parts}.",
        caption="The model is the thin slice. What you wait for is the interpreter, the platform's runtime and your "
        f"imports. Later answers take {later}. "
        f"{result.label}.",
    )


def cures(results: Sequence[Result]) -> Figure:
    """Bars of the time to the first answer of each variant, every run a dot; ``results`` map names to ms."""
    values = {name: found for result in results for name, found in result.items() if getattr(found, "unit", "") == "ms"}
    names = list(values)
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 0.34 * len(names) + 0.8))
        for row, name in enumerate(reversed(names)):
            axes.barh(row, values[name].value, height=0.55, **bars(1))
            axes.plot(values[name].samples, [row] * len(values[name].samples), "o", color=colour("ink"), markersize=3.5)
        axes.set(yticks=range(len(names)), yticklabels=list(reversed(names)), xlabel="milliseconds to the first answer")
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
    medians = "; ".join(f"{name} {values[name].value:.0f}" for name in names)
    return Figure(
        fig,
        name="cures",
        alt=f"Bars of the median time to the first answer in milliseconds: {medians}. Dots are single runs.",
        caption="From top to bottom: what a start costs if every byte is read, if pages are read when used, in 8 bits, "
        f"and from an object store of {lab.BANDWIDTH / 1e6:.0f} MB/s. {results[0].label}.",
    )


def block_map(result: Result, *, columns: int = 41) -> Figure:
    """Every block of the ranker's image: touched, shared with the other image. ``result`` of lazy loading."""
    cells = np.array(result["map"])
    rows = -(-cells.size // columns)
    grid = np.full(rows * columns, -1)
    grid[: cells.size] = cells
    grid = grid.reshape(rows, columns)
    kinds = {0: ("not touched", "grid", "s", 3.2), 2: ("touched", "series-1", "s", 4.6),
             3: ("touched, in both images", "series-2", "D", 4.2), 1: ("in both images", "muted", "x", 3.4)}  # fmt: skip
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 0.118 * rows + 1.35))
        for kind, (label, role, marker, size) in kinds.items():
            y, x = np.nonzero(grid == kind)
            look = {"markersize": size, "color": colour(role), "markeredgewidth": 0.9 if marker == "x" else 0}
            axes.plot(x, y, linestyle="", marker=marker, label=label, **look)
        row = -1
        for name, (first, _) in result["layers"].items():
            row = max(row + 1, first // columns)
            axes.annotate(name, (columns + 0.3, row), fontsize=9.5, va="center", color=colour("ink"))
        axes.set(ylim=(rows - 0.4, -0.7), xlim=(-0.8, columns + 9.5), xticks=[], yticks=[])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        axes.grid(visible=False)
        fig.legend(loc="outside upper center", ncols=2, columnspacing=1.2)
    return Figure(
        fig,
        name="block-map",
        alt=f"Map of the {cells.size} blocks of 512 KiB of an image, in order. {(cells >= 2).sum()} are touched by a "
        f"start, {(cells % 2 == 1).sum()} are in the other image too, {(cells == 3).sum()} are both. In the framework, NumPy "
        "and ONNX Runtime layers touched blocks lie scattered; in the layer of the weights the dense layers at its "
        "beginning are touched whole, and of the table behind them only short runs around the rows that were asked for.",
        caption="Read it like a page. A loader that fetches a block when it is first touched moves the coloured ones and "
        f"leaves the pale ones where they are. {result.label}.",
    )


def batching(result: Result) -> Figure:
    """Median and 99th percentile by batcher, measured (bars) and modelled (diamonds), under heavy and light load."""
    with style():
        fig, both = plt.subplots(1, 2, figsize=(5.2, 3.1), sharey=True)
        for axes, load in zip(both, ("heavy", "light")):
            for place, policy in enumerate(lab.POLICIES):
                key = f"{load}, {policy}"
                axes.bar(place - 0.19, result[f"{key}: p50"], width=0.36, **bars(3))
                axes.bar(place + 0.19, result[f"{key}: p99"], width=0.36, **bars(1))
                for shift, which in ((-0.19, "p50"), (0.19, "p99")):
                    axes.plot(place + shift, result[f"{key}: model {which}"], "D", color=colour("ink"), markersize=5)
            axes.set(yscale="log", xticks=range(3), xticklabels=["one by\none", "batch,\n0 ms", "batch,\n20 ms"])
            axes.set_title(f"{load}: {result[f'{load}: offered']:.0f} a second")
            axes.grid(axis="x", visible=False)
            log_ticks(axes.yaxis)
        both[0].set_ylabel("response, milliseconds")
        handles = [plt.Rectangle((0, 0), 1, 1, **bars(3)), plt.Rectangle((0, 0), 1, 1, **bars(1)),
                   plt.Line2D([], [], linestyle="", marker="D", color=colour("ink"))]  # fmt: skip
        fig.legend(handles, ["p50", "p99", "modelled"], loc="outside upper center", ncols=3)
    parts = "; ".join(
        f"{load}, {policy}: p99 {quantity(float(result[f'{load}, {policy}: p99']), digits=2)}, "
        f"modelled {quantity(float(result[f'{load}, {policy}: model p99']), digits=2)}"
        for load in ("heavy", "light")
        for policy in lab.POLICIES
    )
    return Figure(
        fig,
        name="batching",
        alt=f"Response times by batcher under heavy and light load, logarithmic, in milliseconds. {parts}.",
        caption="Left, batching is the difference between a queue that grows and one that does not. Right, the delay is paid "
        f"by everybody for nothing. {result.label}.",
    )


def scale_to_zero(found: Mapping[str, Sequence[model.Scaled]], *, rate: float) -> Figure:
    """USD per 1,000 against the mean time to the first token: a line a tier, a point a keep-alive time."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.4))
        for number, (name, points) in enumerate(found.items(), 1):
            axes.plot([p.first_token for p in points], [p.usd_per_1000 for p in points], **series(number), label=name)
        last = next(iter(found.values()))
        for point in (last[0], last[-1]):
            text = f"kept {point.keep_alive:g} s" if point.keep_alive < 60 else f"kept {point.keep_alive / 60:g} min"
            at = (point.first_token, point.usd_per_1000)
            axes.annotate(text, at, xytext=(6, 7), textcoords="offset points", fontsize=9.5)
        axes.set(xscale="log", yscale="log", xlabel="mean seconds to the first token", ylabel="USD per 1,000 requests")
        axes.set_xticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"])
        axes.set_yticks([10, 30, 100], ["10", "30", "100"])
        axes.minorticks_off()
        fig.legend(loc="outside upper center", ncols=2, columnspacing=1.0, fontsize=9.5)
    ends = "; ".join(
        f"{name}: from {quantity(points[0].first_token)} s for {quantity(points[0].usd_per_1000)} USD to "
        f"{quantity(points[-1].first_token)} s for {quantity(points[-1].usd_per_1000)} USD"
        for name, points in found.items()
    )
    return Figure(
        fig,
        name="scale-to-zero",
        alt=f"Cost per 1,000 requests against the mean time to the first token at one request in {1 / rate:.0f} seconds, "
        f"both logarithmic, along the keep-alive time. {ends}.",
        caption="Along a line, keeping a GPU longer buys time with money. From line to line, moving the weights closer buys "
        "the same time for nearly nothing.",
    )


def cost_by_rate(rates: Sequence[float], found: Sequence[Sequence[model.Option]], *, even: float) -> Figure:
    """USD per 1,000 predictions against the rate, one line an option; ``found`` has the options of each rate."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.4))
        labels = ["Lambda", "Cloud Run", "Cloud Run, L4", "warm pool", "servers", "GPU servers"]
        for number, label in enumerate(labels, 1):
            line = {**series(number), "marker": ""}
            axes.loglog(rates, [options[number - 1].usd_per_1000 for options in found], label=label, **line)
        axes.axvline(even, color=colour("muted"), linewidth=1)
        beside = {"xytext": (-4, 0), "textcoords": "offset points", "ha": "right", "fontsize": 9.5}
        axes.annotate(f"{even:.0f} a second", (even, 100), **beside)
        ticks = {1 / 3600: "1/h", 1 / 60: "1/min", 1: "1/s", 100: "100/s"}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_yticks([1e-3, 1e-2, 0.1, 1, 10, 100], ["0.001", "0.01", "0.1", "1", "10", "100"])
        axes.minorticks_off()
        axes.set(xlabel="predictions", ylabel="USD per 1,000 predictions")
        fig.legend(loc="outside upper center", ncols=3, columnspacing=1.0, fontsize=9.5)
    first, last = found[0], found[-1]
    return Figure(
        fig,
        name="cost-by-rate",
        alt="Cost of 1,000 predictions against their rate, both logarithmic. "
        f"At one an hour Lambda takes {quantity(first[0].usd_per_1000)} USD, a server {quantity(first[4].usd_per_1000)}, "
        f"a GPU server {quantity(first[5].usd_per_1000)}. At {rates[-1]:.0f} a second Lambda takes "
        f"{quantity(last[0].usd_per_1000)}, servers {quantity(last[4].usd_per_1000)}, GPU servers "
        f"{quantity(last[5].usd_per_1000)}. Lambda and one server meet at {even:.0f} a second.",
        caption="Pay per use is a flat line, a machine a falling one. They cross where the machine would be some 40 % busy.",
    )


__all__ = ["batching", "block_map", "cold_starts", "cost_by_rate", "cures", "scale_to_zero"]
