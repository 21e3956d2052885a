"""Each check lets through what it allows, unchanged in value, and names what it refuses."""

import doctest
import fractions
import math

import numpy as np
import pytest
from beyondlab.kit import check
from hypothesis import given
from hypothesis import strategies as st

NUMBERS = st.one_of(st.floats(), st.integers(), st.fractions(), st.floats(width=32).map(np.float32))
NO_NUMBERS = st.sampled_from([None, True, False, "1", b"1", [1.0], {}, 1j, np.ones(2), object])

ALLOWED = {
    check.positive: (lambda number: 0 < number < math.inf, "a finite number greater than 0"),
    check.non_negative: (lambda number: 0 <= number < math.inf, "a finite number, at least 0"),
    check.finite: (math.isfinite, "a finite number"),
    check.share: (lambda number: 0 <= number <= 1, "a number from 0 to 1"),
}


def as_float(value) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def refused(checked, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        checked(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("checked", ALLOWED, ids=lambda checked: checked.__name__)
@given(value=NUMBERS)
def test_a_number_comes_back_or_is_named(checked, value):
    allows, allowed = ALLOWED[checked]
    number = as_float(value)
    if allows(number):
        found = checked("memory", value)
        assert type(found) is float and found == number
    else:
        assert refused(checked, "memory", value) == f"memory={value!r}: must be {allowed}"


@pytest.mark.parametrize("checked", ALLOWED, ids=lambda checked: checked.__name__)
@given(value=NO_NUMBERS)
def test_what_is_no_number_is_named(checked, value):
    assert refused(checked, "memory", value) == f"memory={value!r}: must be {ALLOWED[checked][1]}"


@given(value=st.integers(), least=st.integers())
def test_whole(value, least):
    if value >= least:
        found = check.whole("count", value, least)
        assert type(found) is int and found == value
    else:
        assert refused(check.whole, "count", value, least) == f"count={value!r}: must be an integer, at least {least}"


@pytest.mark.parametrize("kind", [np.int8, np.uint64])
def test_whole_takes_the_integers_of_numpy(kind):
    found = check.whole("count", kind(3), 1)
    assert type(found) is int and found == 3


@given(value=st.one_of(st.floats(), NO_NUMBERS, st.just(fractions.Fraction(4)), st.just(np.float64(4))))
def test_whole_refuses_every_other_type(value):
    assert refused(check.whole, "count", value, -5) == f"count={value!r}: must be an integer, at least -5"


def test_the_unit_is_in_the_message():
    assert refused(check.positive, "timeout", 0, "seconds").endswith("must be a finite number of seconds greater than 0")
    assert refused(check.non_negative, "delay", -1, "ms").endswith("must be a finite number of ms, at least 0")


@given(values=st.dictionaries(st.sampled_from(["rate", "work", "name", "value"]), NUMBERS))
def test_all_positive_names_the_first_that_is_not(values):
    wrong = [name for name, value in values.items() if not 0 < as_float(value) < math.inf]
    if wrong:
        with pytest.raises(ValueError, match=f"^{wrong[0]}="):
            check.all_positive(**values)
    else:
        check.all_positive(**values)


@given(value=st.one_of(st.text(max_size=1), st.lists(st.none()), st.none()), allowed=st.lists(st.text(max_size=1), unique=True))
def test_one_of(value, allowed):
    if value in allowed:
        assert check.one_of("policy", value, dict.fromkeys(allowed)) is value
    else:
        said = refused(check.one_of, "policy", value, dict.fromkeys(allowed))
        assert said == f"policy={value!r}: must be one of {', '.join(allowed)}"


def test_the_example():
    assert doctest.testmod(check).attempted == 1 and not doctest.testmod(check).failed
