"""Published prices, from one dated table (``prices.toml`` beside this file)."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from beyondlab.kit.tables import Table, table


@dataclass(frozen=True)
class Price:
    """One published price: ``value`` in ``unit``, read on ``date`` at ``source``."""

    name: str
    value: float
    unit: str
    date: datetime.date
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.value, (int, float)) or not self.value >= 0:
            raise ValueError(f"price {self.name}: value={self.value!r} must be a number, zero or more")
        if not self.unit:
            raise ValueError(f"price {self.name}: unit={self.unit!r} must say what is paid for")
        if not isinstance(self.date, datetime.date):
            raise ValueError(f"price {self.name}: date={self.date!r} must be the day the price was read")
        if not self.source.startswith("https://"):
            raise ValueError(f"price {self.name}: source={self.source!r} must be an https address")

    def __float__(self) -> float:
        return float(self.value)


@cache
def every() -> dict[str, Price]:
    """All prices by name, such as ``"lambda.requests"``.

    Raises ValueError for an entry without value, unit, date or source.
    """
    document = tomllib.loads(resources.files(__package__).joinpath("prices.toml").read_text())
    prices = {}
    for service, entries in document.items():
        for entry, fields in entries.items():
            name = f"{service}.{entry}"
            try:
                prices[name] = Price(name, **fields)
            except TypeError as error:
                raise ValueError(f"price {name} in prices.toml: {error}") from error
    return prices


def price(name: str) -> float:
    """The value of one price. Raises ValueError, with the names there are, if it is not in the table."""
    if name not in every():
        raise ValueError(f"name={name!r}: not in prices.toml; there are {', '.join(every())}")
    return every()[name].value


def price_table(service: str) -> Table:
    """The prices of one service with their dates, as a table to show."""
    rows = [p for p in every().values() if p.name.startswith(f"{service}.")]
    if not rows:
        raise ValueError(f"service={service!r}: no price in prices.toml begins with it")
    return table(
        ["Price", "USD", "per", "Read on", "Source"],
        [
            [
                p.name.partition(".")[2].replace("-", " ") + (f" ({p.note})" if p.note else ""),
                f"{p.value:.10f}".rstrip("0"),
                p.unit.removeprefix("USD per "),
                p.date.isoformat(),
                f"[page]({p.source})",
            ]
            for p in rows
        ],
    )
