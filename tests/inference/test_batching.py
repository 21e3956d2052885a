"""The batcher: model, closed forms, and the real one for asyncio against its model."""

import asyncio
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab import sim
from beyondlab.inference import batching


def affine(size):
    return 0.005 + 0.0005 * size


# What Triton's user guide says of its dynamic batcher ("Batchers", Dynamic Batcher, Delayed Batching), as cases:
# arrivals, size, delay, and (sizes, starts) with a batch that always takes 1 s.
GUIDE = [
    ([0.0, 0.0, 0.0], 4, 0.0, [3], [0.0]),  # "as large as possible", without delay
    ([0.0, 0.1, 0.2], 4, 0.0, [1, 2], [0.0, 1.0]),  # while the model is busy, requests join the next batch
    ([0.0, 0.1, 0.2], 4, 0.5, [3], [0.5]),  # delayed in the hope of more, at most the delay of the oldest
    ([0.0, 0.1, 0.2], 2, 0.5, [2, 1], [0.1, 1.1]),  # a full batch goes at once; the rest has waited long enough
    ([0.0, 5.0], 2, 0.5, [1, 1], [0.5, 5.5]),  # a lone request pays the delay for nothing
]


@pytest.mark.parametrize(("arrivals", "size", "delay", "sizes", "starts"), GUIDE)
def test_the_policy_of_the_guide(arrivals, size, delay, sizes, starts):
    found = batching.simulate(arrivals, lambda _: 1.0, size=size, delay=delay)
    assert found.sizes.tolist() == sizes
    assert np.unique(found.start).tolist() == pytest.approx(starts)


@given(
    st.lists(st.floats(0, 0.05), min_size=1, max_size=80),
    st.integers(1, 8),
    st.floats(0, 0.02),
)
def test_no_policy_breaks_these(gaps, size, delay):
    arrivals = np.cumsum(gaps)
    found = batching.simulate(arrivals, affine, size=size, delay=delay)
    assert found.sizes.sum() == len(arrivals) and found.sizes.max() <= size
    assert (found.start >= arrivals - 1e-12).all()
    starts, ends = np.unique(found.start), np.unique(found.end)
    assert (starts[1:] >= ends[: len(starts) - 1] - 1e-9).all(), "one batch at a time"
    free = np.concatenate([[0.0], found.end[:-1]])
    assert (found.start <= np.maximum(arrivals + delay, np.maximum.accumulate(free)) + 1e-9).all(), "nobody waits without reason"


def test_one_by_one_is_the_queue_of_pollaczek_and_khinchine():
    due = sim.poisson(120.0, count=100_000, seed=5)
    found = batching.simulate(due, affine, size=1, delay=0)
    assert (found.start - found.arrival).mean() == pytest.approx(sim.pollaczek_khinchine(120.0, affine(1), cv=0), rel=0.04)
    assert np.allclose(found.start, sim.queue(due, affine(1)).start)


def test_no_batcher_beats_its_capacity():
    due = np.zeros(1_600)
    found = batching.simulate(due, affine, size=16, delay=0)
    assert found.throughput == pytest.approx(batching.capacity(affine, 16)) and found.mean_size == 16


def test_a_delay_costs_a_lone_request_itself():
    due = np.arange(50) * 1.0
    slow, quick = (batching.simulate(due, affine, size=8, delay=delay).percentile(50) for delay in (0.02, 0.0))
    assert slow - quick == pytest.approx(0.02)


@pytest.mark.parametrize(("name", "arguments"), [
    ("size", {"size": 0, "delay": 0.0}), ("size", {"size": True, "delay": 0.0}), ("delay", {"size": 1, "delay": -1.0}),
    ("delay", {"size": 1, "delay": float("nan")}),
])  # fmt: skip
def test_limits_are_checked(name, arguments):
    with pytest.raises(ValueError, match=name):
        batching.simulate([0.0], affine, **arguments)
    with pytest.raises(ValueError, match=name):
        batching.Batcher(list, **arguments)


@pytest.mark.parametrize("arrivals", [[], [1.0, 0.0], [[0.0]], [float("nan")]])
def test_arrivals_are_checked(arrivals):
    with pytest.raises(ValueError, match="arrivals"):
        batching.simulate(arrivals, affine, size=1, delay=0)


def test_a_curve_goes_through_its_points_and_a_fit_finds_the_line():
    curve = batching.curve([1, 2, 4], [0.01, 0.012, 0.02])
    assert [curve(1), curve(2), curve(3), curve(8)] == pytest.approx([0.01, 0.012, 0.016, 0.036])
    fitted = batching.fit([1, 2, 8, 16], [affine(n) for n in (1, 2, 8, 16)])
    assert [fitted(4), fitted(32)] == pytest.approx([affine(4), affine(32)])
    scattered = batching.resampled([1, 1, 2, 2], [0.01, 0.03, 0.02, 0.06], seed=3)
    drawn = {round(scattered(1) / fitted_mean, 6) for fitted_mean in [batching.fit([1, 1, 2, 2], [0.01, 0.03, 0.02, 0.06])(1)] for _ in range(50)}
    assert drawn == {0.5, 1.5}
    for bad in (([1], [0.1]), ([2, 1], [0.1, 0.2]), ([1, 2], [0.1, 0.0])):
        with pytest.raises(ValueError, match="sizes"):
            batching.curve(*bad)
    with pytest.raises(ValueError, match="sizes"):
        batching.fit([], [])


def drive(size, delay, gaps, seconds):
    """What the real batcher does with requests that come after these gaps."""

    def run(items):
        time.sleep(seconds)
        return [10 * item for item in items]

    async def main():
        batcher = batching.Batcher(run, size=size, delay=delay)

        async def one(number, gap):
            await asyncio.sleep(gap)
            return await batcher.infer(number)

        answers = await asyncio.gather(*(one(i, gap) for i, gap in enumerate(np.cumsum(gaps))))
        await batcher.close()
        return answers

    return asyncio.run(main())


@pytest.mark.parametrize(("size", "delay", "gaps", "sizes"), [
    (4, 0.0, [0, 0, 0, 0], [4]), (2, 0.0, [0, 0, 0, 0], [2, 2]), (4, 0.3, [0, 0.05, 0.05], [3]), (4, 0.0, [0, 0.1, 0.1], [1, 2]),
])  # fmt: skip
def test_the_real_one_does_what_the_model_says(size, delay, gaps, sizes):
    answers = drive(size, delay, gaps, seconds=0.4)
    assert [output for output, _ in answers] == [10 * i for i in range(len(gaps))]
    assert [batch.size for batch in {b.number: b for _, b in answers}.values()] == sizes
    modelled = batching.simulate(np.cumsum(gaps), lambda _: 0.4, size=size, delay=delay)
    assert modelled.sizes.tolist() == sizes


def test_an_error_reaches_every_request_of_the_batch_and_the_next_ones_go_on():
    async def main():
        def run(items):
            if 13 in items:
                raise ZeroDivisionError("unlucky")
            return items

        batcher = batching.Batcher(run, size=2, delay=0.2)
        bad = await asyncio.gather(batcher.infer(13), batcher.infer(1), return_exceptions=True)
        good = await batcher.infer(2)
        await batcher.close()
        return bad, good[0]

    bad, good = asyncio.run(main())
    assert all(isinstance(error, ZeroDivisionError) for error in bad) and good == 2


def test_a_run_that_loses_an_answer_is_an_error():
    async def main():
        batcher = batching.Batcher(lambda items: items[:-1], size=1, delay=0.0)
        with pytest.raises(RuntimeError, match="0 outputs for 1"):
            await batcher.infer(1)
        await batcher.close()

    asyncio.run(main())
