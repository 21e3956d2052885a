"""A real HTTP server whose service time is known: ``python -m beyondlab.measuring.server WORKERS``.

It runs on Tornado, on a loopback port that the system chooses and that it prints. ``GET /work?seconds=S`` waits its turn
(first come, first served, WORKERS at once), is in service for S seconds, and answers with the seconds it waited and the
seconds it was served. ``GET /stall?seconds=S`` takes every worker for S seconds, as a garbage collection or a slow disk
does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

LISTENS = re.compile(r"listening on port (\d+)\.")
"""What the server prints when it can be called. The stop at the end tells a whole port from the beginning of one."""


class _Handler(RequestHandler):
    def initialize(self, turn: asyncio.Semaphore, workers: int) -> None:
        self.turn, self.workers = turn, workers

    def seconds(self) -> float:
        try:
            seconds = float(self.get_query_argument("seconds"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= 60:
            raise HTTPError(400, "seconds must be a number from 0 to 60")
        return seconds

    def done(self, waited: float, served: float) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"waited": waited, "served": served}))


class Work(_Handler):
    async def get(self) -> None:
        seconds, arrived = self.seconds(), time.perf_counter()
        async with self.turn:
            begun = time.perf_counter()
            await asyncio.sleep(seconds)
            ended = time.perf_counter()
        self.done(begun - arrived, ended - begun)


class Stall(_Handler):
    async def get(self) -> None:
        seconds, arrived = self.seconds(), time.perf_counter()
        for _ in range(self.workers):
            await self.turn.acquire()
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        for _ in range(self.workers):
            self.turn.release()
        self.done(begun - arrived, time.perf_counter() - begun)


async def serve(workers: int) -> None:
    """Serve until the process is stopped."""
    state = {"turn": asyncio.Semaphore(workers), "workers": workers}
    server = HTTPServer(Application([("/work", Work, state), ("/stall", Stall, state)]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(f"listening on port {sockets[0].getsockname()[1]}.", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
