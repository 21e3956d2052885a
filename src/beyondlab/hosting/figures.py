"""The figures of "Serverless containers"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from beyondlab.hosting.costs import CostMap
from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import percent, quantity

_WORDS = {
    "place": "place: choose a host",
    "unpack": "unpack: read, check, write",
    "isolate": "isolate: namespaces, limits",
    "start": "start: until it answers",
}


def phases(seen: Result) -> Figure:
    """Median milliseconds of each phase of a task's start; dots are single runs."""
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.6))
        for row, (phase, words) in enumerate(_WORDS.items()):
            axes.barh(row, seen[phase].value, height=0.62, **bars(row + 1))
            axes.plot(seen[phase].samples, np.full(len(seen[phase].samples), row), "o", color=colour("ink"), markersize=3)
        axes.set_yticks(range(len(_WORDS)), list(_WORDS.values()))
        axes.invert_yaxis()
        axes.set(xlabel="milliseconds", xlim=(0, None))
        axes.grid(axis="y", visible=False)
    told = ", ".join(f"{phase} {quantity(seen[phase].value)} ms" for phase in _WORDS)
    return Figure(
        fig,
        name="phases",
        alt=f"Bars of the median time of four phases of starting a task: {told}. Dots are single runs.",
        caption=f"Choosing a host costs next to nothing. What is left is moving bytes, making walls and starting Python. {seen.label}.",
    )


def size_against_start(seen: Result) -> Figure:
    """Milliseconds to the first answer, and bytes read for it, over the size of the image: whole and lazy."""
    x = np.asarray(seen["image"]) / 1e6
    with style():
        fig, axes = plt.subplots(2, 1, figsize=(5.2, 4.2), sharex=True)
        for place, (way, words) in enumerate((("whole", "unpacked whole"), ("lazy", "read when needed")), 1):
            axes[0].plot(x, seen[f"{way}: ready"], label=words, **series(place))
            axes[1].plot(x, np.asarray(seen[f"{way}: read"]) / 1e6, label=words, **series(place))
        axes[0].set(ylabel="start, ms", ylim=(0, None))
        axes[0].legend(loc="upper left")
        axes[1].set(ylabel="read, MB", xlabel="size of the image, MB, compressed", ylim=(0, None), xlim=(0, None))
    told = "; ".join(
        f"{size:.0f} MB: {a:.0f} against {b:.0f} ms, {c / 1e6:.1f} against {d / 1e6:.1f} MB"
        for size, a, b, c, d in zip(x, seen["whole: ready"], seen["lazy: ready"], seen["whole: read"], seen["lazy: read"])
    )
    return Figure(
        fig,
        name="size-against-start",
        alt=f"Two panels over the compressed size of the image, unpacked whole against read when needed. {told}.",
        caption=f"Unpacked whole, the start grows with the image; read when needed, it hardly does. {seen.label}.",
    )


_NUMBERS = {"Fargate Spot": 1, "Lambda, Arm": 2, "Lambda": 3, "ACI": 4, "reserved VM": 5, "Fargate": 6}
"""The series of a platform on every map. Another platform takes the first that is free."""


def _looks(names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Fill, edge and hatch of each platform."""
    free = iter(sorted(set(range(1, 7)) - {_NUMBERS[name] for name in names if name in _NUMBERS}) * 2)
    return {name: bars(_NUMBERS[name] if name in _NUMBERS else next(free)) | {"linewidth": 0} for name in names}


def _regions(
    axes: plt.Axes, one: CostMap, looks: Mapping[str, Mapping[str, object]], *, star: float | None = None
) -> None:
    """Colour the map by its cheapest platform, a rectangle for each run of equal cells, and name the large regions.

    No name stands within a quarter of a decade of the burstiness ``star``, where a star is drawn.
    """
    x, y = (np.append(a[0] * np.sqrt(a[0] / a[1]), a * np.sqrt(a[1] / a[0])) for a in (one.rates, one.cvs))
    for row, cells in enumerate(one.cheapest):
        top = y[row + 1] * (1.02 if row + 1 < len(one.cvs) else 1.0)  # no seam below the next row
        starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1]))
        for begin, end in zip(starts, np.append(starts[1:], cells.size)):
            look = looks[one.platforms[cells[begin]]]
            axes.fill_between([x[begin], x[end]], y[row], top, **look)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    for name, share in one.shares().items():
        if share > 0.1:
            rows, columns = np.nonzero(one.cheapest == one.platforms.index(name))
            places = [int(np.quantile(rows, share, method="lower")) for share in (0.5, 0.25, 0.75)]
            row = next((row for row in places if star is None or abs(math.log10(one.cvs[row] / star)) > 0.25), places[0])
            column = int(np.median(columns[rows == row]))
            axes.text(
                one.rates[column], one.cvs[row], name, ha="center", va="center", fontweight="bold",
                bbox={"facecolor": colour("paper"), "edgecolor": "none", "pad": 2.5},
            )  # fmt: skip
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.minorticks_off()
    axes.grid(visible=False)


def cost_map(everything: CostMap, steady: CostMap, *, closed_form: float) -> Figure:
    """Which platform is the cheapest, over rate and burstiness: all there is, and x86 without interruption.

    ``closed_form``: the rate at which Lambda and Fargate break even in closed form, drawn into the second map.
    """
    looks = _looks([*everything.shares(), *(name for name in steady.shares() if name not in everything.shares())])
    with style():
        fig, axes = plt.subplots(2, 1, figsize=(5.2, 6.4), sharex=True)
        titles = ("everything on offer", "x86, never interrupted")
        for panel, (one, title) in zip(axes, zip((everything, steady), titles)):
            _regions(panel, one, looks)
            panel.set(ylabel="burstiness (cv)", title=title)
        line = steady.line("Lambda", "Fargate")
        axes[1].plot(line, steady.cvs, color=colour("paper"), linewidth=3.6)
        axes[1].plot(line, steady.cvs, color=colour("ink"), linewidth=1.6, label="Lambda = Fargate")
        axes[1].plot([closed_form], [steady.cvs[0]], "D", color=colour("ink"), markersize=7, clip_on=False, label="… by the formula")
        axes[1].set(xlabel="requests a second, mean")
        axes[1].set_xticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1,000"])
        handles = [Patch(**look, label=name) for name, look in looks.items()]
        own, _ = axes[1].get_legend_handles_labels()
        fig.legend(handles=handles + own, loc="outside lower center", ncols=2)
    told = ". ".join(
        f"{title.capitalize()}: " + ", ".join(f"{name} {percent(share, digits=2)}" for name, share in one.shares().items())
        for title, one in zip(titles, (everything, steady))
    )
    known = ~np.isnan(line)
    return Figure(
        fig,
        name="cost-map",
        alt=f"Two maps of the cheapest platform over requests a second, 0.01 to 1,000, and burstiness, 0.1 to 10; shares of the "
        f"map. {told}. In the second map the line on which Lambda and Fargate cost the same begins at {line[0]:.1f} a second "
        f"and bends to the right; above a burstiness of {steady.cvs[known].max():.2g} there is none.",
        caption="In each map: left, paid by the request; right, paid by the hour. Bursts push the border to the right until it is gone: "
        "idle capacity is what you pay a fleet for.",
    )


def own_map(one: CostMap, *, rate: float, cv: float) -> Figure:
    """The cheapest platform for a reader's own workload, with the reader's place on the map."""
    looks = _looks(list(one.shares()))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.6))
        _regions(axes, one, looks, star=cv)
        axes.plot([rate], [cv], "*", color=colour("paper"), markersize=19)
        axes.plot([rate], [cv], "*", color=colour("ink"), markersize=12, label="you")
        axes.set(xlabel="requests a second, mean", ylabel="burstiness (cv)")
        axes.set_xticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1,000"])
        axes.minorticks_off()
        handles = [Patch(**look, label=name) for name, look in looks.items()]
        fig.legend(handles=handles + axes.get_legend_handles_labels()[0], loc="outside lower center", ncols=2)
    told = ", ".join(f"{name} {percent(share, digits=2)}" for name, share in one.shares().items())
    return Figure(
        fig,
        name="own-map",
        alt=f"Map of the cheapest platform for one workload over requests a second and burstiness; shares of the map: {told}. "
        f"A star stands at {rate:g} a second and a burstiness of {cv:g}, where {one.name(cv, rate)} is the cheapest.",
        caption="Your place on your own map. How far is the border, and what would move you across it?",
    )


def costs_over_rate(one: CostMap, *, cv: float, names: Mapping[str, int]) -> Figure:
    """USD a month over the rate, on some platforms (name -> number of the series), at one burstiness."""
    row = int(np.abs(np.log(one.cvs / cv)).argmin())
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.4))
        for name, number in names.items():
            axes.loglog(one.rates, one.usd[one.platforms.index(name), row], label=name, **{**series(number), "markersize": 0})
        axes.set(xlabel="requests a second, mean", ylabel="USD a month", ylim=(1, None))
        axes.set_xticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1,000"])
        axes.set_yticks([1, 10, 100, 1000, 10000], ["1", "10", "100", "1,000", "10,000"])
        axes.minorticks_off()
        axes.legend(loc="upper left")
    told = "; ".join(
        f"{name}: {quantity(float(one.usd[one.platforms.index(name), row, 0]), digits=2)} to "
        f"{quantity(float(one.usd[one.platforms.index(name), row, -1]), digits=2)} USD"
        for name in names
    )
    return Figure(
        fig,
        name="costs-over-rate",
        alt=f"Cost a month over requests a second, both logarithmic, at a burstiness of {one.cvs[row]:.2g}. {told}.",
        caption="What is paid by the request is a straight line. What is paid by the hour begins flat: the least you can have.",
    )
