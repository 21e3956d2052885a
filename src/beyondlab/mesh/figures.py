"""The figures of "Service mesh". Times in seconds unless an axis says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.kit.figures import Figure, bars, colour, log_ticks, series, style
from beyondlab.kit.recordings import Result
from beyondlab.mesh.spans import Span, depth_first, from_start
from beyondlab.mesh.storm import Storm


def waterfall(spans: Sequence[Span], *, label: str) -> Figure:
    """A trace: one bar a span, parents above children."""
    ordered = depth_first(from_start(spans))
    kinds = {"client": bars(2), "server": bars(1)}
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 0.3 * len(ordered) + 0.95))
        for row, (_, span) in enumerate(ordered):
            axes.barh(row, 1e3 * span.seconds, left=1e3 * span.start, height=0.66, **kinds.get(span.kind, bars(3)))
        names = [f"{span.service} {'in' if span.kind == 'server' else 'out'}" for _, span in ordered]
        axes.set(yticks=range(len(ordered)), yticklabels=names, ylim=(len(ordered) - 0.4, -0.6), xlabel="milliseconds")
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        handles = [plt.Rectangle((0, 0), 1, 1, **kinds[kind]) for kind in ("server", "client")]
        fig.legend(handles, ["proxy receives", "proxy calls"], loc="outside upper center", ncols=2)
    whole = ordered[0][1].seconds
    return Figure(
        fig,
        name="waterfall",
        alt=f"Waterfall of one trace with {len(ordered)} spans, each inside the one above. The first, {names[0]}, takes "
        f"{1e3 * whole:.1f} ms; the last, {names[-1]}, {1e3 * ordered[-1][1].seconds:.1f} ms. Each service's sidecar "
        "appears on the way in and on the way out.",
        caption="One request through three services. Where a bar is longer than the one below it, a proxy or an "
        f"application was at work. {label}.",
    )


def storm(storms: Mapping[str, Storm], *, duration: float, capacity: float) -> Figure:
    """Answered requests in each second, a line for each way of retrying; the outage shaded."""
    first = next(iter(storms.values()))
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.1))
        axes.axvspan(*first.outage, color=colour("grid"), zorder=0)
        for number, (name, found) in enumerate(storms.items(), 1):
            _, good = found.by_second(duration)
            axes.plot(np.arange(good.size) + 0.5, good, label=name, **{**series(number), "markersize": 4})
        axes.set(xlabel="seconds (grey: the server stands still)", ylabel="answered in time, a second", ylim=(0, 1.12 * capacity))
        axes.axhline(capacity, color=colour("muted"), linewidth=1)
        axes.annotate("capacity", (duration, capacity), xytext=(0, 3), textcoords="offset points", ha="right")
        fig.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=1)
    ends = "; ".join(f"{name}: {found.success(duration - 5, duration - 1):.0%} at the end" for name, found in storms.items())
    return Figure(
        fig,
        name="storm",
        alt=f"Requests answered in time, each second of {duration:.0f}, with an outage from second {first.outage[0]:.0f} to "
        f"{first.outage[1]:.0f}. {ends}.",
        caption="Same outage, same users. With unlimited retries the line stays on the floor after the grey band: the "
        "trigger is gone, the failure is not.",
    )


def tolls(result: Result, paths: Sequence[str], rates: Sequence[float]) -> Figure:
    """Median and 99th percentile of each path at each load, and what the proxies used.

    ``result`` holds "<path>, <rate>/s, p50" (ms), "…, p99" (ms) and "…, vCPU" (at 1,000 requests a second), and
    "<path>, MB".
    """
    with style():
        fig, ((left, right), (cpu, memory)) = plt.subplots(2, 2, figsize=(5.2, 4.6))
        for axes, which in ((left, "p50"), (right, "p99")):
            for number, path in enumerate(paths, 1):
                values = [float(result[f"{path}, {rate:g}/s, {which}"]) for rate in rates]
                axes.semilogy(range(len(rates)), values, label=path, **series(number))
            axes.set(xticks=range(len(rates)), xticklabels=[f"{rate:g}" for rate in rates], title=f"{which}, ms", xlabel="requests/s")
            log_ticks(axes.yaxis)
        top = rates[-1]
        for axes, what, title in ((cpu, f", {top:g}/s, vCPU", "vCPU at 1,000/s"), (memory, ", MB", "MB of memory")):
            for row, path in enumerate(paths[1:]):
                axes.barh(row, float(result[path + what]), height=0.6, **bars(row + 2))
            axes.set(yticks=range(len(paths) - 1), yticklabels=paths[1:] if axes is cpu else [], title=title)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
        fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    low = rates[0]
    middle = ", ".join(f"{path} {float(result[f'{path}, {low:g}/s, p50']):.2f} ms" for path in paths)
    used = ", ".join(f"{path} {float(result[f'{path}, {top:g}/s, vCPU']):.2f}" for path in paths[1:])
    return Figure(
        fig,
        name="tolls",
        alt=f"Response time of four paths at {', '.join(f'{rate:g}' for rate in rates)} requests a second, median and 99th "
        f"percentile, logarithmic. Medians at {low:g} a second: {middle}. vCPU of the proxies at 1,000 requests a second: "
        f"{used}. Memory: {float(result[paths[1] + ', MB']):.0f} MB for one proxy, twice that for two.",
        caption=f"Each proxy adds its part, in time, CPU and memory. {result.label}.",
    )
