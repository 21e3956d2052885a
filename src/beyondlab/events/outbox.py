"""The outbox: an order and the event that tells of it are written in one transaction; a relay publishes later.

A dual write, to a database and to a broker, has a moment between its two halves. The outbox moves the second half into
the database, where it cannot be lost, and lets the relay repeat it until the broker has acknowledged.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
create table if not exists orders (id integer primary key);
create table if not exists outbox (id integer primary key, event text not null, sent integer not null default 0);
create table if not exists done (event text primary key);
create table if not exists effects (event text not null, age real not null, at real not null);
"""


@contextmanager
def database(path: str | Path) -> Iterator[sqlite3.Connection]:
    """The service's database: tables ``orders`` and ``outbox``; a consumer's: ``effects`` and ``done``."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = off")
        connection.executescript(SCHEMA)
        yield connection
    finally:
        connection.close()


def write_order(db: sqlite3.Connection, number: int) -> None:
    """The order alone: the first half of a dual write."""
    db.execute("insert into orders values (?)", (number,))


def write_order_and_event(db: sqlite3.Connection, number: int, event: Any) -> None:
    """The order and its event in one transaction: both, or neither."""
    with transaction(db):
        db.execute("insert into orders values (?)", (number,))
        db.execute("insert into outbox (id, event) values (?, ?)", (number, json.dumps(event)))


def waiting(db: sqlite3.Connection) -> list[tuple[int, Any]]:
    """Events that the broker has not acknowledged, in order: number and event."""
    rows = db.execute("select id, event from outbox where sent = 0 order by id").fetchall()
    return [(number, json.loads(text)) for number, text in rows]


def mark_sent(db: sqlite3.Connection, number: int) -> None:
    """The broker has acknowledged the event."""
    db.execute("update outbox set sent = 1 where id = ?", (number,))


def orders(db: sqlite3.Connection) -> list[int]:
    """Numbers of the orders there are."""
    return [number for (number,) in db.execute("select id from orders order by id")]


def effect(db: sqlite3.Connection, event: str, age: float) -> None:
    """What a consumer does for an event: a row. ``age``: seconds since the event."""
    db.execute("insert into effects values (?, ?, ?)", (event, age, time.time()))


def effects(db: sqlite3.Connection) -> list[tuple[str, float, float]]:
    """All effects in the order in which they happened: event, its age, and when (seconds since the epoch)."""
    return db.execute("select event, age, at from effects order by rowid").fetchall()


def once(db: sqlite3.Connection, event: str, effect: Callable[[], object]) -> bool:
    """Do ``effect`` in one transaction with the note that ``event`` was seen. False, and nothing happens, if it was.

    Exactly once as far as the effect is part of the same database. What ``effect`` does elsewhere is not undone.
    """
    with transaction(db):
        fresh = db.execute("insert or ignore into done values (?)", (event,)).rowcount == 1
        if fresh:
            effect()
    return fresh


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, also when the process is killed in between."""
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.execute("rollback")
        raise
    db.execute("commit")
