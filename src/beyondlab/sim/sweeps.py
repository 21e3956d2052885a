"""Sweeps: one function over a grid of points and several seeds, on the cores of this machine or on a cluster.

The call is the same everywhere; only the executor differs::

    sweep(function, grid, seeds)                                # the cores of this machine

    with Client("tcp://...") as client:                         # a Dask cluster; from distributed
        sweep(function, grid, seeds, client.get_executor())

    with ProcessPoolExecutor(config=...) as executor:           # Lithops; from lithops.concurrent.futures
        sweep(function, grid, seeds, executor)

The configuration of Lithops says where: ``{"lithops": {"backend": "localhost", "storage": "localhost"}}`` is this
machine, ``aws_lambda``, ``gcp_cloudrun`` or ``knative`` with a storage of theirs is a cloud.

What reaches the workers is ``functools.partial(function, **point, seed=seed)`` and nothing of this library, so workers
need only what the function itself imports.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from beyondlab.kit import check
from beyondlab.sim._progress import Progress
from beyondlab.sim._sweep_store import Store, canonical, identity
from beyondlab.sim._sweep_values import Plain, Value, number, plain

if TYPE_CHECKING:
    import pandas

RESERVED = ("seed", "attempts", "error")
"""Columns of the tables that no parameter and no result may be called."""

_TICK = 0.5

Function = Callable[..., Any]
Grid = Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class _Job:
    point: dict[str, Plain]
    seed: int


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What a sweep found."""

    table: pandas.DataFrame
    """One row for each point and seed that was finished, in the order of the grid: the parameters, ``seed``, the
    results (``value``, if the function returns one number), ``attempts``."""
    failures: pandas.DataFrame
    """One row for each point and seed that was not: the parameters, ``seed``, ``attempts``, ``error`` (the last)."""
    resumed: int
    """Rows of the table that came from the file ``save``."""


class SweepError(RuntimeError):
    """Points are missing. ``result`` is the :class:`SweepResult`: what was finished, and what was not and why."""

    def __init__(self, message: str, result: SweepResult) -> None:
        super().__init__(message)
        self.result = result


def sweep(
    function: Function,
    grid: Grid,
    seeds: int | Iterable[int],
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    retries: int = 2,
    on_error: Literal["raise", "keep"] = "raise",
    save: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> SweepResult:
    """Call ``function(seed=seed, **point)`` for each point of the grid and each seed, and tabulate the results.

    The table does not depend on the executor, the number of workers or the order in which they finish: a function that
    draws only from its seed gives the same table, bit for bit. Only the column ``attempts`` tells of trouble.

    Parameters
    ----------
    function
        Returns a real number, or a dict of real numbers.
    grid
        Parameter names and the values of each: all their combinations are swept, the last parameter fastest. Or a list
        of points, each a mapping with the same names. Values are numbers, texts, booleans or None; numpy scalars reach
        the function as Python's own.
    seeds
        A number n: each point gets n seeds of its own, independent of those of all other points. They come from
        ``numpy.random.SeedSequence(entropy=k, spawn_key=h)`` for k = 0 to n - 1, where h is the SHA-256 of the point's
        JSON text, and so depend on the point alone, not on its place in the grid; they are under 2**63. Or a list of
        distinct integers, at least 0: every point gets the same ones (common random numbers, which make differences
        between points less noisy).
    executor
        Any ``concurrent.futures`` executor; it is not shut down. All points are submitted at once. Default: a process
        for each core that this process may use (:func:`beyondlab.kit.machine.look`), started by ``spawn``, so that
        threads of a notebook do no harm, and ended before the sweep returns. Functions of a notebook, lambdas and
        closures reach process pools by value (cloudpickle). As with multiprocessing, a script must call the sweep
        under ``if __name__ == "__main__":``.
    workers
        Processes of the default executor, at least 1.
    retries
        How often a point is tried again after the function raised, its worker died or it was cancelled, at least 0.
    on_error
        What to do at the end if points are missing: ``"raise"`` a :class:`SweepError` that holds the result, or
        ``"keep"`` them in ``failures`` and return. Other points are finished in either case.
    save
        File to which each finished point is appended, one line of JSON each. Where it exists, its points are not
        computed again. The file must belong to this sweep: same function, grid and seeds. The function is known by
        its name, its bytecode, the plain values it uses and the functions of its module that it calls; a change
        further down is not noticed. Failed points are not saved and are computed again.
    progress
        Whether to show a bar, on a terminal's standard error or in a notebook's output; elsewhere nothing is shown.

    Returns
    -------
    SweepResult
        ``table``, ``failures`` and ``resumed``.

    Raises
    ------
    ValueError
        If an argument is not as said, or the file holds another sweep or a line that cannot be read.
    SweepError
        If points are missing at the end and ``on_error`` is ``"raise"``.

    Notes
    -----
    On the default executor a worker that dies takes one point along, and another worker is started. A
    ``ProcessPoolExecutor`` of your own is broken for good by a death: the sweep ends, all unfinished points are listed,
    and the same call with the same ``save`` goes on. Dask runs the tasks of a lost worker again by itself, three times
    by default; only then does it count as one attempt here. On Lithops each point is a job of its own. Each attempt is
    a new task for Dask, which otherwise takes equal calls for the same one.

    After an interruption (``KeyboardInterrupt``) the workers of the default executor are ended; one that is deep in
    compiled code which holds the interpreter's lock ends when that returns.
    """
    points = _points(grid)
    _check_signature(function, points)
    jobs, seeding = _jobs(points, seeds)
    retries = check.whole("retries", retries, 0)
    if on_error not in ("raise", "keep"):
        raise ValueError(f"on_error={on_error!r}: must be 'raise' or 'keep'")
    if executor is not None and not isinstance(executor, Executor):
        raise ValueError(f"executor={executor!r}: must be a concurrent.futures.Executor or None")
    if executor is not None and workers is not None:
        raise ValueError(f"workers={workers!r}: must be None where an executor is given")
    if workers is not None:
        workers = check.whole("workers", workers, 1)

    run = _Run(function, jobs, retries)
    with ExitStack() as stack:
        if save is not None:
            header = {"function": identity(function), "grid": points, "seeds": seeding}
            store = stack.enter_context(Store(save, header))
            run.resume(store)
        if run.waiting:
            shown = stack.enter_context(Progress(len(jobs), len(run.values))) if progress else None
            limit = None
            if executor is None:
                from beyondlab.sim._sweep_pool import Crew

                limit = min(workers or _cores(), len(run.waiting))
                executor = stack.enter_context(Crew())
            run.finish(executor, limit, shown)
    result = run.result(tuple(points[0]))
    if run.errors and on_error == "raise":
        raise SweepError(run.complaint(), result) from next(iter(run.errors.values()))
    return result


def _points(grid: Grid) -> list[dict[str, Plain]]:
    if isinstance(grid, Mapping):
        points = _product(grid)
    elif isinstance(grid, Sequence) and not isinstance(grid, str) and all(isinstance(one, Mapping) for one in grid):
        points = [
            {name: plain(f"grid[{place}]", name, value) for name, value in one.items()}
            for place, one in enumerate(grid)
        ]
    else:
        raise ValueError(f"grid={grid!r}: must map names to values, or be a list of points that do")
    if not points:
        raise ValueError(f"grid={grid!r}: must have at least one point")
    for name in points[0]:
        if not isinstance(name, str) or name in RESERVED:
            raise ValueError(f"grid: the parameter {name!r} must be a text, and none of {', '.join(RESERVED)}")
    first: dict[str, int] = {}
    for place, point in enumerate(points):
        if point.keys() != points[0].keys():
            raise ValueError(f"grid[{place}]={point!r}: must have the parameters of grid[0], {', '.join(points[0])}")
        twin = first.setdefault(canonical(point), place)
        if twin != place:
            raise ValueError(f"grid: {point!r} must not occur twice")
    return points


def _product(grid: Mapping[str, Iterable[Any]]) -> list[dict[str, Plain]]:
    columns = []
    for name, values in grid.items():
        try:
            column = list(values) if not isinstance(values, str | bytes | Mapping) else None
        except TypeError:
            column = None
        if not column:
            raise ValueError(f"grid[{name!r}]={values!r}: must be a list of at least one value")
        columns.append([plain("grid", name, value) for value in column])
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*columns)]


def _check_signature(function: Function, points: list[dict[str, Plain]]) -> None:
    if not callable(function):
        raise ValueError(f"function={function!r}: must be callable")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # a built-in function that does not tell
    try:
        signature.bind(seed=0, **points[0])
    except TypeError as error:
        raise ValueError(f"function={function!r}: must take seed and every parameter of the grid; {error}") from None


def _jobs(points: list[dict[str, Plain]], seeds: int | Iterable[int]) -> tuple[list[_Job], int | list[int]]:
    """All jobs in the order of the table, and the seeds as the file's header says them."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        given = [check.whole(f"seeds[{place}]", seed, 0) for place, seed in enumerate(seeds)]
        if not given or len(set(given)) < len(given):
            raise ValueError(f"seeds={given!r}: must be a number, or at least one integer and none twice")
        return [_Job(point, seed) for point in points for seed in given], given
    count = check.whole("seeds", seeds, 1)
    return [_Job(point, seed) for point in points for seed in _own_seeds(point, count)], count


def _own_seeds(point: dict[str, Plain], count: int) -> list[int]:
    words = np.frombuffer(hashlib.sha256(canonical(point).encode()).digest(), "<u4")
    key = tuple(int(word) for word in words)
    states = (np.random.SeedSequence(entropy=k, spawn_key=key).generate_state(1, np.uint64) for k in range(count))
    return [int(state[0]) >> 1 for state in states]


def _cores() -> int:
    from beyondlab.kit.machine import look

    return max(1, int(look().cores))


class _Run:
    """The state of one sweep: what waits, what was found, what failed. Jobs are known by their place."""

    def __init__(self, function: Function, jobs: list[_Job], retries: int) -> None:
        self.function = function
        self.jobs = jobs
        self.most = retries + 1
        self.waiting = deque(range(len(jobs)))
        self.values: dict[int, Value] = {}
        self.attempts = [0] * len(jobs)
        self.errors: dict[int, BaseException] = {}
        self.resumed = 0
        self.retried = 0
        self.store: Store | None = None

    def resume(self, store: Store) -> None:
        """Take over what the file holds; what is finished from now on goes there."""
        self.store = store
        places = {(canonical(job.point), job.seed): place for place, job in enumerate(self.jobs)}
        for line, point, seed, value, attempts in store.rows():
            place = places.get((canonical(point), seed))
            if place is None:
                raise store.unreadable(line, "is a point that this sweep does not have")
            self.values[place] = value
            self.attempts[place] = attempts
        self.resumed = len(self.values)
        self.waiting = deque(place for place in self.waiting if place not in self.values)

    def finish(self, executor: Executor, limit: int | None, shown: Progress | None) -> None:
        """Run what waits, at most ``limit`` jobs at once, until each is finished or has failed for good."""
        running: dict[Future[Any], int] = {}
        finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        try:
            while self.waiting or running:
                while self.waiting and (limit is None or len(running) < limit):
                    try:
                        future = _submit(executor, self._call(self.waiting[0]))
                    except Exception as error:
                        self._give_up(error)
                        break
                    place = self.waiting.popleft()
                    self.attempts[place] += 1
                    running[future] = place
                    future.add_done_callback(finished.put)
                if running:
                    try:
                        future = finished.get(timeout=_TICK)
                        self._take(running.pop(future), future)
                    except queue.Empty:
                        pass
                if shown is not None:
                    shown.show(len(self.values), self.retried, len(self.errors))
        except BaseException:
            for future in running:
                future.cancel()
            raise

    def _call(self, place: int) -> functools.partial[Any]:
        job = self.jobs[place]
        return functools.partial(self.function, **job.point, seed=job.seed)

    def _give_up(self, error: Exception) -> None:
        """The executor takes no more work."""
        while self.waiting:
            self.errors[self.waiting.popleft()] = error

    def _take(self, place: int, future: Future[Any]) -> None:
        try:
            error = future.exception()
            value = _value(self.jobs[place], future.result()) if error is None else None
        except (CancelledError, ValueError) as wrong:
            error = wrong
        if error is None:
            self.values[place] = value
            if self.store is not None:
                job = self.jobs[place]
                self.store.add(job.point, job.seed, value, self.attempts[place])
        elif self.attempts[place] < self.most:
            self.waiting.append(place)
            self.retried += 1
        else:
            self.errors[place] = error

    def result(self, names: tuple[str, ...]) -> SweepResult:
        import pandas

        rows = {place: self.values[place] for place in sorted(self.values)}
        found = {place: value if isinstance(value, dict) else {"value": value} for place, value in rows.items()}
        columns: dict[str, list[Any]] = {}
        for name in dict.fromkeys(name for value in found.values() for name in value):
            columns[name] = [value.get(name, float("nan")) for value in found.values()]
        missing = sorted(self.errors)
        why = {"error": [_told(self.errors[place]) for place in missing]}
        return SweepResult(
            table=pandas.DataFrame(self._keys(names, list(found)) | columns | self._tried(list(found))),
            failures=pandas.DataFrame(self._keys(names, missing) | self._tried(missing) | why),
            resumed=self.resumed,
        )

    def _keys(self, names: tuple[str, ...], places: list[int]) -> dict[str, list[Any]]:
        keys: dict[str, list[Any]] = {name: [self.jobs[place].point[name] for place in places] for name in names}
        return keys | {"seed": [self.jobs[place].seed for place in places]}

    def _tried(self, places: list[int]) -> dict[str, list[Any]]:
        return {"attempts": [self.attempts[place] for place in places]}

    def complaint(self) -> str:
        place = min(self.errors)
        job = self.jobs[place]
        return (
            f"{len(self.errors)} of {len(self.jobs)} points are missing; the first: {job.point!r}, seed {job.seed}, "
            f"attempts: {self.attempts[place]}, {_told(self.errors[place])}"
        )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _submit(executor: Executor, call: functools.partial[Any]) -> Future[Any]:
    """Hand one call to an executor, in the form in which it arrives there."""
    from concurrent.futures import ProcessPoolExecutor

    if isinstance(executor, ProcessPoolExecutor):
        from beyondlab.sim._sweep_pool import by_value

        return executor.submit(*by_value(call))
    if type(executor).__module__.partition(".")[0] == "distributed":
        return executor.submit(call, pure=False)  # each attempt is a task of its own
    return executor.submit(call)


def _value(job: _Job, value: Any) -> Value:
    """The number or numbers that the function returned, as Python's own."""
    if not isinstance(value, Mapping):
        if "value" in job.point:
            raise ValueError("a parameter is called 'value': the function must return a dict that names its result")
        return number("the function's result", value)
    for name in value:
        if not isinstance(name, str) or name in RESERVED or name in job.point:
            raise ValueError(f"the function's result {name!r}: must be named by a text that no other column has")
    return {name: number(f"the function's result {name!r}", one) for name, one in value.items()}
