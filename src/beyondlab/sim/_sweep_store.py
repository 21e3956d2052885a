"""The file of a sweep: a header that says which sweep it is, then one line of JSON for each finished point."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from beyondlab.sim._sweep_values import Plain, Value, number

FORMAT = 1


def canonical(value: object) -> str:
    """The one JSON text of a plain value: keys sorted, floats to the last bit."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: object) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def identity(function: Callable[..., Any]) -> dict[str, str]:
    """Name and digest of a function: its bytecode, the plain values it uses, and so on for the functions of its own
    module that it calls. What those of other modules do is not seen.
    """
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    python = ".".join(map(str, sys.version_info[:2]))
    return {"name": name, "digest": _digest(_function(function, set())), "python": python}


def _function(function: Any, seen: set[int]) -> Any:
    function = getattr(function, "py_func", function)  # what numba compiled
    if isinstance(function, functools.partial):
        keywords = {name: _used(value, None, seen) for name, value in function.keywords.items()}
        return [_function(function.func, seen), [_used(value, None, seen) for value in function.args], keywords]
    if isinstance(function, types.MethodType):
        return _function(function.__func__, seen)
    if not isinstance(function, types.FunctionType):
        called = getattr(type(function), "__call__", None)
        if isinstance(called, types.FunctionType):
            return _function(called, seen)
    if not isinstance(function, types.FunctionType) or id(function) in seen:
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    seen.add(id(function))
    code = function.__code__
    names = _names(code)
    used = {name: value for name, value in function.__globals__.items() if name in names}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            used[name] = cell.cell_contents
        except ValueError:  # not filled yet
            used[name] = None
    values = {name: _used(value, function.__module__, seen) for name, value in used.items()}
    defaults = [_used(value, function.__module__, seen) for value in function.__defaults__ or ()]
    named = {name: _used(value, function.__module__, seen) for name, value in (function.__kwdefaults__ or {}).items()}
    return [_code(code), defaults, named, values]


def _used(value: Any, module: str | None, seen: set[int]) -> Any:
    """What is known of a value that a function uses: plain ones entirely, functions of its module, else the type."""
    if value is None or isinstance(value, str | int | float | complex | bytes):
        return repr(value)
    if isinstance(value, tuple | list):
        return [_used(one, module, seen) for one in value]
    code = getattr(value, "py_func", value)
    if isinstance(code, types.FunctionType) and (module is None or code.__module__ == module):
        return _function(code, seen)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _names(code: types.CodeType) -> set[str]:
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _code(code: types.CodeType) -> Any:
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), [_constant(one) for one in code.co_consts]]


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, tuple):
        return [_constant(one) for one in value]
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


class Store:
    """The file ``path`` for the sweep that ``sweep`` describes: function, grid and seeds. Opened by ``with``.

    A line is complete when its newline is written. What follows the last newline is a line that was torn when its
    sweep was killed: it is removed, and a RuntimeWarning says so.
    """

    def __init__(self, path: str | os.PathLike[str], sweep: dict[str, Any]) -> None:
        self.path = Path(path)
        grid, seeds = sweep["grid"], sweep["seeds"]
        self._header = {
            "beyondlab sweep": FORMAT,
            "function": sweep["function"],
            "grid": {"points": len(grid), "parameters": list(grid[0]), "digest": _digest(grid)},
            "seeds": {"count": seeds if isinstance(seeds, int) else len(seeds), "digest": _digest(seeds)},
        }

    def __enter__(self) -> Store:
        header = canonical(self._header).encode() + b"\n"
        content = self.path.read_bytes() if self.path.exists() else b""
        if header.startswith(content):  # new, or killed while the header was written
            self.path.write_bytes(header)
            self._lines = []
        else:
            *lines, torn = content.split(b"\n")
            self._check_header(lines)
            self._lines = lines[1:]
            if torn:
                warnings.warn(
                    f"{self.path}: the last line was torn when its sweep was killed; it is computed again",
                    RuntimeWarning,
                    stacklevel=4,
                )
                os.truncate(self.path, len(content) - len(torn))
        self._file = open(self.path, "ab")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _check_header(self, lines: list[bytes]) -> None:
        try:
            found = json.loads(lines[0])
            number_of_format = found["beyondlab sweep"]
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"save={str(self.path)!r}: must be a new file or one written by a sweep") from None
        if number_of_format != FORMAT:
            raise ValueError(f"save={str(self.path)!r}: has format {number_of_format!r}, must be {FORMAT}")
        for part in ("function", "grid", "seeds"):
            if found.get(part) != self._header[part]:
                raise ValueError(
                    f"save={str(self.path)!r}: must belong to this sweep, but has another {part}: "
                    f"{_short(found.get(part))}; here it is {_short(self._header[part])}"
                )

    def rows(self) -> Iterator[tuple[int, dict[str, Plain], int, Value, int]]:
        """Line number, point, seed, value and attempts of each saved job. Raises ValueError for a line that is not."""
        for line, text in enumerate(self._lines, 2):
            try:
                row = json.loads(text)
                value = row["value"]
                if isinstance(value, dict):
                    value = {name: number(name, one) for name, one in value.items()}
                else:
                    value = number("value", value)
                yield line, dict(row["point"]), int(row["seed"]), value, int(row["attempts"])
            except (ValueError, LookupError, TypeError):
                raise self.unreadable(line, "is not a row of a sweep") from None

    def unreadable(self, line: int, why: str) -> ValueError:
        """The error for a line of the file."""
        return ValueError(f"save={str(self.path)!r}: line {line} {why}")

    def add(self, point: dict[str, Plain], seed: int, value: Value, attempts: int) -> None:
        """Append a finished job, as one line in one write."""
        row = {"point": point, "seed": seed, "value": value, "attempts": attempts}
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")
        self._file.flush()


def _short(part: Any) -> str:
    if not isinstance(part, dict):
        return repr(part)
    shown = {name: value for name, value in part.items() if name != "digest"} | {"digest": str(part.get("digest"))[:12]}
    return ", ".join(f"{name} {shown[name]}" for name in sorted(shown, key=lambda name: (name == "digest", name)))
