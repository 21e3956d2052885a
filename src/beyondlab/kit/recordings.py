"""Measurements of real components: taken now where the machine allows it, else the recorded ones, and always labelled.

A lab's recordings are one JSON file, ``beyondlab/recorded/<lab>.json``, or in the folder that the environment variable
``BEYONDLAB_RECORDINGS`` names. ``BEYONDLAB_RECORD=1`` writes what is measured into it (``make record``);
``BEYONDLAB_LABS=recorded`` shows the recordings even where the lab could run.
"""

from __future__ import annotations

import datetime
import functools
import json
import math
import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from beyondlab.kit import machine
from beyondlab.kit.tables import Table, quantity, table

MAX_SAMPLES = 200
"""Samples kept of one measurement in a recording."""

_MACHINE_KEYS = ("processor", "cores", "kernel", "virtualisation", "kvm", "python", "components")
_NUMBERS = re.compile(r"\[\s+([\d.eE+-]+(?:,\s+[\d.eE+-]+)*)\s+\]")
_FORCED = "BEYONDLAB_LABS=recorded asks for the recording"


class NoRecording(LookupError):
    """There is no recording to show, and the lab cannot run here."""


@dataclass(frozen=True)
class Measurement:
    """Repeated observations of one quantity, in ``unit``.

    ``value`` is their median, ``spread`` their 5th and 95th percentile (linear interpolation). Of a recording, these
    and ``repetitions`` describe all that was measured, while ``samples`` may be a thinned selection.

    Raises ValueError if there is no sample, one is not finite, or the unit is missing.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    summary: tuple[float, int, float, float] | None = field(default=None, repr=False)
    """Median, repetitions, 5th and 95th percentile where they were recorded; None to take them from the samples."""

    def __post_init__(self) -> None:
        if not (isinstance(self.unit, str) and self.unit):
            raise ValueError(f"unit={self.unit!r} of {self.name!r}: must say what is measured, such as 'ms'")
        object.__setattr__(self, "samples", tuple(float(sample) for sample in self.samples))
        if not self.samples or not all(map(math.isfinite, self.samples)):
            raise ValueError(f"samples={self.samples!r} of {self.name!r}: need at least one, all finite")

    @property
    def value(self) -> float:
        """The median."""
        return self.summary[0] if self.summary else statistics.median(self.samples)

    @property
    def repetitions(self) -> int:
        return self.summary[1] if self.summary else len(self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        """5th and 95th percentile."""
        if self.summary:
            return self.summary[2:]
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        cuts = statistics.quantiles(self.samples, n=20, method="inclusive")
        return cuts[0], cuts[-1]

    def __float__(self) -> float:
        return self.value


def measure(unit: str, samples: Sequence[float]) -> Measurement:
    """The ``samples`` of one quantity in ``unit``; the experiment that returns it gives the name."""
    return Measurement("", unit, tuple(samples))


class Result(Mapping[str, Any]):
    """What an experiment gave: name to :class:`Measurement`, or to a plain value. Shows itself with its label."""

    def __init__(self, experiment: str, values: Mapping[str, Any], *, live: bool, label: str) -> None:
        self.experiment, self.live, self.label = experiment, live, label
        self._values = {
            name: replace(value, name=name) if isinstance(value, Measurement) else value
            for name, value in values.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def table(self) -> Table:
        """The measurements and the plain values; lists and mappings are left out."""
        title = self.experiment.replace("_", " ")
        if not any(isinstance(value, Measurement) for value in self.values()):
            plain = [[name, value] for name, value in self.items() if isinstance(value, (str, bool, int, float))]
            return table([title, "found"], plain)
        rows = []
        for name, value in self.items():
            shown = name.replace("_", " ")
            if isinstance(value, Measurement):
                low, high = map(quantity, value.spread)
                rows.append([shown, quantity(value.value), f"{low}–{high}", quantity(value.repetitions), value.unit])
            elif isinstance(value, (str, bool, int, float)):
                rows.append([shown, value, "", "", ""])
        return table([title, "median", "p5–p95", "n", "unit"], rows, align="lrrrl")

    def _repr_markdown_(self) -> str:
        return f"**{self.label}**\n\n{self.table()._repr_markdown_()}"

    def __repr__(self) -> str:
        return f"{self.label}\n{self.table()!r}"


class Lab:
    """The experiments of one chapter and their recordings.

    ``missing`` says why the lab cannot run here, or None. ``components`` are the distributions whose versions are
    recorded; ``binaries`` maps further components to their version, or to a function that finds it.
    """

    def __init__(
        self,
        name: str,
        *,
        missing: Callable[[], str | None],
        components: Sequence[str] = (),
        binaries: Mapping[str, str | Callable[[], str]] | None = None,
    ) -> None:
        _file(name)
        self.name, self._missing = name, missing
        self._components, self._binaries = tuple(components), dict(binaries or {})

    def experiment(self, function: Callable[..., Mapping[str, Any]]) -> Callable[..., Result]:
        """Make ``function`` an experiment: it measures where it can and gives the recording where it cannot.

        Recordings are of a call without arguments. With arguments it is measured, but never recorded; where it cannot
        be measured, the label of the recording says that they were not used. Raises :class:`NoRecording` when there is
        neither a way to measure nor a recording.
        """

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Result:
            reason = self._reason()
            if reason is None:
                values = function(*args, **kwargs)
                origin = self._origin()
                label = f"Measured here on {_where_and_when(_today(), origin)}"
                result = Result(function.__name__, values, live=True, label=label)
                if os.environ.get("BEYONDLAB_RECORD") == "1" and not (args or kwargs):
                    _write(self.name, function.__name__, result, origin)
                return result
            if args or kwargs:
                reason += ". Recorded with the arguments of the course, not with yours"
            return self._recorded(function.__name__, reason)

        return run

    def _reason(self) -> str | None:
        reason = self._missing()
        if reason is None and os.environ.get("BEYONDLAB_LABS") == "recorded":
            return _FORCED
        return reason

    def _recorded(self, experiment: str, reason: str) -> Result:
        file = _file(self.name)
        found = read(self.name).results.get(experiment) if file.exists() else None
        if found is None:
            raise NoRecording(
                f"{self.name} has no recording of {experiment!r} in {file.name}, and it cannot be measured here: "
                f"{reason}. Take one on a machine that can: make record"
            )
        return Result(experiment, found, live=False, label=f"{found.label}. Not measured now: {reason}")

    def _origin(self) -> dict[str, Any]:
        here = machine.look()
        versions = {name: metadata.version(name) for name in self._components}
        versions |= {name: found() if callable(found) else found for name, found in self._binaries.items()}
        return {
            "processor": here.processor,
            "cores": here.cores,
            "kernel": f"{here.os} {here.kernel}",
            "virtualisation": here.virtualisation,
            "kvm": here.kvm,
            "python": here.python,
            "components": dict(sorted(versions.items())),
        }


@dataclass(frozen=True)
class Recording:
    """All recorded experiments of one lab. Shows itself as one labelled table an experiment."""

    lab: str
    results: Mapping[str, Result]

    def _repr_markdown_(self) -> str:
        return "\n\n".join(result._repr_markdown_() for result in self.results.values())


def read(lab: str) -> Recording:
    """The recordings of one lab.

    Raises :class:`NoRecording` if there is no file, and ValueError, naming file and key, if the file lacks something.
    """
    file = _file(lab)
    try:
        document = json.loads(file.read_text())
    except FileNotFoundError:
        raise NoRecording(f"there is no recording {file.name}. Take it with: make record") from None
    except ValueError as error:
        raise ValueError(f"{file.name}: not JSON: {error}") from error
    results = {}
    for name, entry in _get(document, "experiments", dict, file.name).items():
        where = f"{file.name}: experiments.{name}"
        origin = _get(entry if "machine" in entry else document, "machine", dict, where)
        for key in _MACHINE_KEYS:
            _get(origin, key, object, f"{where}: machine")
        values = {
            key: _measurement(key, value, f"{where}.values.{key}") if _is_measurement(value) else value
            for key, value in _get(entry, "values", dict, where).items()
        }
        results[name] = Result(name, values, live=False, label=_label(_date(entry, where), origin))
    return Recording(lab, results)


def every() -> Iterator[Recording]:
    """All recordings there are, by name of the lab."""
    for file in sorted(_folder().glob("*.json")):
        yield read(file.stem)


def _folder() -> Path:
    return Path(os.environ.get("BEYONDLAB_RECORDINGS") or Path(__file__).parents[1] / "recorded")


def _file(lab: str) -> Path:
    if not lab or Path(lab).name != lab or lab.startswith("."):
        raise ValueError(f"lab={lab!r}: must be a plain file name, such as 'aws-lambda'")
    return _folder() / f"{lab}.json"


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _label(date: datetime.date, origin: Mapping[str, Any]) -> str:
    return f"RECORDED on {_where_and_when(date, origin)}"


def _where_and_when(date: datetime.date, origin: Mapping[str, Any]) -> str:
    parts = [date.isoformat(), origin["processor"], origin["kernel"], origin["virtualisation"]]
    if origin["kvm"] == "emulated":
        parts.append("emulated KVM")
    parts += [f"{name} {version}" for name, version in origin["components"].items()]
    return ", ".join(parts)


def _get(mapping: Any, key: str, kind: type, where: str) -> Any:
    value = mapping.get(key) if isinstance(mapping, dict) else None
    if value is None or not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{where}: {key!r} is missing or not a {kind.__name__}")
    return value


def _date(entry: dict[str, Any], where: str) -> datetime.date:
    text = _get(entry, "date", str, where)
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{where}: 'date' is {text!r}, not a day like 2026-11-23") from error


def _is_measurement(value: Any) -> bool:
    return isinstance(value, dict) and "samples" in value


def _measurement(name: str, value: dict[str, Any], where: str) -> Measurement:
    unit = _get(value, "unit", str, where)
    samples = _get(value, "samples", list, where)
    median = _get(value, "value", float, where)
    repetitions = _get(value, "repetitions", int, where)
    spread = _get(value, "spread", list, where)
    if len(spread) != 2:
        raise ValueError(f"{where}: 'spread' is {spread!r}, not the 5th and the 95th percentile")
    try:
        return Measurement(name, unit, tuple(samples), (median, repetitions, *spread))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def _significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def _document(measurement: Measurement) -> dict[str, Any]:
    samples = measurement.samples
    if len(samples) > MAX_SAMPLES:
        samples = [samples[i * (len(samples) - 1) // (MAX_SAMPLES - 1)] for i in range(MAX_SAMPLES)]
    return {
        "value": _significant(measurement.value),
        "unit": measurement.unit,
        "repetitions": measurement.repetitions,
        "spread": [_significant(bound) for bound in measurement.spread],
        "samples": [_significant(sample) for sample in samples],
    }


def _write(lab: str, experiment: str, result: Result, origin: dict[str, Any]) -> None:
    """Merge one experiment into the lab's file. Older ones of another machine keep the machine they came from."""
    file = _file(lab)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.parent):
        document = json.loads(file.read_text()) if file.exists() else {"machine": origin, "experiments": {}}
        experiments = document["experiments"]
        if document["machine"] != origin:
            for entry in experiments.values():
                entry.setdefault("machine", document["machine"])
                if entry["machine"] == origin:
                    del entry["machine"]
        experiments[experiment] = {
            "date": _today().isoformat(),
            "values": {
                name: _document(value) if isinstance(value, Measurement) else value for name, value in result.items()
            },
        }
        text = json.dumps({"machine": origin, "experiments": dict(sorted(experiments.items()))}, indent=1)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(_compact_lists(text) + "\n")
            os.chmod(temporary, 0o644)
            os.replace(temporary, file)
        except BaseException:
            os.unlink(temporary)
            raise


def _compact_lists(text: str) -> str:
    """One line for each list of numbers, as ``json.dumps(indent=1)`` would not have it."""
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers of this folder out, also those of other processes, where the system can."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
