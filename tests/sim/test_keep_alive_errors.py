"""Bad input is refused with a message that names the argument, its value and what is allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beyondlab.sim import KeepAlive, simulate

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("engine", ["numba", "python"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arrivals": [0.0, 2.0, 1.0]}, ["arrivals[2]", "1.0", "sorted", "2.0"]),
        ({"arrivals": [0.0, NAN, 1.0]}, ["arrivals[1]", "nan", "finite"]),
        ({"arrivals": [0.0, 1.0, INF]}, ["arrivals[2]", "inf", "finite"]),
        ({"arrivals": [-1.0, 0.0, 1.0]}, ["arrivals[0]", "-1.0", "at least 0"]),
        ({"arrivals": [[0.0, 1.0, 2.0]]}, ["arrivals", "(1, 3)", "one-dimensional"]),
        ({"arrivals": ["a", "b", "c"]}, ["arrivals", "real numbers"]),
        ({"arrivals": [[0.0], [1.0, 2.0]]}, ["arrivals", "ragged"]),
        ({"arrivals": 3.0}, ["arrivals", "one-dimensional"]),
        ({"service": [1.0, -1.0, 1.0]}, ["service[1]", "-1.0", "at least 0"]),
        ({"service": [1.0, 1.0, NAN]}, ["service[2]", "nan"]),
        ({"service": [INF, 1.0, 1.0]}, ["service[0]", "inf"]),
        ({"service": [1.0, 1.0]}, ["service", "3 arrivals", "2"]),
        ({"service": -1.0}, ["service", "-1.0", "at least 0"]),
        ({"service": NAN}, ["service", "nan"]),
        ({"cold_service": [1.0, 1.0, -1.0]}, ["cold_service[2]", "-1.0"]),
        ({"cold_service": [1.0]}, ["cold_service", "3 arrivals"]),
        ({"cold_service": INF}, ["cold_service", "inf"]),
        ({"keep_alive": 0}, ["keep_alive", "0", "greater than 0"]),
        ({"keep_alive": -5.0}, ["keep_alive", "-5.0"]),
        ({"keep_alive": NAN}, ["keep_alive", "nan"]),
        ({"keep_alive": INF}, ["keep_alive", "inf", "finite"]),
        ({"keep_alive": "long"}, ["keep_alive", "'long'"]),
        ({"limit": 0}, ["limit", "0", "at least 1"]),
        ({"limit": -3}, ["limit", "-3"]),
        ({"limit": 1.5}, ["limit", "1.5", "integer"]),
        ({"warm_up": -1.0}, ["warm_up", "-1.0"]),
        ({"warm_up": NAN}, ["warm_up", "nan"]),
        ({"warm_up": 50.0}, ["horizon", "2.0", "warm_up=50.0"]),
        ({"horizon": 1.0}, ["horizon", "1.0", "last arrival", "2.0"]),
        ({"horizon": INF}, ["horizon", "inf", "finite"]),
        ({"horizon": NAN}, ["horizon", "nan"]),
    ],
)
def test_refused(change: dict, words: list[str], engine: str) -> None:
    arguments = {"arrivals": [0.0, 1.0, 2.0], "service": [1.0, 1.0, 1.0], "keep_alive": 10.0} | change
    with pytest.raises(ValueError) as caught:
        simulate(**arguments, engine=engine)
    for word in words:
        assert word in str(caught.value)


def test_unknown_engine() -> None:
    with pytest.raises(ValueError, match="engine='fortran'.*'auto', 'numba' or 'python'"):
        simulate([0.0], 1.0, 1.0, engine="fortran")


def test_a_chunk_before_the_last_one() -> None:
    run = KeepAlive(10.0)
    run.feed([0.0, 5.0], 1.0)
    with pytest.raises(ValueError, match=r"arrivals\[0\]=4.0.*5.0"):
        run.feed([4.0], 1.0)


def test_late_errors_name_the_place_in_the_input() -> None:
    arrivals = np.arange(200_000.0)
    arrivals[150_000] = 5.0
    with pytest.raises(ValueError, match=r"arrivals\[150000\]=5.0"):
        simulate(arrivals, 1.0, 10.0)
    service = np.ones(200_000)
    service[199_999] = -2.0
    with pytest.raises(ValueError, match=r"service\[199999\]=-2.0"):
        simulate(np.arange(200_000.0), service, 10.0)


def test_a_refused_chunk_changes_nothing() -> None:
    run, untouched = KeepAlive(10.0, outcomes=True), KeepAlive(10.0, outcomes=True)
    for one in (run, untouched):
        one.feed([0.0, 5.0], 1.0)
    arrivals = np.arange(6.0, 100_006.0)
    arrivals[-1] = 0.0
    with pytest.raises(ValueError):
        run.feed(arrivals, 1.0)
    with pytest.raises(ValueError):
        run.finish(1.0)
    for one in (run, untouched):
        one.feed([20.0], 1.0)
    assert run.finish() == untouched.finish()


def test_nothing_after_the_end() -> None:
    run = KeepAlive(10.0)
    run.finish(5.0)
    with pytest.raises(RuntimeError, match="finished"):
        run.feed([6.0], 1.0)
    with pytest.raises(RuntimeError, match="finished"):
        run.finish()
