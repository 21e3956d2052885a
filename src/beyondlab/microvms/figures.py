"""The figures of "Firecracker and microVMs"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.kit.figures import Figure, bars, colour, series, style
from beyondlab.kit.recordings import Result
from beyondlab.kit.tables import quantity
from beyondlab.microvms.model import Neighbours


def boot_phases(found: Result) -> Figure:
    """Where the seconds of a Linux boot go: one bar of each phase (medians, milliseconds)."""
    phases = [(name, found[name].value) for name in found if hasattr(found[name], "unit")]
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 2.2))
        for row, (name, value) in enumerate(reversed(phases)):
            axes.barh(row, value, height=0.55, **bars(1))
            axes.plot(found[name].samples, [row] * len(found[name].samples), "o", color=colour("ink"), markersize=3.5)
        axes.set(yticks=range(len(phases)), yticklabels=[name for name, _ in reversed(phases)], xlabel="milliseconds", xlim=(0, None))
        axes.grid(axis="y", visible=False)
    text = ", ".join(f"{name} {quantity(value)} ms" for name, value in phases)
    return Figure(
        fig,
        name="boot-phases",
        alt=f"Bars of the phases of booting Linux in a microVM, medians: {text}. Dots are single boots.",
        caption=f"The kernel's own start is the longest bar; the machine around it is set up before that. {found.label}.",
    )


def walls(rows: Mapping[str, Result]) -> Figure:
    """Start-up time against memory of each kind of isolation: filled marks measured now, open ones recorded."""
    places = {
        "process": (9, 3), "namespaces": (8, 4), "gVisor, ptrace": (-8, 8), "Wasm, Wasmtime": (9, -11),
        "clone, our monitor": (-4, -19), "microVM, Linux": (-8, 7),
    }  # fmt: skip
    with style():
        fig, axes = plt.subplots()
        for number, (name, row) in enumerate(rows.items(), 1):
            look = series(min(number, 6))
            start, memory = row["start"].value, row["memory"].value
            axes.loglog(memory, start, linestyle="", marker=look["marker"], color=look["color"], markersize=8,
                        fillstyle="full" if row.live else "none")  # fmt: skip
            shift = places.get(name, (8, 4))
            axes.annotate(name, (memory, start), shift, textcoords="offset points", ha="right" if shift[0] < -5 else "left")
        axes.set(xlabel="memory of one more instance", ylabel="start-up time", xlim=(3, 1e6), ylim=(0.05, 2e4))
        axes.set_xticks([4, 64, 1024, 16384, 262144], ["4 KiB", "64 KiB", "1 MiB", "16 MiB", "256 MiB"])
        axes.set_yticks([0.1, 1, 10, 100, 1000, 10000], ["0.1 ms", "1 ms", "10 ms", "100 ms", "1 s", "10 s"])
        axes.minorticks_off()
    text = "; ".join(f"{name} {quantity(row['start'].value)} ms and {quantity(row['memory'].value / 1024)} MiB" for name, row in rows.items())
    return Figure(
        fig,
        name="walls",
        alt=f"Start-up time against memory, both on logarithmic axes: {text}."[:600],
        caption="Down and to the left is cheap. Filled: measured now. Open: recorded. The clone is a microVM too: what makes "
        "the other one slow and heavy is the Linux in it, and here the emulation under it.",
    )


def pages(writes: Sequence[float], expected: Any, measured: Mapping[int, float], *, total: int, label: str) -> Figure:
    """Pages that a clone has to itself against its random writes: closed form, and clones that were measured."""
    with style():
        fig, axes = plt.subplots()
        axes.plot(writes, expected, label="n (1 − (1 − 1/n)ᵏ)", **{**series(1), "marker": ""})
        axes.plot(writes, np.minimum(writes, total), label="every write a new page", **{**series(2), "marker": ""})
        axes.plot(list(measured), list(measured.values()), "o", color=colour("ink"), label="clones, measured")
        axes.set(xlabel="random writes, k", ylabel="pages of the clone's own", xlim=(0, None), ylim=(0, total * 1.05))
        axes.legend(loc="lower right")
    last = list(measured.items())[-1]
    return Figure(
        fig,
        name="pages",
        alt=f"Pages that a clone no longer shares against its random writes to {total} pages. The closed form bends from "
        f"one page a write to at most {total}; measured clones lie on it, the last with {last[1]:.0f} pages after {last[0]} writes.",
        caption=f"Dots on the line: copy-on-write copies a page at its first write and never again. {label}.",
    )


def queue(loads: Sequence[float], calm: Any, bursty: Any, *, cores: int) -> Figure:
    """99th percentile of the wait for a core against the load (share of capacity), in milliseconds."""
    with style():
        fig, axes = plt.subplots()
        axes.semilogy(loads, np.where(np.asarray(calm) > 0, calm, np.nan), label="at random moments", **series(1))
        axes.semilogy(loads, bursty, label="in bursts", **series(2))
        axes.set(xlabel="share of the starts that the cores can do", ylabel="p99 wait for a core")
        axes.set_ylim(0.5, 9_000)
        axes.set_xlim(0.48, 0.97)
        axes.set_yticks([1, 10, 100, 1000], ["1 ms", "10 ms", "100 ms", "1 s"])
        axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9], ["50 %", "60 %", "70 %", "80 %", "90 %"])
        axes.minorticks_off()
        axes.legend(loc="lower right")
    at = int(np.argmin(np.abs(np.asarray(loads) - 0.8)))
    idle = max((load for load, wait in zip(loads, calm, strict=True) if wait <= 0), default=0.0)
    return Figure(
        fig,
        name="queue",
        alt=f"99th percentile of the wait for one of {cores} cores against the load. At 80 % it is {quantity(float(calm[at]))} ms "
        f"for starts at random moments and {quantity(float(bursty[at]))} ms for starts in bursts; both rise with the load. "
        f"Up to {idle:.0%} fewer than one in a hundred wait at random moments, and no point is drawn.",
        caption="The same number of starts a second, and waits that are ten times longer and more: what comes in bursts queues. "
        "No point: fewer than one in a hundred wait.",
    )


def noisy(results: Mapping[str, Neighbours]) -> Figure:
    """Distribution of the quiet microVM's read times, by what limits the loud one."""
    with style():
        fig, axes = plt.subplots()
        for number, (name, result) in enumerate(results.items(), 1):
            ordered = np.sort(result.latencies_ms)
            step = max(1, ordered.size // 300)
            share = np.arange(1, ordered.size + 1) / ordered.size
            axes.semilogx(ordered[::step], share[::step], label=name, **{**series(number), "marker": ""})
        axes.set(xlabel="time of a read by the quiet microVM", ylabel="share of its reads", ylim=(0, 1.02))
        axes.set_xticks([0.1, 1, 10, 100], ["0.1 ms", "1 ms", "10 ms", "100 ms"])
        axes.minorticks_off()
        axes.legend(loc="lower right")
    text = "; ".join(f"{name}: half under {quantity(r.percentile(50))} ms, 99 % under {quantity(r.percentile(99))} ms" for name, r in results.items())
    return Figure(
        fig,
        name="noisy",
        alt=f"Distribution of the quiet microVM's read times by the loud one's limit. {text}.",
        caption="Without a limit each read waits behind the neighbour's whole queue. A bucket lets most reads through at "
        "once; its size is the burst that the others still meet.",
    )
