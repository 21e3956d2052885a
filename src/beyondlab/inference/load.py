"""An open-loop load generator for one HTTP path: requests go out at their own times, answered or not.

It runs on a thread with an asyncio loop of its own, so that it works inside a notebook, over kept-alive connections,
with requests made beforehand. Its own time is part of what it measures: on two cores it competes with the server.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """What came back, in the order of the requests. Times in seconds; ``documents`` are the decoded JSON bodies."""

    due: NDArray[np.float64]
    response: NDArray[np.float64]
    """From the moment a request was due to its answer: a late generator is part of it."""
    documents: list[Any]

    @property
    def throughput(self) -> float:
        """Answers a second, from the first request to the last answer."""
        return self.due.size / float((self.due + self.response).max() - self.due[0])

    def percentile(self, which: float) -> float:
        """A percentile of the response time."""
        return float(np.percentile(self.response, which))


def replay(url: str, due: Sequence[float], bodies: Sequence[bytes], *, timeout: float = 30.0) -> Answers:
    """POST ``bodies[i]`` at second ``due[i]`` from now, whether or not earlier ones are answered.

    Raises ValueError if the two do not fit, TimeoutError after ``timeout`` seconds beyond the last one due, and
    RuntimeError for an answer that is not 200.
    """
    times = np.asarray(due, float)
    if times.ndim != 1 or times.size != len(bodies) or not times.size or (np.diff(times) < 0).any() or times[0] < 0:
        raise ValueError(f"due: needs a sorted time for each of {len(bodies)} bodies, none negative; {times.shape}")
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(asyncio.run(asyncio.wait_for(_replay(url, times, bodies), float(times[-1]) + timeout)))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


async def _replay(url: str, due: NDArray[np.float64], bodies: Sequence[bytes]) -> Answers:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    messages = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    ended, texts = np.empty_like(due), [b""] * len(bodies)
    begin = time.perf_counter() + 0.02

    async def one(number: int) -> None:
        await asyncio.sleep(max(0.0, begin + due[number] - time.perf_counter()))
        reader, writer = idle.pop() if idle else await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(messages[number])
        header = await reader.readuntil(b"\r\n\r\n")
        if not header.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"request {number} was answered {header.splitlines()[0].decode()!r}")
        low = header.lower()
        length = int(low.split(b"content-length:")[1].split(b"\r\n")[0])
        texts[number] = await reader.readexactly(length)
        ended[number] = time.perf_counter() - begin
        idle.append((reader, writer))

    try:
        await asyncio.gather(*(one(number) for number in range(due.size)))
    finally:
        for _, writer in idle:
            writer.close()
    return Answers(due, ended - due, [json.loads(text) for text in texts])
