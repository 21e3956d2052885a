"""Order and event are both there or both not, wherever the process is killed; an effect happens once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.events import outbox


def test_an_order_and_its_event(tmp_path):
    with outbox.database(tmp_path / "shop.db") as db:
        outbox.write_order_and_event(db, 1, {"order": 1})
        assert outbox.orders(db) == [1] and outbox.waiting(db) == [(1, {"order": 1})]
        outbox.mark_sent(db, 1)
        assert outbox.waiting(db) == []
        with pytest.raises(Exception, match="UNIQUE"):
            outbox.write_order_and_event(db, 1, {})
        assert outbox.waiting(db) == [], "a transaction that fails leaves no event"


@pytest.mark.parametrize(("statement", "rows"), [("insert into orders", 0), ("insert into outbox", 0), ("commit", 0), ("never", 1)])
def test_killed_at_any_statement(tmp_path, statement, rows):
    code = f"""
import os, signal
from beyondlab.events import outbox
with outbox.database({str(tmp_path / "shop.db")!r}) as db:
    db.set_trace_callback(lambda text: text.startswith({statement!r}) and os.kill(os.getpid(), signal.SIGKILL))
    outbox.write_order_and_event(db, 1, {{}})
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, env=os.environ).returncode
    assert ended == (0 if statement == "never" else -signal.SIGKILL)
    with outbox.database(tmp_path / "shop.db") as db:
        assert (len(outbox.orders(db)), len(outbox.waiting(db))) == (rows, rows)


@given(st.lists(st.sampled_from("abcd"), max_size=20))
def test_once(events):
    with outbox.database(":memory:") as db:
        fresh = [outbox.once(db, event, lambda event=event: outbox.effect(db, event, 0.0)) for event in events]
        assert [event for event, _, _ in outbox.effects(db)] == list(dict.fromkeys(events))
        assert sum(fresh) == len(set(events))


def test_an_effect_that_fails_leaves_no_note(tmp_path):
    with outbox.database(tmp_path / "c.db") as db:
        with pytest.raises(ZeroDivisionError):
            outbox.once(db, "a", lambda: 1 / 0)
        assert outbox.once(db, "a", lambda: outbox.effect(db, "a", 0.0))
        assert not outbox.once(db, "a", lambda: 1 / 0)
        assert len(outbox.effects(db)) == 1
