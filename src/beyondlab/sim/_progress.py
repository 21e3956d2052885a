"""A bar that tells how far a sweep is: on a terminal's standard error, in a notebook, nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

_WIDTH = 24
_INTERVAL = 0.2


class Progress:
    """The bar for ``total`` points, of which ``before`` were finished by an earlier run. Used by ``with``.

    A notebook keeps only the last state, which has no times in it: stored outputs do not change from run to run.
    """

    def __init__(self, total: int, before: int = 0) -> None:
        self._total = total
        self._before = before
        self._state = (before, 0, 0)
        self._write = _notebook() or _terminal()
        self._begin = time.monotonic()
        self._last = -_INTERVAL

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._write is not None:
            self._write(self._line(), True)

    def show(self, finished: int, retried: int, failed: int) -> None:
        """Points finished (earlier ones included), attempts that had to be repeated, points that failed for good."""
        self._state = (finished, retried, failed)
        now = time.monotonic() - self._begin
        if self._write is not None and now - self._last >= _INTERVAL:
            self._last = now
            new = finished - self._before
            left = f", {_clock(now / new * (self._total - finished))} left" if new else ""
            self._write(f"{self._line()}, {_clock(now)}{left}", False)

    def _line(self) -> str:
        finished, retried, failed = self._state
        done = finished + failed
        full = _WIDTH * done // self._total
        bar = f"[{'#' * full}{'.' * (_WIDTH - full)}] {done} of {self._total} points"
        return bar + (f", {retried} retried" if retried else "") + (f", {failed} failed" if failed else "")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _terminal() -> Callable[[str, bool], None] | None:
    stream = sys.stderr
    if stream is None or not stream.isatty():
        return None

    def write(line: str, last: bool) -> None:
        stream.write(f"\r{line}\x1b[K{chr(10) if last else ''}")
        stream.flush()

    return write


def _notebook() -> Callable[[str, bool], None] | None:
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    if getattr(get_ipython(), "kernel", None) is None:
        return None
    handle = None

    def write(line: str, last: bool) -> None:
        nonlocal handle
        data = {"text/plain": line}
        if handle is None:
            handle = display(data, raw=True, display_id=True)
        else:
            handle.update(data, raw=True)

    return write
