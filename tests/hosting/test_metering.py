from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.hosting.metering import RULES, Meter, Rule


@pytest.mark.parametrize(
    ("platform", "seconds", "billed"),
    [
        ("fargate", 0, 60), ("fargate", 59.2, 60), ("fargate", 60, 60), ("fargate", 60.01, 61), ("fargate", 3600, 3600),
        ("aci", 0.2, 1), ("aci", 5, 5), ("cloud run", 0.2, 0.2), ("cloud run", 0.201, 0.3), ("lambda", 0.0014, 0.002),
        ("vm", 10, 60), ("vm", 61.5, 62),
    ],
)  # fmt: skip
def test_by_hand(platform, seconds, billed):
    assert RULES[platform].billed(seconds) == pytest.approx(billed)


@given(st.sampled_from(sorted(RULES)), st.floats(0, 1e6))
def test_never_less_than_used_never_a_step_more_than_needed(platform, seconds):
    rule = RULES[platform]
    billed = rule.billed(seconds)
    assert billed >= seconds - 1e-6 * max(1, rule.step) and billed >= rule.least
    assert billed <= max(rule.least, seconds + rule.step * (1 + 1e-6))
    assert abs(billed / rule.step - round(billed / rule.step)) < 1e-6


@pytest.mark.parametrize(("step", "least", "mean"), [(1, 60, 20), (1, 0, 0.5), (0.1, 0, 0.2), (1, 60, 300), (0.5, 2, 1)])
def test_the_closed_form_is_the_sum_and_the_simulation(step, least, mean):
    rule = Rule(step, least)
    steps = np.arange(1, 200_000)
    probability = np.exp(-(steps - 1) * step / mean) - np.exp(-steps * step / mean)
    assert rule.mean_billed(mean) == pytest.approx(float(np.sum(probability * np.maximum(least, steps * step))), rel=1e-6)
    times = np.random.default_rng(1).exponential(mean, 100_000)
    assert rule.mean_billed(mean) == pytest.approx(np.mean([rule.billed(t) for t in times]), rel=0.02)


def test_a_meter_on_a_clock_that_is_given():
    now = [100.0]
    meter = Meter(RULES["fargate"], lambda: now[0])
    meter.start("a", 1.0, 2048)
    now[0] += 30
    meter.start("b", 0.5, 1024)
    now[0] += 60.5
    assert meter.stop("a") == 91 and meter.stop("b") == 61
    assert meter.usd(0.04048, 0.004445) == pytest.approx(91 / 3600 * 0.04937 + 61 / 3600 * 0.024685)
    with pytest.raises(ValueError, match="task='a': is not running"):
        meter.stop("a")
    meter.start("a", 1.0, 2048)
    with pytest.raises(ValueError, match="is running already"):
        meter.start("a", 1.0, 2048)


def test_errors():
    with pytest.raises(ValueError, match="step=0"):
        Rule(0)
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="seconds="):
            RULES["aci"].billed(wrong)
    with pytest.raises(ValueError, match="mean=0"):
        RULES["aci"].mean_billed(0)
