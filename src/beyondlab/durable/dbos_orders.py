"""The order on DBOS, a real engine of durable execution, with SQLite: what runs in a process that may be killed.

Every function here is a task for :class:`beyondlab.durable.hosts.Host` and is called in a process of its own, forked
from one that has imported this module. ``database`` is the path of DBOS's SQLite file, ``folder`` that of the
:class:`beyondlab.durable.orders.World`. Nothing here writes to a terminal.

A DBOS process recovers, when it is launched, the unfinished workflows of its own application version. Unless told
otherwise DBOS computes that version from the source of the workflows.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from dbos import DBOS, SetWorkflowID

from beyondlab.durable.on_sqlite import launch
from beyondlab.durable.orders import World

Code = Literal["as it was", "changed", "patched"]

POLL = 0.08
"""Seconds between two looks at the state of a workflow."""


class _Here:
    """What the steps of this process need: set before the launch, never shared, one process a task."""

    reached: Callable[[str, str], Any] = staticmethod(lambda order, point: None)
    folder: str = ""
    broken: tuple[str, ...] = ()


@DBOS.step(name="effect")
def _effect(effect: str, order: str) -> str:
    """One effect. Its idempotency key is the workflow's id and the step's number, as DBOS gives them."""
    broken = _Here.broken if order.startswith("broken") else ()
    key = f"{DBOS.workflow_id}/{DBOS.step_id}"
    receipt = World(_Here.folder, broken=broken).do(effect, key, order)
    _Here.reached(order, f"{effect}: done, not recorded")
    return receipt


@DBOS.workflow(name="order")
def _order(order: str) -> str:
    """Reserve, charge, ship; if one fails, undo what was done."""
    undo: list[str | None] = []
    try:
        for effect, opposite in (("reserve", "release"), ("charge", "refund"), ("ship", None)):
            _effect(effect, order)
            _Here.reached(order, f"{effect}: recorded")
            undo.append(opposite)
    except RuntimeError:
        for opposite in reversed(undo):
            _effect(opposite, order)
            _Here.reached(order, f"{opposite}: recorded")
        return "cancelled"
    return "shipped"


def _wait(order: str, timeout: float = 120.0) -> tuple[str, Any]:
    """Status and result of a workflow, when it has ended."""
    deadline = time.monotonic() + timeout
    while True:
        status = DBOS.get_workflow_status(order)
        if status is not None and status.status not in ("PENDING", "ENQUEUED"):
            return status.status, status.output if status.error is None else repr(status.error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for the workflow {order}: {status}")
        time.sleep(POLL)


def _prepare(folder: str, broken: tuple[str, ...]) -> None:
    _Here.folder, _Here.broken = folder, tuple(broken)


def live(database: str, folder: str, orders: list[str], broken: tuple[str, ...] = ("ship",)) -> dict[str, Any]:
    """Run ``orders`` to their ends. ``results`` and ``points``, where each could have died, by order.

    Orders whose name begins with ``broken`` meet a world in which the effects ``broken`` fail.
    """
    points: dict[str, list[str]] = {order: [] for order in orders}
    _prepare(folder, broken)
    _Here.reached = lambda order, point: points[order].append(point)
    launch("orders", database, "1")
    results = {}
    for order in orders:
        with SetWorkflowID(order):
            results[order] = _order(order)
    return {"results": results, "points": points}


def die(database: str, folder: str, last: dict[str, str], broken: tuple[str, ...] = ("ship",), timeout: float = 120.0) -> None:
    """Start many orders at once; each stops at the point that ``last`` names for it. Then SIGKILL, for all of them.

    Raises TimeoutError if an order does not come to its point within ``timeout`` seconds.
    """
    there = {order: threading.Event() for order in last}

    def reached(order: str, point: str) -> None:
        if point == last[order]:
            there[order].set()
            threading.Event().wait()

    _prepare(folder, broken)
    _Here.reached = reached
    launch("orders", database, "1")
    for order in last:
        with SetWorkflowID(order):
            DBOS.start_workflow(_order, order)
    for order, event in there.items():
        if not event.wait(timeout):
            raise TimeoutError(f"waited {timeout:g} s for {order!r} to come to {last[order]!r}")
    os.kill(os.getpid(), signal.SIGKILL)


def resume(database: str, folder: str, orders: list[str], broken: tuple[str, ...] = ("ship",)) -> dict[str, str]:
    """Do nothing but launch DBOS, which takes up what it finds, and wait for the end of the orders. Results by order."""
    _prepare(folder, broken)
    launch("orders", database, "1")
    return {order: _wait(order)[1] for order in orders}


def _sleeping_workflow(code: Code, seconds: float) -> Callable[[str], str]:
    """The order that waits for a payment, in one of three versions of its code."""

    @DBOS.step(name="reserve")
    def reserve(order: str) -> str:
        return World(_Here.folder).do("reserve", f"{order}/1", order)

    @DBOS.step(name="charge")
    def charge(order: str) -> str:
        return World(_Here.folder).do("charge", f"{order}/2", order)

    @DBOS.step(name="ship")
    def ship(order: str) -> str:
        return World(_Here.folder).do("ship", f"{order}/3", order)

    if code == "as it was":

        @DBOS.workflow(name="patient")
        def patient(order: str) -> str:
            reserve(order)
            DBOS.sleep(seconds)
            charge(order)
            ship(order)
            return "charged, then shipped"

    elif code == "changed":

        @DBOS.workflow(name="patient")
        def patient(order: str) -> str:
            charge(order)
            reserve(order)
            DBOS.sleep(seconds)
            ship(order)
            return "charged first"

    elif code == "patched":

        @DBOS.workflow(name="patient")
        def patient(order: str) -> str:
            if DBOS.patch("charge-first"):
                charge(order)
                reserve(order)
                DBOS.sleep(seconds)
            else:
                reserve(order)
                DBOS.sleep(seconds)
                charge(order)
            ship(order)
            return "charged, then shipped"

    else:
        raise ValueError(f"code={code!r}: allowed are 'as it was', 'changed', 'patched'")
    return patient


def fall_asleep(database: str, folder: str, order: str, seconds: float, version: str | None) -> None:
    """Start the patient order, and die as soon as its sleep is recorded."""
    _Here.folder = folder
    patient = _sleeping_workflow("as it was", seconds)
    launch("orders", database, version)
    with SetWorkflowID(order):
        DBOS.start_workflow(patient, order)
    deadline = time.monotonic() + 60
    while "DBOS.sleep" not in {step["function_name"] for step in DBOS.list_workflow_steps(order)}:
        if time.monotonic() > deadline:
            raise TimeoutError("waited 60 s for the sleep to be recorded")
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGKILL)


def wake_up(
    database: str, folder: str, order: str, seconds: float, version: str | None, code: Code, patience: float = 120.0
) -> dict[str, Any]:
    """What becomes of the sleeping order in a process with this ``code`` and application ``version`` (None: computed).

    ``status`` and ``result``; ``due``, ``awake`` and ``launched`` in seconds since 1970: when the sleep should end, when
    the workflow ended, and when this process was ready. A workflow that stays pending for ``patience`` seconds is given
    as such.
    """
    _Here.folder = folder
    patient = _sleeping_workflow(code, seconds)
    launch("orders", database, version)
    launched = time.time()
    recorded = {step["function_name"]: step for step in DBOS.list_workflow_steps(order)}
    due = recorded["DBOS.sleep"]["output"]
    try:
        status, result = _wait(order, patience)
    except TimeoutError:
        status, result = DBOS.get_workflow_status(order).status, None
    said = {"status": status, "result": result, "due": due, "launched": launched, "awake": time.time()}
    if code == "patched":
        with SetWorkflowID(f"{order}-new"):
            DBOS.start_workflow(patient, f"{order}-new")
        deadline = time.monotonic() + 60
        while len(steps := DBOS.list_workflow_steps(f"{order}-new")) < 2 and time.monotonic() < deadline:
            time.sleep(POLL)
        said["new order begins with"] = steps[1]["function_name"]
    return said
