"""CPU limits: the simulator, the closed form and published values agree; shared layers are counted once."""

import math

import numpy as np
import pytest
from beyondlab.containers import model
from hypothesis import assume, given, settings
from hypothesis import strategies as st

FINE = 1e-4  # slices so small that none is stranded


def test_a_published_example():
    """A request of 200 ms under a limit of 0.4: four waits of 60 ms (Documentation/scheduler/sched-bwc.rst's rule)."""
    served = model.serve([0.0], [0.2], limit=0.4, threads=1)
    assert served.latency[0] == pytest.approx(0.44) == model.burst_time(0.2, 0.4)
    assert (served.periods, served.throttled) == (5, 4)
    assert model.throttled_periods(0.2, 0.4) == 4
    assert served.throttled_seconds == pytest.approx(4 * 0.06)


@pytest.mark.parametrize(("quota_ms", "period_ms", "cpus"), [(250, 250, 1.0), (1000, 500, 2.0), (10, 50, 0.2)])
def test_the_examples_of_the_kernel_documentation(quota_ms, period_ms, cpus):
    """sched-bwc.rst, Examples 1 to 3: what a group that always wants to run gets."""
    served = model.serve([0.0], [40.0 * cpus], limit=quota_ms / period_ms, threads=4, width=4, period=period_ms / 1e3)
    assert served.used / served.latency[0] == pytest.approx(cpus, rel=0.02)
    if cpus < 4:
        assert served.throttled == pytest.approx(served.periods, abs=1), "nr_throttled is about nr_periods for busy groups"


@settings(deadline=None, max_examples=80)
@given(
    work=st.floats(0.001, 1.0), limit=st.floats(0.05, 6.0), threads=st.integers(1, 8), phase=st.floats(0, 0.0999),
    period=st.sampled_from([0.1, 0.05, 0.25]),
)  # fmt: skip
def test_the_simulator_is_the_closed_form_where_slices_are_fine(work, limit, threads, phase, period):
    phase = min(phase, 0.999 * period)
    slice_ = FINE * max(1, limit)

    def exact(more):
        return model.burst_time(max(work + more, 1e-6), limit, threads=threads, period=period, phase=phase)

    edge = 2 * threads * slice_
    assume(exact(edge) - exact(-edge) < min(0.004, max(0.001, period - limit * period / threads)) + 2 * edge)
    served = model.serve([7 * period + phase], [work], limit=limit, threads=threads, width=threads, period=period, slice_=slice_)
    assert served.latency[0] == pytest.approx(exact(0), abs=0.002 + 8 * threads * slice_)
    assert served.used == pytest.approx(work)


@pytest.mark.parametrize("phase", [0.0, 0.03, 0.059, 0.07, 0.08, 0.095])
@pytest.mark.parametrize(("work", "limit", "threads"), [(0.18, 0.4, 1), (0.13, 0.5, 4), (0.05, 2.0, 1), (0.7, 2.0, 8)])
def test_throttled_periods_from_any_moment(work, limit, threads, phase):
    served = model.serve([0.3 + phase], [work], limit=limit, threads=threads, width=threads, slice_=FINE)
    assert model.throttled_periods(work, limit, threads=threads, phase=phase) == served.throttled


def test_average_use_never_exceeds_the_limit():
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.uniform(0, 30, 3000))
    served = model.serve(arrivals, rng.exponential(0.02, 3000), limit=1.5, threads=16)
    end = max(arrivals + served.latency)
    assert served.used <= 1.5 * (end + 0.1) + 16 * model.KEPT
    assert served.used / end > 1.4, "this load wants more than the limit"


def test_without_a_limit_it_is_a_plain_queue():
    arrivals = np.array([0.0, 0.0, 0.0, 5.0])
    served = model.serve(arrivals, [1.0, 2.0, 3.0, 1.0], threads=2)
    assert served.latency.tolist() == [1.0, 2.0, 4.0, 1.0]
    assert (served.periods, served.throttled, served.throttled_seconds) == (0, 0, 0.0)


def test_one_thread_is_lindley():
    rng = np.random.default_rng(5)
    arrivals, work = np.cumsum(rng.exponential(1.0, 500)), rng.exponential(0.8, 500)
    wait, expected = 0.0, []
    for gap, service in zip(np.diff(arrivals, append=arrivals[-1]), work):
        expected.append(wait + service)
        wait = max(0.0, wait + service - gap)
    assert model.serve(arrivals, work, threads=1).latency == pytest.approx(np.array(expected))


@pytest.mark.parametrize("threads", [3, 4, 8, 24])
def test_the_longest_stall(threads):
    served = model.serve([0.0], [10.0], limit=2.0, threads=threads, width=threads, slice_=1e-4)
    assert served.longest == pytest.approx(model.longest_stall(2.0, threads=threads), abs=0.002)
    assert model.longest_stall(2.0, threads=2) == 0.0


def test_slices_strand_quota():
    """24 threads hold 24 slices: the stall comes earlier than quota / threads, as the kernel's documentation warns."""
    coarse = model.serve([0.0], [10.0], limit=2.0, threads=24, width=24).longest
    assert coarse > model.longest_stall(2.0, threads=24)


def test_a_saved_up_burst_is_not_throttled():
    plain = model.serve([1.0], [0.3], limit=2.0, threads=16, width=16)
    saved = model.serve([1.0], [0.3], limit=2.0, threads=16, width=16, burst=0.2)
    assert plain.throttled == 1 and saved.throttled == 0
    assert saved.latency[0] < 0.03 < plain.latency[0]


def test_quota_that_is_given_back_wakes_who_waits():
    """Three requests of 2 ms give back 2 ms of their slices each; after 5 ms of gathering the long one goes on."""
    served = model.serve([0.0, 0.004, 0.004, 0.004], [0.010, 0.002, 0.002, 0.002], limit=0.2, threads=4)
    assert served.latency == pytest.approx(np.array([0.016, 0.002, 0.002, 0.002]))
    assert served.throttled == 0 and served.throttled_seconds == pytest.approx(0.006)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"work": 0.0, "limit": 1.0}, "work=0.0"),
        ({"work": 1.0, "limit": -1.0}, "limit=-1.0"),
        ({"work": 1.0, "limit": math.inf}, "limit=inf"),
        ({"work": 1.0, "limit": 1.0, "phase": 0.1}, "phase=0.1"),
        ({"work": 1.0, "limit": 1.0, "threads": 0}, "threads=0"),
    ],
)
def test_bad_bursts(arguments, names):
    with pytest.raises(ValueError, match=names):
        model.burst_time(**arguments)


@pytest.mark.parametrize(
    ("arrivals", "work", "more", "names"),
    [
        ([1.0, 0.0], 1.0, {"threads": 1}, "in order"),
        ([0.0], 0.0, {"threads": 1}, "must be positive"),
        ([0.0], 1.0, {"threads": 0}, "threads=0"),
        ([0.0], 1.0, {"threads": 1, "limit": 0.0}, "limit=0.0"),
        ([0.0], 1.0, {"threads": 1, "burst": -1.0}, "burst=-1.0"),
        ([0.0], 1.0, {"threads": 1, "width": 0}, "width"),
    ],
)
def test_bad_services(arrivals, work, more, names):
    with pytest.raises(ValueError, match=names):
        model.serve(arrivals, work, **more)


def test_more_threads_in_a_burst_hurt_the_others_and_saving_up_helps():
    few = model.latency(model.Service(burst_threads=2), seconds=60)
    many = model.latency(model.Service(burst_threads=16), seconds=60)
    saved = model.latency(model.Service(burst_threads=16), seconds=60, burst=0.2)
    assert many.p99 > 2 * few.p99 and saved.p99 < few.p99 and saved.throttled == 0
    assert model.latency(model.Service(burst_threads=16), seconds=60) == many
    with pytest.raises(ValueError, match="burst_threads=65"):
        model.Service(burst_threads=65)
    with pytest.raises(ValueError, match="rate=0"):
        model.Service(rate=0)


def test_the_decision_names_every_option():
    shown = model.decide(model.Service(rate=50), seconds=20)
    assert [row[0] for row in shown.rows][0] == "as it is" and len(shown.rows) == 6
    assert shown.rows[-1][-1] == "0 %"


def test_shared_layers_are_pulled_once():
    first, second = {"base": 100, "one": 10}, {"base": 100, "two": 20}
    assert model.bytes_pulled([first, second]) == (130, 230)
    assert model.bytes_pulled([]) == (0, 0)
    with pytest.raises(ValueError, match="one content"):
        model.bytes_pulled([{"base": 100}, {"base": 99}])


def test_pulls_follow_the_closed_form():
    shares = model.popularity(20, 1.0)
    totals = model.pull_all(30, shares, base_bytes=100, own_bytes=10, seed=4, runs=400)
    expected = 100 * model.distinct_bases(30, shares) + 30 * 10
    assert totals.mean() == pytest.approx(expected, abs=4 * totals.std() / 20)
    assert model.distinct_bases(0, [1.0]) == 0 and model.distinct_bases(7, [1.0]) == pytest.approx(1)
    assert model.distinct_bases(10, [0.2] * 5) == pytest.approx(5 * (1 - 0.8**10))
    with pytest.raises(ValueError, match="sum to 1"):
        model.distinct_bases(3, [0.5, 0.4])
    with pytest.raises(ValueError, match="bases=0"):
        model.popularity(0)
