import math

import pytest
from beyondlab.kit.tables import percent, quantity, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.01976, "0.0198"),
        (1234.5, "1,234"),
        (200_000, "200,000"),
        (25_332_334, "25,332,334"),
        (3.2e-7, "3.20e-07"),
        (0.0, "0"),
        (9.996, "10.0"),
        (0.9996, "1.00"),
        (-0.5, "-0.500"),
        (1e18, "1.00e+18"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_quantity(value, shown):
    assert quantity(value) == shown


def test_quantity_wants_a_digit():
    with pytest.raises(ValueError, match="digits=0"):
        quantity(1.0, digits=0)


def test_markdown_escapes_pipes_and_joins_lines():
    made = table(["what", "how many"], [["a | b", 3], ["two\nlines", 0.5], [None, None]], caption="What | was found")
    assert made._repr_markdown_().splitlines() == [
        "*What | was found*",
        "",
        "| what | how many |",
        "|:--|--:|",
        r"| a \| b | 3 |",
        "| two lines | 0.500 |",
        "|  |  |",
    ]


def test_the_stars_of_names_are_no_emphasis_and_bold_stays_bold():
    made = table(["told by", "cheapest"], [["FUNCTION_*, K_*", "**a**"]])
    assert made._repr_markdown_().splitlines()[-1] == r"| FUNCTION_\*, K_\* | **a** |"
    assert "FUNCTION_*, K_*" in repr(made)


def test_repr_is_aligned():
    assert repr(table(["name", "n"], [["a", 1], ["longer", 1000]])).splitlines() == [
        "name        n",
        "------  -----",
        "a           1",
        "longer  1,000",
    ]


def test_booleans_are_words_and_left_aligned():
    made = table(["on"], [[True], [False]])
    assert (made.rows, made.align) == ((("yes",), ("no",)), "l")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "header=()"),
        ((["a"], [["x", "y"]]), r"rows\[0\]"),
        ((["a"], [], None, "rr"), "align='rr'"),
        ((["a"], [], None, "x"), "align='x'"),
    ],
)
def test_bad_tables(arguments, message):
    header, rows, caption, align = (*arguments, None, None)[:4]
    with pytest.raises(ValueError, match=message.replace("()", r"\(\)")):
        table(header, rows, caption=caption, align=align)


@pytest.mark.parametrize(
    ("share", "text"), [(0.00146, "0.146 %"), (0.47, "47 %"), (1.0, "100 %"), (0, "0 %"), (2e-7, "< 0.0001 %"), (0.9959, "99.6 %")]
)
def test_percent(share, text):
    assert percent(share) == text
