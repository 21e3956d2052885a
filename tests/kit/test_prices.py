import datetime
import tomllib
from pathlib import Path

import pytest

from beyondlab.kit import prices


def test_every_price_has_value_unit_date_and_source():
    for price in prices.every().values():
        assert price.value > 0 and price.unit.startswith("USD per ")
        assert datetime.date(2024, 1, 1) < price.date <= datetime.date.today()
        assert price.source.startswith("https://")


def test_the_file_and_the_table_agree():
    raw = tomllib.loads(Path(prices.__file__).with_name("prices.toml").read_text())
    assert {f"{s}.{e}" for s, entries in raw.items() for e in entries} == set(prices.every())
    shown = repr(prices.price_table("lambda"))
    assert "0.0000166667" in shown and "0.2" in shown and "0.0000041667" in shown


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"date": None}, "date=None"), ({"source": ""}, "source=''"), ({"unit": ""}, "unit=''"), ({"value": -1}, "value=-1")],
)
def test_a_price_without_what_it_needs_is_refused(change, complaint):
    good = {"name": "x.y", "value": 1.0, "unit": "USD", "date": datetime.date(2026, 1, 1), "source": "https://example.org"}
    with pytest.raises(ValueError, match=complaint):
        prices.Price(**good | change)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"lambda\.requests"):
        prices.price("lambda.request")
    with pytest.raises(ValueError, match="no price"):
        prices.price_table("nothing")
