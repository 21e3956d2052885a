"""Tiers, scale to zero, costs: against hand calculations, published numbers and the simulator."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.inference import model
from beyondlab.inference.model import Prediction, Tier
from beyondlab.kit.prices import price


def test_tiers_give_the_published_times_back():
    """Fu et al., OSDI'24: OPT-30B (60 GB in 16 bits) 34 s with an ordinary loader; 130 GB downloaded in 26 s."""
    by_name = {tier.name: tier for tier in model.TIERS}
    assert by_name["local SSD, ordinary loader"].load(60) == pytest.approx(34)
    assert Tier("network", (model.DOWNLOAD,)).load(130) == pytest.approx(26)
    assert by_name["local SSD, ordinary loader"].load(60) / by_name["local SSD, ServerlessLLM"].load(60) == pytest.approx(3.6)
    loads = [tier.load(13.5) for tier in model.TIERS]
    assert loads == sorted(loads, reverse=True)


def test_a_second_of_the_gpu_instance():
    assert 3600 * model.gpu_second() == pytest.approx(0.67212 + 4 * 0.0648 + 16 * 0.0072)


@pytest.mark.parametrize("keep_alive", [60.0, 300.0, 1800.0])
def test_closed_form_and_simulation_agree_when_loading_is_short(keep_alive):
    exact = model.scale_to_zero(1 / 60, 2.0, 0.1, keep_alive)
    found = model.simulated_scale_to_zero(1 / 60, 2.0, 0.1, keep_alive, count=100_000)
    assert found.cold_share == pytest.approx(exact.cold_share, rel=0.06)
    assert found.usd_per_1000 == pytest.approx(exact.usd_per_1000, rel=0.03)


def test_long_loads_make_more_cold_starts_than_the_closed_form_knows():
    exact = model.scale_to_zero(1 / 60, 2.0, 25.0, 60.0)
    found = model.simulated_scale_to_zero(1 / 60, 2.0, 25.0, 60.0)
    assert 1.1 < found.cold_share / exact.cold_share < 1.3


def test_lambda_by_hand():
    """2 GB of weights: 2.9 GB of memory, 0.25 s, and no cold start worth counting at a high rate."""
    p = Prediction(rate=50, seconds=0.25, gb=2, load=1e-9, keep_alive=3600)
    assert model.on_lambda(p).usd_per_1000 == pytest.approx(1000 * (0.2e-6 + 2.9 * 0.25 * 0.0000166667), rel=1e-4)


def test_cloud_run_rounds_up_to_a_tenth_and_takes_the_cores_that_the_memory_needs():
    short, long = (model.on_cloud_run(Prediction(1, seconds, 1, 1e-9, 3600)).usd_per_1000 for seconds in (0.01, 0.1))
    assert short == pytest.approx(long)
    assert long == pytest.approx(1000 * (0.1 * (0.000024 + 1.7 * 0.0000025) + 0.4e-6), rel=1e-4)
    large = model.on_cloud_run(Prediction(1, 0.1, 5, 1e-9, 3600)).usd_per_1000
    assert large == pytest.approx(1000 * (0.1 * (2 * 0.000024 + 6.5 * 0.0000025) + 0.4e-6), rel=1e-4)


def test_servers_by_hand():
    p = Prediction(rate=100, seconds=0.05, gb=1, load=1)
    assert model.servers(p) == 5, "5 busy cores at 60 % of 2 each: 4.17"
    assert model.on_servers(p).usd_per_1000 == pytest.approx(5 * 0.1008 / 3600 / 100 * 1000)


def test_what_does_not_fit_says_why():
    p = model.of_size(30)
    assert [bool(option.why) for option in model.options(p)] == [True] * 6
    assert "Lambda has 10" in model.on_lambda(p).why
    shown = repr(model.decide(model.of_size(9)))
    assert "needs 11.3 GB" in shown and "←" in shown


@given(st.floats(0.005, 4.0))
@settings(max_examples=40, deadline=None)
def test_at_the_break_even_both_cost_the_same(gb):
    p = model.of_size(gb)
    rate = model.break_even(p)
    request = price("lambda.requests") / 1e6 + max(model.ONE_VCPU, p.memory) * p.seconds * price("lambda.duration-x86")
    assert rate * request * 3600 == pytest.approx(price("inference.server"))


def test_break_even_at_the_edges():
    assert model.break_even(model.of_size(7)) == math.inf, "the server has 8 GB"
    assert model.break_even(Prediction(1, 5.0, 0.01, 1)) == math.inf or model.break_even(Prediction(1, 5.0, 0.01, 1)) < 1


def test_a_warm_pool_keeps_its_promise_and_costs_what_it_idles():
    p = Prediction(rate=1 / 600, seconds=0.1, gb=0.25, load=2, keep_alive=60)
    pool = model.warm_pool(p, target=1e-3)
    assert pool.cold_share <= 1e-3 < model.on_lambda(p).cold_share
    idle = model.ONE_VCPU * price("lambda.provisioned-x86") * 600 * 1000
    assert pool.usd_per_1000 == pytest.approx(idle, rel=0.05)


@pytest.mark.parametrize("name", ["rate", "seconds", "gb", "load", "keep_alive", "gpu"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_predictions_are_checked(name, value):
    good = {"rate": 1.0, "seconds": 0.1, "gb": 1.0, "load": 1.0}
    with pytest.raises(ValueError, match=f"{name}="):
        Prediction(**good | {name: value})


def test_requests_to_notice_find_a_bad_version_as_often_as_they_say():
    import numpy as np
    from scipy.stats import binom, norm

    n = model.requests_to_notice(0.91, 0.83)
    limit = n * 0.91 - norm.ppf(0.95) * np.sqrt(n * 0.91 * 0.09)
    assert binom.cdf(limit, n, 0.83) == pytest.approx(0.8, abs=0.06), "found"
    assert binom.cdf(limit, n, 0.91) < 0.08, "false alarms"
    for bad in ({"good": 1.0, "bad": 0.5}, {"good": 0.5, "bad": 0.5}, {"good": 0.9, "bad": 0.8, "power": 0.0}):
        with pytest.raises(ValueError):
            model.requests_to_notice(**bad)
    with pytest.raises(ValueError, match="gb="):
        model.TIERS[0].load(0)
