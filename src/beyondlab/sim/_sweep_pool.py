"""Processes of this machine for a sweep, and how a function gets to them."""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any


class _Call:
    """Unpickled, it is what the call returns."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return self.call, ()


def by_value(call: Callable[[], Any]) -> tuple[Callable[..., Any], bytes]:
    """A function and its argument, both fit for pickle, which amount to ``call()``.

    The argument is a pickle made by cloudpickle, so that functions of ``__main__``, lambdas and closures travel by
    value. Loading it makes the call, so what fails there fails in the call and not in the worker's loop.
    """
    try:
        import cloudpickle
    except ImportError:
        from numba import cloudpickle
    return pickle.loads, cloudpickle.dumps(_Call(call))


def _attend(line: Connection) -> None:
    """In the worker: leave interrupts to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    try:
        line.recv()
    except (EOFError, OSError):
        pass
    os._exit(1)


class Crew(Executor):
    """Worker processes, each in a pool of its own: one that dies takes only its own call along, and is replaced.

    As many are started as there are calls at once. They also end when this process does, however that comes.
    """

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._theirs, self._line = self._context.Pipe(duplex=False)
        self._idle: list[ProcessPoolExecutor] = []
        self._all: list[ProcessPoolExecutor] = []
        self._answered = False
        self._died = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As ``Executor.submit``. Raises BrokenExecutor if workers end before they can do anything."""
        if self._died and not self._answered:
            self._prove()
        task = by_value(functools.partial(function, *arguments, **named))
        while self._idle:
            pool = self._idle.pop()
            try:
                return self._watch(pool, pool.submit(*task))
            except BrokenExecutor:  # it died while idle
                continue
        pool = self._pool()
        return self._watch(pool, pool.submit(*task))

    def _pool(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(1, self._context, initializer=_attend, initargs=(self._theirs,))
        self._all.append(pool)
        return pool

    def _watch(self, pool: ProcessPoolExecutor, future: Future[Any]) -> Future[Any]:
        future.add_done_callback(lambda future: self._back(pool, future))
        return future

    def _back(self, pool: ProcessPoolExecutor, future: Future[Any]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenExecutor):
            self._died = True
        else:
            self._answered = True
            self._idle.append(pool)

    def _prove(self) -> None:
        pool = self._pool()
        try:
            pool.submit(int).result()
        except BrokenExecutor as error:
            raise BrokenExecutor(
                "worker processes end before they can do anything; "
                'a script must call the sweep under if __name__ == "__main__":'
            ) from error
        self._answered = True
        self._idle.append(pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As ``Executor.shutdown``; ``cancel_futures`` ends the workers as well."""
        if cancel_futures:
            self._line.close()
        for pool in self._all:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._line.close()
        self._theirs.close()

    def __exit__(self, *error: object) -> None:
        self.shutdown(cancel_futures=error[0] is not None)
