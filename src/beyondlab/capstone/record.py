"""An architecture decision record in Markdown, after M. Nygard: context, decision, consequences; here with figures."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from beyondlab.capstone.model import Outcome, evaluate
from beyondlab.capstone.product import AT_MOST, DIMENSIONS, Choice, Product, Requirements
from beyondlab.kit.tables import table

LEAST = 12
"""Characters that a reason has at least."""
FORMS = {"cost": "{:,.0f} USD a month", "p99": "{:.2f} s", "availability": "{:.5f}", "isolation": "level {:.0f}",
         "portability": "{:.2f}", "residency": "{:.2f} leaves B"}  # fmt: skip


class Record(str):
    """The text of a decision record. Shows itself as Markdown; :meth:`write` makes a file of it, only if you ask."""

    def _repr_markdown_(self) -> str:
        return str(self)

    def write(self, path: str | Path) -> Path:
        """Write the record to ``path``, which must not exist yet; the path. Raises FileExistsError if it does."""
        path = Path(path)
        with path.open("x", encoding="utf-8") as file:
            file.write(str(self))
        return path


def decision_record(
    choice: Choice,
    reasons: Mapping[str, str],
    *,
    title: str = "Design of the fleet's alert path",
    date: str | None = None,
    status: str = "Proposed",
    product: Product = Product(),
    requirements: Requirements = Requirements(),
    alternatives: Sequence[Choice] = (),
) -> Record:
    """The record of a decision for ``choice``.

    ``reasons``: decision (a key of :data:`~beyondlab.capstone.product.DIMENSIONS`) -> why, in your words; one for each.
    ``date``: of the decision, by default today, as 2026-11-27. ``alternatives``: designs to be compared with, such as :func:`beyondlab.capstone.front.nearest` gives. A requirement
    that is missed is written down as missed. Raises ValueError for a reason that is missing or says nothing.
    """
    for name in reasons:
        if name not in DIMENSIONS:
            raise ValueError(f"reasons[{name!r}]: is no decision; there are {', '.join(DIMENSIONS)}")
    for name in DIMENSIONS:
        if len(reasons.get(name, "").strip()) < LEAST:
            raise ValueError(f"reasons[{name!r}]={reasons.get(name)!r}: say why, in {LEAST} characters or more")
    outcome = evaluate(choice, product)
    missed = outcome.missed(requirements)
    a, b = product.devices
    decided = [[name, f"**{getattr(choice, name)}**", reasons[name].strip().replace("|", "/")] for name in DIMENSIONS]
    bill = ", ".join(f"{name} {usd:,.0f}" for name, usd in outcome.lines.items() if usd >= 0.5)
    worst = sorted(outcome.faults, key=lambda fault: -fault.unavailability)[:3]
    parts = [
        f"### {title}",
        f"*{date or datetime.date.today().isoformat()}. Status: {status}.*",
        "**Context.** "
        f"{a:,} devices in country A and {b:,} in B send {product.rate:,.0f} readings a second, enriched by a model with "
        f"third-party code; an alert is late after {product.on_time:g} s. B's data must stay in B.",
        "**Decision.**",
        table(["Decision", "Choice", "Reason"], decided)._repr_markdown_(),
        "**Requirements.** " + ("All are met." if not missed else f"{len(missed)} missed; whoever accepts this accepts that."),
        _kept(outcome, requirements)._repr_markdown_(),
        f"**Consequences.** Simulated, not measured. USD a month: {bill}. What costs most alerts: "
        + "; ".join(f"{fault.name}, {fault.unavailability:.1e} of them, {fault.why}" for fault in worst)
        + f". {outcome.repeats:.2f} alerts a month go out twice.",
    ]
    if alternatives:
        parts += ["**Alternatives on the front.**", _others(outcome, [evaluate(other, product) for other in alternatives])._repr_markdown_()]
    return Record("\n\n".join(parts) + "\n")


def _kept(outcome: Outcome, requirements: Requirements):
    missed = {miss.requirement for miss in outcome.missed(requirements)}
    found = asdict(outcome)
    rows = [
        [name, ("at most " if name in AT_MOST else "at least ") + FORMS[name].format(wanted), FORMS[name].format(found[name]),
         "**missed**" if name in missed else "met"]
        for name, wanted in asdict(requirements).items()
    ]  # fmt: skip
    return table(["Requirement", "Wanted", "Found", ""], rows)


def _others(mine: Outcome, others: Sequence[Outcome]):
    def differs(other: Outcome) -> str:
        pairs = zip(asdict(mine.choice).values(), asdict(other.choice).values())
        return ", ".join(f"{theirs} for {ours}" for ours, theirs in pairs if ours != theirs) or "the same"

    rows = [
        [differs(o), f"{o.cost:,.0f}", f"{o.p99:.2f}", f"{o.availability:.5f}", o.isolation, f"{o.portability:.2f}"]
        for o in others
    ]
    return table(["With", "USD a month", "p99, s", "On time", "Level", "Portability"], rows, align="lrrrrr")
