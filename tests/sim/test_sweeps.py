"""Sweeps: the same table from a loop, threads, processes, Dask and Lithops; deaths, interruptions, resumption."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beyondlab.sim import SweepError, sweep
from beyondlab.sim._progress import Progress
from beyondlab.sim._sweep_pool import by_value
from beyondlab.sim._sweep_store import identity

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from sweep_functions import deadly, drawn, fixed, fragile, interrupted, slow, stumbling  # noqa: E402

GRID = {"rate": [0.5, 1.0, 3.0], "servers": [1, 2]}
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}


class Inline(Executor):
    """Calls at once, in this thread. Raises KeyboardInterrupt instead of the call number ``interrupted``."""

    def __init__(self, interrupted: int | None = None) -> None:
        self.calls = 0
        self.interrupted = interrupted

    def submit(self, function, /, *arguments, **named):
        if self.calls == self.interrupted:
            raise KeyboardInterrupt
        self.calls += 1
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Disordered(Executor):
    """Calls nothing before it has ``count`` calls, then all of them in the order of ``order``."""

    def __init__(self, order: list[int]) -> None:
        self.order = order
        self.waiting: list[tuple[Future, Callable]] = []

    def submit(self, function, /, *arguments, **named):
        self.waiting.append((Future(), lambda: function(*arguments, **named)))
        if len(self.waiting) == len(self.order):
            for place in self.order:
                future, call = self.waiting[place]
                threading.Timer(0, future.set_result, (call(),)).run()
        return self.waiting[-1][0]


def loop(function: Callable, grid: dict, seeds: list[int]) -> pd.DataFrame:
    """The table by nested loops in one process, without the column ``attempts``."""
    rows = []
    for values in itertools.product(*grid.values()):
        for seed in seeds:
            point = dict(zip(grid, values))
            value = function(seed=seed, **point)
            rows.append(point | {"seed": seed} | (value if isinstance(value, dict) else {"value": value}))
    return pd.DataFrame(rows)


def same(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Bit by bit, dtypes and order of columns included."""
    pd.testing.assert_frame_equal(table.drop(columns="attempts"), expected, check_exact=True)


def counts(side: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in side.iterdir() if not path.name.startswith("pid-")}


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def child(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=90,
    )


def need(*modules: str) -> None:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        message = f"{', '.join(absent)} not installed: install the extra 'test'"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Multiprocessing's own resource tracker stays until this process ends; nothing else may."""
    before = set(psutil.Process().children(recursive=True))
    yield
    own = psutil.Process()

    def left() -> list[psutil.Process]:
        new = set(own.children(recursive=True)) - before
        return [one for one in new if one.is_running() and "resource_tracker" not in " ".join(one.cmdline())]

    wait_until(lambda: not left(), 10.0)


# The table


names = st.text("abcxyz", min_size=1, max_size=3)
values = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3)
grids = st.dictionaries(names, st.lists(values, min_size=1, max_size=3, unique_by=repr), max_size=3)


def echoed(seed: int, **point) -> dict[str, float]:
    return {"size": sum(len(repr(value)) for value in point.values()) + seed / 3, "parameters": len(point)}


@settings(derandomize=True, deadline=None, max_examples=40)
@given(grids, st.lists(st.integers(0, 2**62), min_size=1, max_size=3, unique=True), st.randoms(use_true_random=False))
def test_any_grid_in_any_order_of_completion(grid: dict, seeds: list[int], random) -> None:
    expected = loop(echoed, grid, seeds)
    order = list(range(len(expected)))
    random.shuffle(order)
    result = sweep(echoed, grid, seeds, Disordered(order))
    same(result.table, expected)
    points = [dict(zip(grid, one)) for one in itertools.product(*grid.values())]
    same(sweep(echoed, points, seeds, Inline()).table, expected)
    assert (result.table["attempts"] == 1).all() and result.failures.empty and result.resumed == 0


@settings(derandomize=True, deadline=None, max_examples=25)
@given(grids, st.integers(1, 3), st.data())
def test_resumes_after_any_number_of_points(grid: dict, count: int, data) -> None:
    whole = sweep(echoed, grid, count, Inline()).table
    done = data.draw(st.integers(0, len(whole) - 1))
    with tempfile.TemporaryDirectory() as folder:
        save = Path(folder) / "sweep.jsonl"
        with pytest.raises(KeyboardInterrupt):
            sweep(echoed, grid, count, Inline(interrupted=done), save=save)
        kept = len(save.read_text().splitlines()) - 1
        executor = Inline()
        result = sweep(echoed, grid, count, executor, save=save)
        assert executor.calls == len(whole) - kept and result.resumed == kept
        pd.testing.assert_frame_equal(result.table, whole, check_exact=True)
        again = sweep(echoed, grid, count, executor := Inline(), save=save)
        assert executor.calls == 0 and again.resumed == len(whole)
        pd.testing.assert_frame_equal(again.table, whole, check_exact=True)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_of_this_machine(workers: int) -> None:
    same(sweep(drawn, GRID, [7, 8], workers=workers).table, loop(drawn, GRID, [7, 8]))


def test_threads_and_own_processes() -> None:
    expected = loop(drawn, GRID, [7, 8])
    with ThreadPoolExecutor(3) as threads:
        same(sweep(drawn, GRID, [7, 8], threads).table, expected)
    with ProcessPoolExecutor(1) as processes:
        same(sweep(drawn, GRID, [7, 8], processes).table, expected)


def test_seeds_of_a_point_are_its_own() -> None:
    def seed_of(seed, **point):
        return 0

    table = sweep(seed_of, {"a": [1, 2], "b": ["x", "y"]}, 3, Inline()).table
    assert table["seed"].dtype == np.int64 and table["seed"].nunique() == 12
    assert table["seed"][0] == 3348013409092512905  # by hand from the definition; must stay from version to version
    larger = sweep(seed_of, {"b": ["w", "y", "x"], "a": [3, 2, 1]}, 4, Inline()).table
    merged = table.merge(larger, on=["a", "b", "seed"])
    assert len(merged) == 12  # neither the place in the grid nor the number of seeds matters
    given_seeds = sweep(seed_of, {"a": [1, 2]}, range(5, 8), Inline()).table
    assert given_seeds["seed"].tolist() == [5, 6, 7, 5, 6, 7]


def test_results_of_any_number_type() -> None:
    results = [3, 2.5, True, np.float32(0.1), np.int16(4), np.bool_(False), np.array(6.0), math.inf, 2**70]
    table = sweep(lambda seed, a: results[a], {"a": range(len(results))}, [0], Inline()).table
    assert table["value"].tolist() == [3, 2.5, True, float(np.float32(0.1)), 4, False, 6.0, math.inf, 2**70]
    table = sweep(lambda seed, a: {"x": 1} if a else {"y": 2}, {"a": [0, 1]}, [0], Inline()).table
    assert list(table) == ["a", "seed", "y", "x", "attempts"]
    assert table["y"].isna().tolist() == [False, True] and table["x"].isna().tolist() == [True, False]


# Failures and deaths


def test_what_fails_is_tried_again_and_reported(tmp_path: Path) -> None:
    tried: list[tuple[int, int]] = []

    def failing(seed, a):
        tried.append((a, seed))
        if a == 1 or (a == 2 and tried.count((a, seed)) < 3):
            raise ZeroDivisionError(f"a is {a}")
        return a

    with pytest.raises(SweepError, match=r"2 of 6 points .* \{'a': 1\}, seed 7, attempts: 3, ZeroDivisionError: a is 1"
                       ) as caught:  # fmt: skip
        sweep(failing, {"a": [0, 1, 2]}, [7, 8], Inline(), save=tmp_path / "save")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    result = caught.value.result
    assert result.table[["a", "seed", "attempts"]].to_numpy().tolist() == [[0, 7, 1], [0, 8, 1], [2, 7, 3], [2, 8, 3]]
    assert result.failures.to_dict("list") == {
        "a": [1, 1], "seed": [7, 8], "attempts": [3, 3], "error": ["ZeroDivisionError: a is 1"] * 2
    }  # fmt: skip
    tried.clear()
    kept = sweep(failing, {"a": [0, 1, 2]}, [7, 8], Inline(), save=tmp_path / "save", on_error="keep", retries=0)
    assert tried == [(1, 7), (1, 8)] and kept.resumed == 4
    assert kept.table["attempts"].tolist() == [1, 1, 3, 3] and kept.failures["attempts"].tolist() == [1, 1]
    assert list(sweep(failing, {"a": [1]}, [7], Inline(), on_error="keep").table) == ["a", "seed", "attempts"]


@pytest.mark.parametrize("wrong", [None, "text", 1j, [1.0], {"a": 1}, {"seed": 1}, {"x": "y"}, {3: 1}])
def test_results_that_are_no_numbers_are_failures(wrong: object) -> None:
    result = sweep(lambda seed, a: wrong, {"a": [0]}, [0], Inline(), on_error="keep")
    assert result.table.empty and result.failures["error"][0].startswith("ValueError: the function's result")


def test_a_killed_worker_takes_its_own_point_along_and_is_replaced(tmp_path: Path) -> None:
    result = sweep(fragile, {"a": range(5), "side": [str(tmp_path)]}, [1, 2], workers=2)
    assert result.table["value"].tolist() == [100 * a + seed for a in range(5) for seed in (1, 2)]
    assert result.table["attempts"].tolist() == [2, 2, 1, 1, 2, 2, 1, 1, 2, 2]
    assert set(counts(tmp_path).values()) == {1, 2}


def test_a_point_that_kills_every_worker(tmp_path: Path) -> None:
    grid = {"a": [0, 1, 2], "side": [str(tmp_path)]}
    result = sweep(deadly, grid, [1], workers=2, retries=1, on_error="keep")
    assert result.table["a"].tolist() == [0, 2] and result.table["attempts"].tolist() == [1, 1]
    assert result.failures["a"].tolist() == [1] and result.failures["attempts"].tolist() == [2]
    assert result.failures["error"][0].startswith("BrokenProcessPool")
    assert counts(tmp_path) == {"0-1": 1, "1-1": 2, "2-1": 1}


def test_an_executor_that_is_broken_for_good_loses_nothing(tmp_path: Path) -> None:
    grid = {"a": range(6), "side": [str(tmp_path)]}
    save = tmp_path.with_suffix(".jsonl")
    with ProcessPoolExecutor(1) as pool, pytest.raises(SweepError, match="BrokenProcessPool") as caught:
        sweep(fragile, grid, [1], pool, save=save)
    result = caught.value.result
    assert sorted([*result.table["a"], *result.failures["a"]]) == list(range(6)) and len(result.failures)
    whole = sweep(fragile, grid, [1], save=save)
    assert whole.resumed == len(result.table) and whole.table["value"].tolist() == [100 * a + 1 for a in range(6)]
    refused = sweep(echoed, {"a": [1]}, [1], pool, on_error="keep")
    assert refused.failures["attempts"].tolist() == [0] and refused.failures["error"][0].startswith("BrokenProcess")


# Interruption


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_parent_is_killed_or_interrupted(number: int, tmp_path: Path) -> None:
    side, save = tmp_path / "side", tmp_path / "save"
    side.mkdir()
    grid = {"a": list(range(12)), "side": [str(side)]}
    code = (
        "from sweep_functions import slow\nfrom beyondlab.sim import sweep\n"
        f"sweep(slow, {grid!r}, [1], workers=2, save={str(save)!r})"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: save.exists() and save.read_text().count("\n") > 3)
        workers = [int(path.name[4:]) for path in side.glob("pid-*")]
        (os.killpg if number == signal.SIGINT else os.kill)(parent.pid, number)  # a terminal interrupts the group
        _, errors = parent.communicate(timeout=20)
    finally:
        parent.kill()
    assert parent.returncode == -number and (number == signal.SIGKILL or errors.count("Traceback") == 1)
    wait_until(lambda: not any(map(psutil.pid_exists, workers)))
    before, saved = counts(side), save.read_text().splitlines()[1:]
    assert workers and 3 <= len(saved) < 12
    with ThreadPoolExecutor(12) as threads:
        result = sweep(slow, grid, [1], threads, save=save)
    assert result.table["value"].tolist() == [100 * a + 1 for a in range(12)] and result.resumed == len(saved)
    finished = {f"{json.loads(line)['point']['a']}-1" for line in saved}
    assert counts(side) == {name: before.get(name, 0) + (name not in finished) for name in counts(side)}


def test_workers_leave_interrupts_to_the_parent() -> None:
    assert sweep(interrupted, {"a": [1, 2]}, [3], workers=2).table["attempts"].tolist() == [1, 1]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    sweep(echoed, {"a": [0.1, "é", None]}, [1, 2], Inline(), save=tmp_path / "save")
    return tmp_path / "save"


def test_a_torn_last_line_is_computed_again(saved: Path) -> None:
    content = saved.read_bytes()
    expected = loop(echoed, {"a": [0.1, "é", None]}, [1, 2])
    header = content.index(b"\n") + 1
    for size in [*range(0, header, 40), *range(header - 1, len(content), 9), len(content) - 1]:
        saved.write_bytes(content[:size])
        torn = size > header and content[size - 1 : size] != b"\n"
        whole = content[header:size].count(b"\n")
        with pytest.warns(RuntimeWarning, match="torn") if torn else warnings.catch_warnings(action="error"):
            result = sweep(echoed, {"a": [0.1, "é", None]}, [1, 2], Inline(), save=saved)
        same(result.table, expected)
        assert result.resumed == whole and sorted(saved.read_bytes().split()) == sorted(content.split())


def other(seed: int, **point) -> dict[str, float]:
    return {"size": sum(len(repr(value)) for value in point.values()) + seed / 4, "parameters": len(point)}


@pytest.mark.parametrize(
    ("function", "values", "seeds", "word"),
    [
        (other, [0.1, "é", None], [1, 2], "another function: .*echoed.* here it is .*other"),
        (echoed, [0.1, "é"], [1, 2], "another grid: .*points 3, .* here it is .*points 2"),
        (echoed, [0.2, "é", None], [1, 2], "another grid"),
        (echoed, [0.1, "é", None], [1, 3], "another seeds"),
        (echoed, [0.1, "é", None], 2, "another seeds"),
    ],
)
def test_a_file_of_another_sweep_is_refused(saved: Path, function, values, seeds, word: str) -> None:
    content = saved.read_bytes()
    with pytest.raises(ValueError, match=f"save=.*must belong to this sweep, but has {word}"):
        sweep(function, {"a": values}, seeds, Inline(), save=saved)
    assert saved.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"my diary", "must be a new file or one written by a sweep"),
        (b"a,b\n1,2\n", "must be a new file"),
        (b"[1]\n", "must be a new file"),
        (b'{"beyondlab sweep":2}\n', "has format 2, must be 1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=word):
        sweep(echoed, {"a": [1]}, [1], Inline(), save=tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", "{}", '{"point":{"a":9},"seed":1,"value":1,"attempts":1}',
             '{"point":{"a":null},"seed":1,"value":"x","attempts":1}']
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_an_error(saved: Path, line: str) -> None:
    lines = saved.read_text().splitlines()
    saved.write_text("\n".join([*lines[:3], line, *lines[3:], ""]))
    with pytest.raises(ValueError, match="save=.*: line 4 is"):
        sweep(echoed, {"a": [0.1, "é", None]}, [1, 2], Inline(), save=saved)


def defined(source: str) -> Callable:
    namespace: dict = {"__name__": "__main__"}
    exec(textwrap.dedent(source), namespace)
    return namespace["f"]


def test_what_makes_a_function_another_one() -> None:
    text = "rate = 2\ndef g(x): return x + 1\ndef f(seed, x, y=3):\n    return [g(v) * rate for v in (x, y)]\n"
    digest = identity(defined(text))["digest"]
    assert identity(defined(text.replace("\n", "  # comment\n")))["digest"] == digest
    for change in ["rate = 2 | rate = 3", "x + 1 | x + 2", "y=3 | y=4", "* rate | / rate", "(x, y) | (y, x)"]:
        assert identity(defined(text.replace(*change.split(" | "))))["digest"] != digest, change
    closed = "def made(k):\n    def inner(seed): return k in {'a', 'b', 'c'}\n    return inner\nf = made(%d)"
    assert identity(defined(closed % 1)) == identity(defined(closed % 1)) != identity(defined(closed % 2))
    partial = "import functools\ndef g(seed, x, k): return k\nf = functools.partial(g, k=%d)"
    assert identity(defined(partial % 1)) == identity(defined(partial % 1)) != identity(defined(partial % 2))
    method = "class C:\n    def __call__(self, seed): return %d\nf = C()"
    assert identity(defined(method % 1)) == identity(defined(method % 1)) != identity(defined(method % 2))
    assert identity(math.hypot)["name"] == "hypot"


def test_the_identity_is_the_same_in_another_process() -> None:
    code = "import sweep_functions as f; from beyondlab.sim._sweep_store import identity; print(identity(f.fragile))"
    done = child(code, PYTHONHASHSEED="1")
    assert done.stdout.strip() == str(identity(fragile)), done.stderr


# Functions that workers cannot import, and scripts


def test_functions_of_main_travel_by_value() -> None:
    """In a process whose ``__main__`` has no file, as in a notebook; beside a thread."""
    code = """
    import threading, time
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    from beyondlab.sim import sweep
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    factor = 10
    def helper(x):
        return factor * x
    def function(seed, a):
        return helper(a) + seed
    print(sweep(function, {"a": [1, 2]}, [3], workers=1).table["value"].tolist())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(sweep(lambda seed, a: helper(a), {"a": [1, 2]}, [3], pool).table["value"].tolist())
    """
    done = child(code)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["[13, 23]", "[10, 20]"], "")


def test_without_cloudpickle_that_of_numba_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    function, argument = by_value(lambda: 42)
    assert function is pickle.loads and function(argument) == 42 and b"numba.cloudpickle" in argument


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from beyondlab.sim import sweep\nsweep(lambda seed, a: a, {'a': range(50)}, [1], workers=1)\n")
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode and "50 of 50 points are missing" in done.stderr
    assert 'a script must call the sweep under if __name__ == "__main__":' in done.stderr


def test_in_a_notebook() -> None:
    need("nbclient", "ipykernel")
    import nbclient
    import nbformat

    code = (
        "from beyondlab.sim import sweep\n"
        "sweep(lambda seed, a: a + seed, {'a': [1, 2]}, [3], workers=1).table['value'].sum()"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbclient.NotebookClient(book, timeout=60).execute(env=ENVIRONMENT)
    shown = [output["data"]["text/plain"] for output in book.cells[0].outputs]
    assert shown == [f"[{'#' * 24}] 2 of 2 points", "np.int64(9)"]


def test_import_is_light() -> None:
    heavy = ("pandas", "numba", "dask", "lithops", "cloudpickle", "multiprocessing")
    done = child(f"import sys, beyondlab.sim; print([name for name in {heavy!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


# The bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(8, 2) as shown:
        shown.show(3, 1, 1)
    first, last = terminal.getvalue().split("\r")[1:]
    assert first.startswith("[############............] 4 of 8 points, 1 retried, 1 failed, 0:00, 0:00 left")
    assert last == "[############............] 4 of 8 points, 1 retried, 1 failed\x1b[K\n"
    terminal.truncate(0)
    sweep(echoed, {"a": [1]}, [1], Inline(), progress=False)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sweep(echoed, {"a": [1]}, [1], Inline())
    assert sys.stderr.getvalue() == ""


# Clusters


def test_dask_with_a_worker_killed(tmp_path: Path) -> None:
    need("dask", "distributed")
    import dask
    from distributed import Client, LocalCluster

    for folder in (side := tmp_path / "side", dying := tmp_path / "dying", stumbles := tmp_path / "stumbles"):
        folder.mkdir()
    grid = {"a": list(range(10)), "side": [str(side)]}
    with (
        dask.config.set({"logging.distributed": "critical", "temporary-directory": str(tmp_path / "dask")}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        victim = next(iter(client.run(os.getpid).values()))

        def kill() -> None:
            wait_until(lambda: (side / f"pid-{victim}").exists())
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        result = sweep(slow, grid, [1, 2], client.get_executor())
        killer.join(20)
        assert (side / f"pid-{victim}").exists() and not psutil.pid_exists(victim)
        assert max(counts(side).values()) == 2  # one point was in its hands
        same(result.table, loop(lambda seed, a, side: 100 * a + seed, grid, [1, 2]))
        same(sweep(drawn, GRID, [7, 8], client.get_executor()).table, loop(drawn, GRID, [7, 8]))
        cluster.scheduler.allowed_failures = 0  # now Dask gives up at the first death, and the sweep tries again
        killed = sweep(fragile, {"a": [1, 2], "side": [str(dying)]}, [1], client.get_executor())
        assert killed.table["value"].tolist() == [101, 201] and killed.table["attempts"].max() == 2
        stumbled = sweep(stumbling, {"a": [1, 2], "side": [str(stumbles)]}, [1], client.get_executor())
        assert stumbled.table["value"].tolist() == [101, 201] and stumbled.table["attempts"].tolist() == [1, 2]
        named = {"priority": [1, 2], "workers": [3], "key": ["x"], "retries": [0]}
        same(sweep(fixed, named, [1], client.get_executor()).table, loop(fixed, named, [1]))


def test_lithops_on_localhost(tmp_path: Path) -> None:
    need("lithops")
    for folder in ("home", "tmp", "side"):
        (tmp_path / folder).mkdir()
    grid = {"rate": [0.5, 3.0], "servers": [2]}
    code = f"""
    import sys
    from lithops.concurrent.futures import ProcessPoolExecutor
    from beyondlab.sim import sweep
    from sweep_functions import drawn, fragile
    config = {{
        "lithops": {{"backend": "localhost", "storage": "localhost", "data_cleaner": False, "log_level": "ERROR"}},
        "localhost": {{"runtime": sys.executable, "worker_processes": 2}},
    }}
    with ProcessPoolExecutor(config=config) as executor:
        sweep(drawn, {grid!r}, [7, 8], executor).table.to_pickle({str(tmp_path / "drawn")!r})
        table = sweep(fragile, {{"a": [1, 2], "side": [{str(tmp_path / "side")!r}]}}, [7], executor).table
        table.to_pickle({str(tmp_path / "fragile")!r})
    """
    done = child(code, HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "tmp"))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not carrying("TMPDIR", str(tmp_path / "tmp")))
    same(pd.read_pickle(tmp_path / "drawn"), loop(drawn, grid, [7, 8]))
    died = pd.read_pickle(tmp_path / "fragile")
    assert died["value"].tolist() == [107, 207] and died["attempts"].tolist() == [1, 2]


def carrying(name: str, value: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


# Arguments


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"function": 3}, "function=3: must be callable"),
        ({"function": lambda a: a}, "function=.*must take seed and every parameter"),
        ({"function": lambda seed: 1}, "function=.*must take seed and every parameter"),
        ({"grid": 3}, "grid=3: must map names to values"),
        ({"grid": "ab"}, "grid='ab'"),
        ({"grid": []}, "grid=.*at least one point"),
        ({"grid": {"a": []}}, r"grid\['a'\]=.*at least one value"),
        ({"grid": {"a": "lru"}}, r"grid\['a'\]='lru': must be a list"),
        ({"grid": {"a": 1}}, r"grid\['a'\]=1: must be a list"),
        ({"grid": {"a": [[1]]}}, r"grid\['a'\]: \[1\] must be a number"),
        ({"grid": {"a": [1, 1]}}, "grid: .*must not occur twice"),
        ({"grid": [{"a": 1}, {"b": 1}]}, r"grid\[1\]=.*must have the parameters of grid\[0\], a"),
        ({"grid": [{"a": 1}, 2]}, "grid=.*list of points"),
        ({"grid": {"seed": [1]}}, "grid: the parameter 'seed' must be .*none of seed, attempts, error"),
        ({"grid": {3: [1]}}, "grid: the parameter 3 must be a text"),
        ({"seeds": 0}, "seeds=0: must be an integer, at least 1"),
        ({"seeds": "x"}, "seeds='x'"),
        ({"seeds": []}, "seeds=.*at least one"),
        ({"seeds": [1, 1]}, "seeds=.*none twice"),
        ({"seeds": [-1]}, r"seeds\[0\]=-1"),
        ({"seeds": [1.5]}, r"seeds\[0\]=1.5"),
        ({"executor": "dask"}, "executor='dask': must be a concurrent.futures.Executor"),
        ({"workers": 2}, "workers=2: must be None where an executor is given"),
        ({"executor": None, "workers": 0}, "workers=0: must be an integer, at least 1"),
        ({"retries": -1}, "retries=-1"),
        ({"on_error": "stop"}, "on_error='stop': must be 'raise' or 'keep'"),
    ],
)
def test_bad_arguments(changed: dict, word: str) -> None:
    usual = {"function": lambda seed, a: a, "grid": {"a": [1]}, "seeds": 1, "executor": Inline()}
    with pytest.raises(ValueError, match=word):
        sweep(**(usual | changed))
