"""Which designs nothing beats: the Pareto front, and by whom the others are beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from beyondlab import sim
from beyondlab.capstone import model
from beyondlab.capstone.product import Choice, Product, Requirements, designs, misses

if TYPE_CHECKING:
    import pandas

AIMS: Mapping[str, int] = {"cost": 1, "p99": 1, "availability": -1, "level": -1, "portability": -1}
"""Figure -> 1 if less is better, -1 if more is. Residency is no aim: it is kept, or the design is out."""


def front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of ``values``, shape (designs, aims), less is better, no other row beats.

    A row beats another if it is at most equal in every column and less in one. Equal rows do not beat each other.
    """
    table = np.asarray(values, float)
    if table.ndim != 2:
        raise ValueError(f"values: must have two dimensions, designs and aims; got shape {table.shape}")
    return np.array([beaten_by(table, row) is None for row in range(len(table))], bool)


def beaten_by(values: NDArray[np.float64], row: int) -> int | None:
    """A row that beats ``row``; of several the one that gains most, the gains scaled by each column's spread. None if none."""
    table = np.asarray(values, float)
    better = np.flatnonzero((table <= table[row]).all(axis=1) & (table < table[row]).any(axis=1))
    if not better.size:
        return None
    capped = np.where(np.isfinite(table), table, np.nanmax(np.where(np.isfinite(table), table, np.nan), axis=0) * 2)
    spread = np.maximum(np.ptp(capped, axis=0), 1e-12)
    return int(better[np.argmax(((capped[row] - capped[better]) / spread).sum(axis=1))])


def sweep(product: Product = Product(), *, seed: int = 1, **options: Any) -> pandas.DataFrame:
    """Every design that can be built, scored on the cores of this machine: decisions and figures, one row a design.

    All designs get the same readings. ``options`` go to :func:`beyondlab.sim.sweeps.sweep`.
    """
    a, b = product.devices
    if product != Product(devices=product.devices):
        raise ValueError("product: only its devices may differ from the default's in a sweep")
    grid = [{**asdict(choice), "devices_a": a, "devices_b": b} for choice in designs()]
    return sim.sweep(model.score, grid, [seed], progress=False, **options).table


def choice_of(row: Any) -> Choice:
    """The design of a row of :func:`sweep`."""
    return Choice(**{name: row[name] for name in Choice.__dataclass_fields__})


def aims(table: pandas.DataFrame) -> NDArray[np.float64]:
    """The aims of each row, less is better, rounded to what can be told apart: a dollar, 10 ms, 1e-5, a hundredth."""
    digits = {"cost": 0, "p99": 2, "availability": 5, "level": 0, "portability": 2}
    return np.column_stack([sign * table[name].to_numpy(float).round(digits[name]) for name, sign in AIMS.items()])


def lawful(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows in which B's data stays in B."""
    return table[table["residency"] == 0].reset_index(drop=True)


def meets(table: pandas.DataFrame, requirements: Requirements = Requirements()) -> NDArray[np.bool_]:
    """Which rows meet all requirements."""
    return np.array([not misses({**row, "isolation": row["level"]}, requirements) for row in table.to_dict("records")], bool)


def by_decision(table: pandas.DataFrame, decision: str, figure: str) -> dict[str, float]:
    """Median of a figure for each option of a decision, over all rows."""
    return {str(option): float(value) for option, value in table.groupby(decision)[figure].median().items()}


def nearest(table: pandas.DataFrame, choice: Choice, count: int = 3) -> Sequence[Choice]:
    """The designs on the front of ``table`` that differ from ``choice`` in the fewest decisions, cheapest first among equals."""
    ahead = table[front(aims(table))].to_dict("records")
    mine = asdict(choice)
    ranked = sorted(ahead, key=lambda row: (sum(row[name] != mine[name] for name in mine), row["cost"]))
    return [choice_of(row) for row in ranked if choice_of(row) != choice][:count]
