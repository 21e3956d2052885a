"""The checks of the exercises in "Firecracker and microVMs". None is a learner's answer not given yet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from beyondlab.kit.exercises import Verdict, check_choice, check_function, check_number, verdict
from beyondlab.microvms import guests, model, openapi
from beyondlab.microvms.cpu import BadInstruction, Cpu

_STEPS = 10_000


def check_countdown(code: bytes | None) -> Verdict:
    """Exercise 1: machine code that writes 3, 2, 1 and a line end to the serial port, and halts."""
    if code is None:
        return verdict(False, "Not answered yet: replace None with the bytes of your guest.")
    if not isinstance(code, (bytes, bytearray)):
        return verdict(False, f"Bytes are wanted, such as bytes.fromhex('f4'); this is {code!r}.")
    cpu = Cpu(bytearray(1 << 20))
    cpu.memory[guests.ORIGIN : guests.ORIGIN + len(code)] = code
    cpu.set_registers([0] * 8, [0] * 4, guests.ORIGIN, 2)
    said = bytearray()
    try:
        while cpu.executed < _STEPS:
            left = cpu.run(_STEPS - cpu.executed)
            if left.kind == "halt":
                break
            if left.kind == "out" and left.port == guests.SERIAL:
                said.append(left.value)
            elif left.kind == "out":
                return verdict(False, f"Not yet: it writes to port {left.port:#x}; the serial line is {guests.SERIAL:#x}.")
        else:
            return verdict(False, f"Not yet: after {_STEPS:,} instructions it had not halted; it said {bytes(said[:12])!r}.")
    except BadInstruction as error:
        return verdict(False, f"Not yet: {error}. It had said {bytes(said)!r}.")
    if bytes(said) != b"321\n":
        return verdict(False, f"Not yet: it says {bytes(said)!r}, wanted b'321\\n'.")
    return verdict(True, f"Right: b'321\\n' from {len(code)} bytes of machine code, in {cpu.executed} instructions.")


def check_clone_memory(kib: float | None) -> Verdict:
    """Exercise 2: KiB that a clone has to itself after 200 random writes to 128 pages of 4 KiB."""
    pages = model.distinct_pages(200, 128)
    return check_number(
        kib,
        4 * pages,
        unit="KiB",
        rtol=0.01,
        mistakes=[
            (pages, "That is in pages; each has 4 KiB."),
            (800.0, "That would be 200 different pages; some are written twice, and there are only 128."),
            (512.0, "That is all 128 pages; some are not hit."),
            (4 * (128 - pages), "Those are the pages that stay shared."),
        ],
        hint="A page stays untouched with probability (1 - 1/128)**200.",
    )


def check_transfer(seconds: float | None) -> Verdict:
    """Exercise 3: seconds for 30 MB through a bucket of 10 MB that refills in 1,000 ms, with a burst of 5 MB."""
    return check_number(
        seconds,
        model.transfer_time(30e6, 10e6, 1_000, 5e6),
        unit="s",
        rtol=0.005,
        mistakes=[
            (3.0, "The first 15 MB pass at once: the full bucket and the burst."),
            (2.0, "The burst of 5 MB comes on top of the full bucket."),
            (2.5, "The bucket is full at the start."),
        ],
        hint="What is left after the burst and the full bucket passes at 10 MB a second.",
    )


def check_burst(seconds: float | None) -> Verdict:
    """Exercise 4: seconds until the last of 2,000 microVMs is up, on 36 cores of 5 starts a second."""
    return check_number(
        seconds,
        model.burst_time(2_000, 36),
        unit="s",
        rtol=0.015,
        mistakes=[(400.0, "That is one core's time; there are 36."), (56.0, "Each core starts 5 a second, not one."), (2_000 / 5, "All 36 cores work.")],
        hint="How many does each core have to start, and how long does one take?",
    )


def check_renewal(token: Callable[..., Any] | None) -> Verdict:
    """Exercise 5: ``token(state, generation, entropy)`` returns the next number and renews the seed after a restore.

    ``state`` is a dict with ``seed`` and ``generation``, which the function changes.
    """
    if token is None or not callable(token):
        return verdict(False, "Not answered yet: write the function.")

    def run(*visits: int) -> list[int]:
        state = {"seed": 42, "generation": 1}
        words = itertools.count(1000)
        return [token(state, generation, lambda: next(words)) for generation in visits]

    def reference(*visits: int) -> list[int]:
        seed, known, words, answers = 42, 1, itertools.count(1000), []
        for generation in visits:
            if generation != known:
                seed, known = next(words), generation
            seed = (seed * 25173 + 13849) % 65536
            answers.append(seed)
        return answers

    run.__name__ = "tokens_in_generations"
    return check_function(
        run, [(1, 1, 1), (2,), (1, 1, 2, 2), (1, 2, 3)], reference=reference,
        hint="The arguments shown are the generations at each call; entropy() gives 1000, 1001, ... Draw only when the generation is new.",
    )  # fmt: skip


def check_request(body: dict[str, Any] | None) -> Verdict:
    """Exercise 6: the body of a PUT /drives/logs that Firecracker's document accepts, limited to 20 MB/s."""
    if body is None:
        return verdict(False, "Not answered yet: replace None with the repaired body.")
    if not isinstance(body, dict):
        return verdict(False, f"A dict is wanted; this is {body!r}.")
    found = openapi.operation("PUT", "/drives/logs")
    try:
        openapi.check(body, openapi.body_schema(found[1]))
    except openapi.Invalid as error:
        return verdict(False, f"Not yet: {error}.")
    if body["drive_id"] != "logs":
        return verdict(False, f"Not yet: the path says logs, the body {body['drive_id']!r}.")
    bucket = body.get("rate_limiter", {}).get("bandwidth")
    if bucket is None:
        return verdict(False, "Not yet: bytes are limited by the bucket called bandwidth.")
    if not bucket["refill_time"] or not bucket["size"]:
        return verdict(False, "Not yet: a zero switches the limit off.")
    rate = model.effective_rate(bucket["size"], bucket["refill_time"])
    if abs(rate / 20e6 - 1) > 0.01:
        return verdict(False, f"Not yet: a greedy guest gets {rate / 1e6:g} MB/s of it, wanted 20. refill_time is in milliseconds.")
    return verdict(True, f"Right: {bucket['size']:,} bytes in {bucket['refill_time']} ms are 20 MB/s.")


def check_wall(answer: str | None) -> Verdict:
    """Exercise 7: customers upload Linux programs of any kind, and want them started in under 50 ms."""
    return check_choice(
        answer,
        "microVM from a snapshot",
        {
            "namespaces": "they share the host's kernel and may call all of it; a bug in any of its calls is the way out.",
            "gVisor": "it runs them and is used against hostile code; but here it takes over 100 ms to start.",
            "Wasm": "fast and strict, but programs must be compiled for it: uploaded Linux programs do not run.",
            "microVM, booted": "strong enough, and runs everything; a boot of 125 ms is too slow.",
            "microVM from a snapshot": "hardware between the guests, any program, and a restore instead of a boot.",
        },
    )
