"""The figures of the capstone. Times in seconds, money in USD a month."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt

from beyondlab.capstone import stages
from beyondlab.capstone.front import aims, front, meets
from beyondlab.capstone.product import Choice, Product, Requirements
from beyondlab.kit.figures import Figure, colour, series, style

if TYPE_CHECKING:
    import pandas

BINS = 0.5
STEADY = 0.9995
"""Share of alerts on time from which a mark on the front is filled."""


def age_by_arrival(choice: Choice, product: Product = Product(), *, seed: int = 1) -> tuple[np.ndarray, np.ndarray, float]:
    """For a burst in country A: second since its beginning, p99 of enrichment in bins of half a second, share refused."""
    devices, _ = stages.sites(product, choice)[0]
    times, counts = stages.arrivals(product, devices, "burst", seed)
    response = stages.enrich(product, choice, 0, "burst", seed).response
    since = times[counts] - stages.LEAD
    place = (since // BINS).astype(int)
    found = np.unique(place)
    ages = [_p99(response[place == k]) for k in found]
    return (found + 0.5) * BINS, np.array(ages), float(np.mean(np.isinf(response)))


def _p99(response: np.ndarray) -> float:
    fine = response[np.isfinite(response)]
    return float(np.percentile(fine, 99)) if fine.size else np.nan


def burst(choices: Mapping[str, Choice], product: Product = Product()) -> Figure:
    """How old readings are when they are enriched, by when in a burst they came, for several designs."""
    said = []
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 3.4))
        for number, (name, choice) in enumerate(choices.items(), 1):
            when, ages, refused = age_by_arrival(choice, product)
            axes.semilogy(when, ages, label=name, markevery=3, **series(number))
            lost = f", {100 * refused:.0f} % refused" if refused else ""
            said.append(f"{name}: at most {np.nanmax(ages):.2g} s{lost}")
        axes.axhline(product.on_time, color=colour("muted"), linewidth=1)
        axes.text(0.15, product.on_time * 1.15, "too late", color=colour("muted"))
        axes.set(xlabel="seconds since the network is back", ylabel="p99 until enriched, s", ylim=(0.005, 30), xlim=(0, product.burst_seconds))
        axes.set_yticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
        axes.minorticks_off()
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1, fontsize=9.5)
    return Figure(
        fig, name="burst",
        alt=f"Lines over the {product.burst_seconds:g} seconds of a burst, p99 until a reading is enriched, logarithmic. {'; '.join(said)}.",
        caption="The alerts come when the load does. Functions grow at once; pods that follow the load are late for the first "
        "seconds; pods that are always there fall behind, or refuse.",
    )  # fmt: skip


def pareto(table: pandas.DataFrame, named: Mapping[str, Choice], requirements: Requirements = Requirements()) -> Figure:
    """All lawful designs by cost and p99; the front, levels of isolation and availability marked, up to three of them named by letters."""
    ahead, good = front(aims(table)), meets(table, requirements)
    cost, p99 = table["cost"].to_numpy(float), table["p99"].to_numpy(float)
    top = 20.0
    height = np.where(np.isfinite(p99), p99, top)
    steady = table["availability"].to_numpy(float) >= STEADY
    with style():
        fig, axes = plt.subplots(figsize=(5.2, 4.6))
        axes.axhspan(requirements.p99, 30, color=colour("grid"), alpha=0.5, linewidth=0)
        axes.axvspan(requirements.cost, 4000, color=colour("grid"), alpha=0.5, linewidth=0)
        axes.scatter(cost[~ahead], height[~ahead], s=9, color=colour("muted"), marker=".", label="beaten", linewidths=0)
        for number, level in enumerate((2, 3, 4, 5), 1):
            look = series(number)
            here = ahead & (table["level"].to_numpy(float) == level)
            for kept in (True, False):
                some = here & (steady == kept)
                axes.scatter(cost[some], height[some], s=30, marker=look["marker"], edgecolors=look["color"], linewidths=1.2,
                             facecolors=look["color"] if kept else "none", label=f"front, level {level}" if kept else None)  # fmt: skip
        axes.set_yscale("log")
        axes.set_xscale("log")
        axes.set(xlabel="USD a month", ylabel="p99 of the alert path, s", xlim=(400, 4000), ylim=(0.05, 30))
        axes.set_xticks([500, 800, 1500, 3000], ["500", "800", "1,500", "3,000"])
        axes.set_yticks([0.1, 1, 3, top], ["0.1", "1", "3", "lost"])
        axes.minorticks_off()
        for letter, choice, place in zip("ABC", named.values(), [(12, -14), (-8, 18), (10, -20)]):
            row = np.flatnonzero((table[list(Choice.__dataclass_fields__)] == [getattr(choice, n) for n in Choice.__dataclass_fields__]).all(axis=1))
            axes.scatter(cost[row], height[row], s=75, facecolors="none", edgecolors=colour("ink"), linewidths=1.0)
            axes.annotate(letter, (cost[row[0]], height[row[0]]), xytext=place, textcoords="offset points", fontweight="bold",
                          arrowprops={"arrowstyle": "-", "color": colour("ink"), "linewidth": 0.8})  # fmt: skip
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=9.5)
    names = ", ".join(f"{letter} {name}" for letter, name in zip("ABC", named))
    return Figure(
        fig, name="front",
        alt=f"{len(table)} designs by USD a month, {cost.min():,.0f} to {cost.max():,.0f}, and p99, {p99.min():.2f} s upwards, both logarithmic; "
        f"{int(np.isinf(p99).sum())} at the top lose over a hundredth of the alerts. {int(ahead.sum())} are on the front. "
        f"{int(good.sum())} meet all requirements. Named: {names}.",
        caption=f"Not shaded: within {requirements.cost:g} USD and {requirements.p99:g} s. Marks are on the front of five aims, two of which "
        f"are drawn; a hollow mark keeps under {100 * STEADY:g} % on time. {names}.",
    )  # fmt: skip
