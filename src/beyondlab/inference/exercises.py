"""The checks of the exercises in "Serverless for machine learning". None is a learner's answer not given yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beyondlab.inference import batching, model, models, protocol
from beyondlab.kit import processes
from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict


def check_download(seconds: float | None) -> Verdict:
    """Exercise 1: seconds that a start saves if a download of 1.2 s runs while 0.9 s of imports run."""
    return check_number(
        seconds,
        0.9,
        unit="s",
        rtol=0.005,
        mistakes=[
            (1.2, "The imports are over after 0.9 s; the rest of the download is waited for."),
            (2.1, "That is the whole wait before; how much of it can go on at the same time?"),
            (0.3, "That is what is still waited for after the imports."),
        ],
        hint="Two things at once take as long as the longer one.",
    )


def check_capacity(requests: float | None) -> Verdict:
    """Exercise 2: requests a second in batches of 16, if a batch of b takes 5 + 0.5 b ms."""
    return check_number(
        requests,
        16 / 0.013,
        unit="a second",
        rtol=0.005,
        mistakes=[
            (1000 / 13, "That is batches a second."),
            (1000 / 5.5, "That is one by one."),
            (16 / 13, "That is in thousands: 13 ms are 0.013 s."),
        ],
        hint="How long does a batch of 16 take, and how many requests are in it?",
    )


def check_read_tensor(read: Callable[[Path, str], Any] | None) -> Verdict:
    """Exercise 3: a function that reads one tensor of a safetensors file."""
    if read is None:
        return check_function(None, [()])
    with processes.scratch("exercise-") as folder:
        path = folder / "small.safetensors"
        numbers = np.arange(10, dtype=np.float32)
        tensors = {"first": numbers[:6].reshape(2, 3), "second": -numbers[:4].reshape(4, 1)}
        models.write_safetensors(path, [(name, "F32", value.shape, [value]) for name, value in tensors.items()])

        def run(name: str) -> Any:
            given = read(path, name)
            return given if given is None else np.asarray(given).tolist()

        run.__name__ = getattr(read, "__name__", "read")
        return check_function(
            run,
            ["first", "second"],
            reference=lambda name: tensors[name].tolist(),
            rtol=1e-6,
            hint="data_offsets count from the end of the header, which begins 8 bytes into the file.",
        )


HANG = {
    "network": "the download goes on in the parent, whose log shows it end.",
    "fork": "functions-framework imports the module, then gunicorn forks its worker, and a fork copies one thread, the "
    "one that calls it. The loading thread stays behind in the parent: in the worker, nobody will ever set the event. "
    "Start the thread in the first request, or load before the fork.",
    "memory": "copy-on-write copies a page when it is written; nothing waits for memory.",
    "port": "the request has reached the worker: it waits inside predict.",
}


def check_hang(answer: str | None) -> Verdict:
    """Exercise 4: why a model that loads in a background thread never gets ready under functions-framework."""
    return check_choice(answer, "fork", HANG)


def check_batcher(run: Callable[[list[float], int, float, float], list[int]] | None) -> Verdict:
    """Exercise 5: sizes of the batches of a batcher that sends off at once whatever waits when the model is free.

    The arguments are the arrivals, the largest size, and a and b of a batch's seconds, a + b * size.
    """

    def reference(arrivals: list[float], size: int, a: float, b: float) -> list[int]:
        return batching.simulate(arrivals, lambda n: a + b * n, size=size, delay=0.0).sizes.tolist()

    cases = [
        ([0.0, 1.0, 2.0], 4, 0.5, 0.0),
        ([0.0, 0.1, 0.2, 0.3], 4, 0.5, 0.0),
        ([0.0, 0.1, 0.2, 0.3, 0.35], 2, 0.5, 0.1),
        ([0.0, 0.0, 0.0], 2, 1.0, 0.0),
        ([0.0, 0.52, 0.58], 4, 0.5, 0.1),
    ]
    hint = "When the model is free: who has come by then, at most `size`?"
    return check_function(run, cases, reference=reference, hint=hint)


def check_notice(requests: float | None) -> Verdict:
    """Exercise 6: seconds until a canary of 5 % at 20 requests a second notices 91 % right falling to 83 %."""
    needed = model.requests_to_notice(0.91, 0.83)
    return check_number(
        requests,
        needed / (0.05 * 20),
        unit="s",
        rtol=0.02,
        mistakes=[
            (needed / 20, "The canary sees 5 % of the requests, not all."),
            (needed / (0.95 * 20), "That is the old version's share."),
            (model.requests_to_notice(0.91, 0.90), "That is for a fall of one point."),
        ],
        hint="model.requests_to_notice(good, bad), divided by what the canary sees in a second.",
    )


def check_break_even(rate: float | None) -> Verdict:
    """Exercise 7: the rate from which one server is cheaper than Lambda for 100 ms at 2 GB."""
    from beyondlab.kit.prices import price

    second, duration = price("inference.server") / 3600, 0.1 * price("lambda.duration-x86")
    request = price("lambda.requests") / 1e6 + 2 * duration
    right = second / request
    return check_number(
        rate,
        right,
        unit="a second",
        rtol=0.01,
        mistakes=[
            (right * 3600, "That is an hour."),
            (second / (2 * duration), "The price of the request itself is missing."),
            (second / (request - duration), "Lambda bills GB-seconds: 2 GB count twice."),
        ],
        hint="What does the server cost a second, and what does one request cost on Lambda?",
    )


def check_split(choose: Callable[[dict[str, float], float], Any] | None) -> Verdict:
    """Exercise 8: a version by a split in percent and a number from 0 to 1."""

    def reference(traffic: dict[str, float], draw: float) -> str:
        edge = 0.0
        for version, percent in traffic.items():
            edge += percent / 100
            if draw < edge:
                return version
        return list(traffic)[-1]

    tenth = {"1": 90, "2": 10}
    cases = [(tenth, 0.0), (tenth, 0.89), (tenth, 0.95), ({"1": 0, "2": 100}, 0.0),
             ({"a": 50, "b": 25, "c": 25}, 0.6), ({"a": 50, "b": 25, "c": 25}, 0.999)]  # fmt: skip
    hint = "Add up the percentages until they exceed the number."
    return check_function(choose, cases, reference=reference, hint=hint)


def check_decoder(decode: Callable[[dict[str, Any]], Any] | None) -> Verdict:
    """A decoder of one tensor of the protocol's JSON: data flat or nested, in the shape given."""
    if decode is None:
        return check_function(None, [()])
    cases = [
        {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
        {"name": "x", "shape": [2, 2], "datatype": "INT64", "data": [[1, 2], [3, 4]]},
        {"name": "x", "shape": [3], "datatype": "BOOL", "data": [True, False, True]},
    ]
    for case in cases:
        try:
            given = decode(dict(case))
        except Exception as error:
            return verdict(False, f"{case} raised {type(error).__name__}: {error}")
        wanted = np.array(case["data"], protocol.DATATYPES[case["datatype"]]).reshape(case["shape"])
        if not isinstance(given, np.ndarray) or given.shape != wanted.shape or given.dtype != wanted.dtype:
            return verdict(False, f"{case} gave {given!r}; wanted an array of {wanted.dtype} and shape {wanted.shape}.")
        if not np.array_equal(given, wanted):
            return verdict(False, f"{case} gave {given.tolist()}, wanted {wanted.tolist()}.")
    return verdict(True, f"Right, on all {len(cases)} tensors.")
