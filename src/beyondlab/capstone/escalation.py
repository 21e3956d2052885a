"""Durable execution for the live version: an alert is a workflow of DBOS, on SQLite, resumed by the next process.

The workflow's id is the reading's number, so a reading that is delivered again finds the workflow that it began. Its one
step sends the alert, at least once: the alert carries the same id, and the broker drops its repetition.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

from dbos import DBOS, SetWorkflowID

from beyondlab.durable import on_sqlite

PATIENCE = 30.0
"""Seconds that one alert may take."""


class _Here:
    """What a step of this process calls; set before the launch."""

    send: Callable[[int], Future[None]]


@DBOS.step(name="send")
def _send(number: int) -> None:
    _Here.send(number).result(PATIENCE)


@DBOS.workflow(name="alert")
def _alert(number: int) -> None:
    _send(number)


def launch(database: str, send: Callable[[int], Awaitable[None]]) -> None:
    """Start DBOS, which takes up the alerts that it finds unfinished. ``send`` runs on the loop that calls this."""
    loop = asyncio.get_running_loop()
    _Here.send = lambda number: asyncio.run_coroutine_threadsafe(send(number), loop)
    on_sqlite.launch("alerts", database, "1")


async def alert(number: int) -> None:
    """The alert of a reading, done or taken up; returns when it is done."""

    def run() -> None:
        with SetWorkflowID(str(number)):
            DBOS.start_workflow(_alert, number).get_result()

    await asyncio.to_thread(run)
