"""The labs, driven for real: processes killed, DBOS, NATS, MQTT, workerd. Nothing may be left."""

from __future__ import annotations

import itertools
import os
import time

import pytest

pytest.importorskip("dbos")

from beyondlab.durable import crashes, durable_objects, entities, lab, orders, processor, replay, sensors
from beyondlab.durable.hosts import Host, TaskError
from beyondlab.kit import nats, processes

NEEDS_WORKERD = pytest.mark.skipif(
    bool(durable_objects.missing()) and os.environ.get("CI") != "true", reason="workerd is not installed: npm install --prefix .cache/node workerd"
)


@pytest.fixture(scope="module")
def host():
    yield lab.host()
    lab._host().stop()
    assert processes.carriers(processes.owner_token()) == []


def pid(value=None):
    return [os.getpid(), value]


def die(number):
    os.kill(os.getpid(), number)


def fail():
    raise LookupError("no such order")


def test_each_task_has_a_process_of_its_own(host):
    first, second = host.run(pid, "x"), host.run(pid)
    assert first.value == [first.pid, "x"] and not first.killed
    assert len({first.pid, second.pid, os.getpid()}) == 3


def test_a_killed_task_is_told_from_one_that_raised(host):
    assert host.run(die, 9).signal == 9
    with pytest.raises(TaskError, match="no such order"):
        host.run(fail)


def test_functions_of_a_notebook_travel_by_value(host):
    namespace = {"__name__": "__main__"}
    exec("def twice(x):\n    return 2 * helper(x)\ndef helper(x):\n    return x + 1", namespace)
    assert host.run(namespace["twice"], 20).value == 42


def test_a_host_that_does_not_run_says_so():
    with pytest.raises(RuntimeError, match="with block"):
        Host().run(pid)


def test_a_task_that_takes_too_long_is_reported(host):
    with pytest.raises(TimeoutError, match="0.2 s for sleep"):
        host.run(time.sleep, 1.5, timeout=0.2)


def test_our_engine_killed_at_every_point(host):
    found = lab.kill_ours(replay.run, orders.order_workflow)
    assert found["orders killed"] == found["finished as they should"] == 32
    assert found["an effect twice, without a key"] == 7 and found["an effect twice, with a key"] == 0
    assert found["every effect once, with a key"]


def test_dbos_killed_at_every_point_agrees_with_ours(host):
    found = lab.kill_dbos()
    assert found["orders killed"] == found["finished as they should"] == 14
    duplicates = [lab.crash_of(row) for row in [*found["shipped"], *found["cancelled"]]]
    assert {c.point for c in duplicates if c.duplicates} == {f"{e}: done, not recorded" for e in orders.EFFECTS}
    assert found["every effect once, with a key"]


def test_dbos_order_one_by_one_in_another_process(host, tmp_path):
    """The survey kills fourteen orders with one signal; here one order, and the processes are told apart."""
    from beyondlab.durable import dbos_orders

    database, world = str(tmp_path / "dbos.sqlite"), str(tmp_path / "world")
    first = host.run(dbos_orders.die, database, world, {"good": "charge: recorded"})
    assert first.killed
    second = host.run(dbos_orders.resume, database, world, ["good"])
    assert second.value == {"good": "shipped"}
    by = {entry["effect"]: entry["pid"] for entry in orders.World(world).entries("attempts")}
    assert by == {"reserve": first.pid, "charge": first.pid, "ship": second.pid}


def test_a_timer_survives_and_changed_code_is_noticed(host):
    found = lab.wake()
    assert found["slept with a death between, s"] >= lab.SLEEP - 0.05
    assert found["of that after the restart, s"] < lab.SLEEP - 0.1
    assert found["the same code"] == found["patched, the same version"] == "SUCCESS: charged, then shipped"
    assert found["changed code"] == "PENDING"
    assert found["changed, called the same version"] == "ERROR: DBOSUnexpectedStepError"
    assert found["a new order, patched, begins with"] == "charge"


async def plain(store, key):
    entry = await store.get(key)
    await store.put(key, b"%d" % (int(entry.value) + 1))


async def compare_and_set(store, key):
    from nats.js.errors import KeyWrongLastSequenceError

    for attempt in itertools.count(1):
        entry = await store.get(key)
        try:
            await store.update(key, b"%d" % (int(entry.value) + 1), last=entry.revision)
            return attempt
        except KeyWrongLastSequenceError:
            continue


def test_64_writers_lose_updates_unless_one_writes_or_the_store_compares():
    found = lab.count({"plain": plain, "compared": compare_and_set}, writers=64, each=1)
    assert found["plain"] < 0.5 * found["increments"]
    assert found["compared"] == found["entity"] == found["increments"] == 64
    assert found["increments"] < found["compared: attempts"] <= 2 * 2_080


def test_a_second_activation_is_fenced():
    async def main(server):
        async with server.connect() as home, server.connect() as away, entities.Counters(home) as first:
            await first._store.put("zombie", b"0")
            await home.request(f"{entities.SUBJECT}.zombie", b"1", timeout=30)
            store = await entities.bucket(away)
            entry = await store.get("zombie")
            await store.update("zombie", b"500", last=entry.revision)
            answer = await home.request(f"{entities.SUBJECT}.zombie", b"1", timeout=30)
            return int(answer.data), await entities.value(store, "zombie"), first.fenced

    with nats.Server() as server:
        assert nats.run(main(server)) == (501, 501, 1)


def test_entities_of_different_keys_do_not_mix():
    async def main(server):
        async with server.connect() as client, entities.Counters(client) as counters:
            for key, times in (("a", 3), ("b", 2)):
                for _ in range(times):
                    await client.request(f"{entities.SUBJECT}.{key}", b"2", timeout=30)
            return [await entities.value(counters._store, key) for key in "ab"]

    with nats.Server() as server:
        assert nats.run(main(server)) == [6, 4]


@pytest.mark.parametrize(("writers", "each", "complaint"), [(0, 1, "writers=0"), (1, 0, "each=0")])
def test_no_writer_no_counter(writers, each, complaint):
    with pytest.raises(ValueError, match=complaint):
        entities.concurrently(None, plain, key="x", writers=writers, each=each)


def test_the_processor_killed_comes_to_the_same_windows(host):
    found = lab.stream(sensors.readings(120, seconds=20, seed=3), every=90)
    assert found["never killed, as in memory"] and found["killed twice, as never killed"]
    assert found["results, killed twice"] == found["results computed in memory"]
    assert found["computed again and dropped by name"] > 0
    assert found["duplicates, results without a name"] > 0 and found["wrong, state in memory only"] > 0


def test_a_processor_that_only_seemed_dead_cannot_write(monkeypatch):
    """Between its reading of the checkpoint and its writing, a successor has written one: it is refused."""
    from nats.js.errors import KeyWrongLastSequenceError
    from nats.js.kv import KeyValue

    real = KeyValue.update

    async def overtaken(self, key, value, last=None, **options):
        await real(self, key, b'{"position": 0, "windows": {}}', last=last)
        return await real(self, key, value, last=last, **options)

    with nats.Server(mqtt=True) as server:
        nats.run(processor.prepare(server))
        last = processor.publish(server, sensors.readings(20, seconds=10, seed=4))
        monkeypatch.setattr(KeyValue, "update", overtaken)
        with pytest.raises(KeyWrongLastSequenceError):
            processor.work(server.url, "job", last=last)


def test_replay_time_grows_with_the_history():
    found = lab.replay_times((200, 4_000), repetitions=3)
    assert found["4,000 steps"].value > 4 * found["200 steps"].value


@NEEDS_WORKERD
def test_durable_objects_killed_at_every_point():
    found = lab.kill_workerd()
    assert found["orders killed"] == found["finished as they should"] == 14
    assert found["an effect twice, without a key"] == 7 and found["every effect once, with a key"]


@NEEDS_WORKERD
def test_a_durable_object_counts_right_and_survives():
    found = lab.count_workerd(writers=16, each=2)
    assert found == {"increments": 32, "Durable Object, after SIGKILL": 32}


def test_workerd_is_looked_for_where_the_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv(durable_objects.VARIABLE, str(tmp_path / "nowhere"))
    assert durable_objects.program() is None and "npm install" in durable_objects.missing()


def test_sensors_are_seeded_and_checked():
    assert sensors.readings(10, seconds=5, seed=1) == sensors.readings(10, seconds=5, seed=1)
    found = sensors.readings(30, seconds=30, late_share=0.0)
    assert all(0 <= reading.arrival - reading.time <= 2_000 for reading in found)
    assert [r.arrival for r in found] == sorted(r.arrival for r in found)
    with pytest.raises(ValueError, match="late_share=2"):
        sensors.readings(late_share=2)
    with pytest.raises(ValueError, match="sensors=0"):
        sensors.readings(0)


def test_a_survey_refuses_a_process_that_lives(host, tmp_path):
    with pytest.raises(RuntimeError, match="was not killed"):
        crashes.survey(lambda place, number: {"result": 1, "points": []}, lambda place: None, ["only"], tmp_path, host=host)
