"""The replay engine: every crash point, every pair of crash points, torn logs, and durabletask's own cases."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beyondlab.durable import orders, replay
from beyondlab.durable.orders import CANCELLED, HAPPY, CrashAt, Killed, World, order_workflow, raise_killed
from beyondlab.durable.replay import ActivityFailed, ContinueAsNew, Log, NonDeterminism, Replay, run, run_generations

WORLDS = {"shipped": ((), HAPPY, 12), "cancelled": (("ship",), CANCELLED, 20)}


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """No test here pulls the plug of a disk: without fsync, a thousand crashes take seconds."""
    monkeypatch.setattr(replay.os, "fsync", lambda handle: None)


def start(folder, world, at=lambda point: None):
    return run(order_workflow, folder / "order.log", world.activities, "order", at=at)


def crash(folder, world, number):
    hook = CrashAt(number, die=raise_killed)
    try:
        start(folder, world, hook)
    except Killed:
        pass
    return hook


@pytest.mark.parametrize("kind", WORLDS)
def test_undisturbed_each_effect_once_and_a_second_run_touches_nothing(tmp_path, kind):
    broken, effects, points = WORLDS[kind]
    world = World(tmp_path / "world", broken=broken)
    hook = CrashAt(0)
    assert start(tmp_path, world, hook) == kind
    assert len(hook.points) == points
    written = (tmp_path / "order.log").read_bytes()
    assert start(tmp_path, world) == kind
    assert (tmp_path / "order.log").read_bytes() == written
    assert world.counts("attempts") == world.counts("keyed") == dict.fromkeys(effects, 1)


@pytest.mark.parametrize("kind", WORLDS)
def test_every_crash_point_recovers_and_only_the_gap_duplicates(tmp_path, kind):
    broken, effects, points = WORLDS[kind]
    duplicates = []
    for number in range(1, points + 1):
        folder = tmp_path / str(number)
        world = World(folder / "world", broken=broken)
        hook = crash(folder, world, number)
        assert hook.died
        assert start(folder, world) == kind
        assert world.counts("keyed") == dict.fromkeys(effects, 1), hook.died
        twice = [effect for effect, count in world.counts("attempts").items() if count > 1]
        assert all(count <= 2 for count in world.counts("attempts").values())
        if twice:
            duplicates.append((hook.died, *twice))
    wanted = {"shipped": ["1", "2", "3"], "cancelled": ["1", "2", "4", "5"]}[kind]
    assert [point for point, _ in duplicates] == [f"{step} completed: made" for step in wanted]
    assert [effect for _, effect in duplicates] == list(effects)


@pytest.mark.parametrize("kind", WORLDS)
def test_every_pair_of_crashes_recovers(tmp_path, kind):
    broken, effects, points = WORLDS[kind]
    for first in range(1, points + 1):
        for second in range(1, points + 1):
            folder = tmp_path / f"{first}-{second}"
            world = World(folder / "world", broken=broken)
            crash(folder, world, first)
            again = crash(folder, world, second)
            if again.died is None:
                continue
            assert start(folder, world) == kind
            assert world.counts("keyed") == dict.fromkeys(effects, 1)
            assert max(world.counts("attempts").values()) <= 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 2_000), kind=st.sampled_from(sorted(WORLDS)))
def test_a_log_that_breaks_off_anywhere_is_completed_to_the_same_log(tmp_path_factory, cut, kind):
    broken, effects, _ = WORLDS[kind]
    folder = tmp_path_factory.mktemp("torn")
    world = World(folder / "world", broken=broken)
    start(folder, world)
    path = folder / "order.log"
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    assert start(folder, world) == kind
    assert path.read_bytes() == whole
    assert world.counts("keyed") == dict.fromkeys(effects, 1)


def test_without_keys_the_gap_is_seen_only_in_attempts(tmp_path):
    world = World(tmp_path / "world")
    crash(tmp_path, world, 7)
    start(tmp_path, world)
    assert world.counts("attempts") == {"reserve": 1, "charge": 2, "ship": 1}
    keys = [entry["key"] for entry in world.entries("attempts") if entry["effect"] == "charge"]
    assert keys == ["order/2", "order/2"]


def history(path, *steps):
    log = Log(path)
    for number, (step, outcome) in enumerate(steps, 1):
        log.append(event="scheduled", number=number, value=step)
        if outcome is not None:
            log.append(event="completed", number=number, value=outcome)
    return path


ANY = {"dummy_activity": lambda key, *args: None, "original_activity": lambda key, *args: None}

# microsoft/durabletask-python (MIT), tests/durabletask/test_orchestration_executor.py, commit 033179b: the cases named
# test_nondeterminism_*, but for the two of sub-orchestrations, which this engine does not have. Each: what is in the
# history, what the code does, and what durabletask wants the message to name.
DURABLETASK = {
    "expected_timer": (["timer", "sleep", [1]], lambda ctx: ctx.call("dummy_activity"), ["1", "timer", "activity"]),
    "expected_activity_call_no_task_id": (["activity", "bogus_activity", []], lambda ctx: None, ["1", "activity", "bogus_activity"]),
    "expected_activity_call_wrong_task_type": (["activity", "dummy_activity", []], lambda ctx: ctx.sleep(0), ["1", "activity", "timer"]),
    "wrong_activity_name": (["activity", "original_activity", []], lambda ctx: ctx.call("dummy_activity"),
                            ["1", "original_activity", "dummy_activity"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DURABLETASK)
def test_what_durabletask_calls_non_deterministic_is_so_here(tmp_path, case):
    step, workflow, named = DURABLETASK[case]
    path = history(tmp_path / "x.log", (step, {"ok": None}))
    with pytest.raises(NonDeterminism) as caught:
        run(workflow, path, ANY)
    assert all(word in str(caught.value) for word in named), caught.value


def test_durabletask_activity_completion_and_failure(tmp_path):
    """test_activity_task_completion, test_activity_task_failed: results and failures come from the history."""
    done = history(tmp_path / "done.log", (["activity", "dummy_activity", []], {"ok": "done!"}))
    assert run(lambda ctx: ctx.call("dummy_activity"), done, ANY) == "done!"
    failed = history(tmp_path / "failed.log", (["activity", "dummy_activity", []], {"error": "Kah-BOOOOM!!!"}))
    with pytest.raises(ActivityFailed, match="Kah-BOOOOM"):
        run(lambda ctx: ctx.call("dummy_activity"), failed, ANY)


def test_durabletask_timer_fired_completion(tmp_path):
    """test_timer_fired_completion: a timer whose moment has passed does not wait."""
    path = history(tmp_path / "x.log", (["timer", "sleep", [3600]], {"ok": 1.0}))
    assert run(lambda ctx: ctx.sleep(3600) or "done", path, ANY) == "done"


def test_other_arguments_are_noticed_which_durabletask_does_not(tmp_path):
    path = history(tmp_path / "x.log", (["activity", "dummy_activity", [1]], {"ok": None}))
    with pytest.raises(NonDeterminism, match=r"dummy_activity\(1\).*dummy_activity\(2\)"):
        run(lambda ctx: ctx.call("dummy_activity", 2), path, ANY)


def test_time_and_chance_are_the_same_in_each_replay(tmp_path):
    def workflow(ctx):
        return [ctx.now(), ctx.random(), ctx.random()]

    first = run(workflow, tmp_path / "x.log", {})
    assert run(workflow, tmp_path / "x.log", {}) == first and first[1] != first[2]


def test_a_sleep_is_not_begun_again(tmp_path, monkeypatch):
    clock, slept = [1_000.0], []
    monkeypatch.setattr(replay, "time", SimpleNamespace(time=lambda: clock[0], sleep=slept.append))
    run(lambda ctx: ctx.sleep(60), tmp_path / "x.log", {})
    clock[0] += 45
    run(lambda ctx: ctx.sleep(60), tmp_path / "x.log", {})
    clock[0] += 45
    run(lambda ctx: ctx.sleep(60), tmp_path / "x.log", {})
    assert slept == [60, 15, 0]


def test_a_kill_is_not_recorded_as_a_failure(tmp_path):
    def die(key):
        raise Killed

    with pytest.raises(Killed):
        run(lambda ctx: ctx.call("die"), tmp_path / "x.log", {"die": die})
    assert [event["event"] for event in Log(tmp_path / "x.log").events] == ["scheduled"]


def test_tuples_and_numbers_as_keys_replay_as_they_were_recorded(tmp_path):
    def workflow(ctx):
        return ctx.call("give", (1, 2))

    give = {"give": lambda key, pair: {"pair": pair, 1: "one"}}
    first = run(workflow, tmp_path / "x.log", give)
    assert first == run(workflow, tmp_path / "x.log", give) == {"pair": [1, 2], "1": "one"}


def test_what_json_cannot_hold_is_refused_and_not_half_recorded(tmp_path):
    with pytest.raises(TypeError):
        run(lambda ctx: ctx.call("give"), tmp_path / "x.log", {"give": lambda key: object()})
    assert run(lambda ctx: ctx.call("give"), tmp_path / "x.log", {"give": lambda key: 1}) == 1


def test_an_unknown_activity_is_named(tmp_path):
    with pytest.raises(ValueError, match="'fly'.*reserve"):
        run(lambda ctx: ctx.call("fly"), tmp_path / "x.log", {"reserve": lambda key: 1})


def counter(replay, state):
    for _ in range(3):
        state = replay.call("add", state)
    return state if state >= 9 else ContinueAsNew(state)


def test_generations_survive_a_crash_at_every_point(tmp_path):
    add = {"add": lambda key, number: number + 1}
    hook = CrashAt(0)
    assert run_generations(counter, tmp_path / "alive", add, 0, at=hook) == 9
    assert len(hook.points) == 3 * 3 * 4 + 2 * 2
    for number in range(1, len(hook.points) + 1):
        folder = tmp_path / str(number)
        with pytest.raises(Killed):
            run_generations(counter, folder, add, 0, at=CrashAt(number, die=raise_killed))
        assert run_generations(counter, folder, add, 0) == 9
        assert len(list(folder.glob("*.log"))) == 1 and not list(folder.glob("*.partial"))
        assert len(Log(next(folder.glob("*.log"))).events) == 1 + 3 * 2


def test_a_snapshot_that_was_half_written_does_not_count(tmp_path):
    add = {"add": lambda key, number: number + 1}
    with pytest.raises(Killed):
        run_generations(counter, tmp_path, add, 0, at=CrashAt(13, die=raise_killed))
    (tmp_path / "next.partial").write_text(json.dumps({"event": "snapshot", "number": 0, "value": 3})[:20])
    assert run_generations(counter, tmp_path, add, 0) == 9


def test_the_world_refuses_what_is_no_effect(tmp_path):
    with pytest.raises(ValueError, match="explode"):
        World(tmp_path, broken=["explode"])


def test_two_logs_of_one_order_have_the_same_keys(tmp_path):
    assert Replay(Log(tmp_path / "a.log"), {}).number == 0
    assert orders.HAPPY + ("release", "refund") == orders.EFFECTS
