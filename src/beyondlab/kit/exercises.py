"""Predictions and checks for learners: a wrong answer is told what is wrong with it, in the learner's terms.

A check prints one or two short lines and returns a :class:`Verdict`. It never raises for a wrong answer: a notebook
with open exercises runs to its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beyondlab.kit import check
from beyondlab.kit.tables import quantity

_OPEN = "Not answered yet"


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check found. True if the answer passed; shows nothing, for the check has printed its message."""

    passed: bool
    message: str

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return ""

    def _ipython_display_(self) -> None:
        pass


def verdict(passed: bool, message: str) -> Verdict:
    """Print ``message`` and give the verdict: for checks that the ones below do not cover."""
    print(message)
    return Verdict(passed, message)


def _number(value: Any) -> float | None:
    """A finite number, or None. A bool and a text are no numbers."""
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _with_unit(value: float, unit: str) -> str:
    return f"{_plain(value)} {unit}".rstrip()


def _plain(value: float) -> str:
    """As :func:`quantity`, without a fraction where there is none."""
    return quantity(int(value) if value == int(value) and abs(value) < 1e15 else value)


@dataclass(frozen=True, repr=False)
class Prediction:
    """A guess, committed before anything runs. ``value`` is None while there is no valid one."""

    question: str
    value: float | None
    unit: str = ""

    def __repr__(self) -> str:
        return ""

    def reveal(self, actual: float) -> None:
        """Print how far off the guess was. Raises ValueError if ``actual`` is not a finite number."""
        truth = _number(actual)
        if truth is None:
            raise ValueError(f"actual={actual!r}: must be a finite number")
        found = _with_unit(truth, self.unit)
        if self.value is None:
            print(f"{self.question}\nIt is {found}. You made no guess: try one, and run the notebook again.")
        else:
            print(f"{self.question}\nYou said {_with_unit(self.value, self.unit)}, it is {found}. {self._comment(truth)}")

    def _comment(self, truth: float) -> str:
        guess = self.value
        if guess == truth or (truth and abs(guess / truth - 1) <= 0.1):
            return "Spot on."
        direction = "high" if guess > truth else "low"
        if guess * truth <= 0:
            points = "points" if self.unit == "%" else self.unit
            return f"Too {direction} by {_with_unit(abs(guess - truth), points)}."
        factor = max(guess / truth, truth / guess)
        if factor < 2:
            return f"Close: {quantity(factor, digits=2)} times too {direction}."
        if factor < 10:
            return f"The right order of magnitude: {quantity(factor, digits=2)} times too {direction}."
        return f"{quantity(factor, digits=2)} times too {direction}. That is why we measure."


def predict(
    question: str, value: float | None, *, unit: str = "", low: float = -math.inf, high: float = math.inf
) -> Prediction:
    """Commit a guess between ``low`` and ``high``, in ``unit``, and print it. None leaves the question open.

    A value that cannot be a guess is told so and not committed; nothing is raised. Raises ValueError only if ``low``
    is not under ``high``.
    """
    if not low < high:
        raise ValueError(f"low={low!r}: must be under high={high!r}")
    if value is None:
        print(f"{_OPEN}: {question} Replace None with your guess{f' in {unit}' if unit else ''}.")
        return Prediction(question, None, unit)
    guess = _number(value)
    if guess is None:
        print(f"Your guess must be a number, such as {_example(low, high)}; this is {value!r}.")
    elif not low <= guess <= high:
        print(f"Your guess must lie {_range(low, high, unit)}; this is {_with_unit(guess, unit)}.")
        guess = None
    else:
        print(f"Your guess: {_with_unit(guess, unit)}. We come back to it.")
    return Prediction(question, guess, unit)


def _example(low: float, high: float) -> str:
    return _plain((low + high) / 2) if math.isfinite(low) and math.isfinite(high) else "42"


def _range(low: float, high: float, unit: str) -> str:
    if math.isinf(high):
        return f"at {_with_unit(low, unit)} or above"
    if math.isinf(low):
        return f"at {_with_unit(high, unit)} or below"
    return f"between {_plain(low)} and {_with_unit(high, unit)}"


def check_number(
    answer: Any,
    expected: float,
    *,
    unit: str = "",
    rtol: float = 0.02,
    mistakes: Sequence[tuple[float | Callable[[float], bool], str]] = (),
    hint: str = "",
) -> Verdict:
    """Whether ``answer`` is ``expected`` within the relative tolerance ``rtol``.

    ``mistakes`` are known wrong answers (a number, within ``rtol`` too, or a predicate) with what to say to each.
    Raises ValueError for a negative ``rtol`` or an ``expected`` that is not finite.
    """
    truth = _number(expected)
    if truth is None:
        raise ValueError(f"expected={expected!r}: must be a finite number")
    check.non_negative("rtol", rtol)
    if answer is None:
        return verdict(False, f"{_OPEN}: replace None with a number{f' in {unit}' if unit else ''}.")
    given = _number(answer)
    if given is None:
        return verdict(False, _advise(f"A finite number{f' in {unit}' if unit else ''} is wanted; this is {answer!r}.", hint))
    if _near(given, truth, rtol):
        return verdict(True, f"Right: {_with_unit(truth, unit)}.")
    for mistake, explanation in mistakes:
        if mistake(given) if callable(mistake) else _near(given, mistake, rtol):
            return verdict(False, f"Not {_with_unit(given, unit)}. {explanation}")
    return verdict(False, _advise(f"Not {_with_unit(given, unit)}: {_distance(given, truth)}.", hint))


def _near(given: float, wanted: float, rtol: float) -> bool:
    return math.isclose(given, wanted, rel_tol=rtol, abs_tol=1e-12)


def _distance(given: float, truth: float) -> str:
    """How far off, without telling the answer."""
    direction = "high" if given > truth else "low"
    if given * truth < 0:
        return "the sign is wrong"
    if truth == 0 or given == 0:
        return f"too {direction}"
    factor = max(given / truth, truth / given)
    if factor < 1.5:
        return f"close, but too {direction}"
    question = {100: " (a share or per cent?)", 1000: " (the right unit?)"}
    suspicion = next((text for power, text in question.items() if math.isclose(factor, power, rel_tol=0.05)), "")
    return f"too {direction} by a factor of {quantity(factor, digits=2)}{suspicion}"


def _advise(message: str, hint: str) -> str:
    return f"{message}\nHint: {hint}" if hint else message


def check_function(
    function: Callable[..., Any] | None,
    cases: Iterable[Any],
    *,
    reference: Callable[..., Any] | None = None,
    rtol: float = 1e-9,
    hint: str = "",
) -> Verdict:
    """Whether ``function`` gives what is wanted on each of ``cases``; shows the first input on which it does not.

    With a ``reference``, a case is the tuple of arguments (or a single argument), and the reference says what is
    wanted. Without one, a case is a pair (arguments, wanted). Floats are compared within ``rtol``, inside lists, tuples
    and mappings too. Raises ValueError if there is no case.
    """
    cases = list(cases)
    if not cases:
        raise ValueError("cases=[]: a check needs at least one case")
    if function is None:
        return verdict(False, f"{_OPEN}: write the function.")
    if not callable(function):
        return verdict(False, _advise(f"A function is wanted; this is {function!r}.", hint))
    name = getattr(function, "__name__", "your function")
    for case in cases:
        arguments, wanted = (case, None) if reference else case
        arguments = arguments if isinstance(arguments, tuple) else (arguments,)
        call = f"{name}({', '.join(map(_short, arguments))})"
        if reference:
            wanted = reference(*arguments)
        try:
            given = function(*arguments)
        except Exception as error:  # whatever a learner's function raises
            return verdict(False, _advise(f"{call} raised {type(error).__name__}: {error}", hint))
        if given is None and wanted is not None:
            return verdict(False, _advise(f"{call} returned nothing. Is a return missing? Wanted: {_short(wanted)}", hint))
        if not _same(given, wanted, rtol):
            return verdict(False, _advise(f"{call} gave {_short(given)}, wanted {_short(wanted)}.", hint))
    return verdict(True, f"Right, on all {len(cases)} cases." if len(cases) > 1 else "Right.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]} … {text[-15:]}"


def _same(given: Any, wanted: Any, rtol: float) -> bool:
    if isinstance(wanted, (bool, str, bytes)) or wanted is None:
        return bool(type(given) is type(wanted) and given == wanted)
    if isinstance(wanted, Mapping):
        if not isinstance(given, Mapping) or given.keys() != wanted.keys():
            return False
        return all(_same(given[key], wanted[key], rtol) for key in wanted)
    if _is_sequence(wanted):
        if not _is_sequence(given) or len(given) != len(wanted):
            return False
        return all(_same(*pair, rtol) for pair in zip(given, wanted))
    number, truth = _number(given), _number(wanted)
    if truth is not None:
        return number is not None and _near(number, truth, rtol)
    return bool(given == wanted)


def _is_sequence(value: Any) -> bool:
    """A list, tuple or array of at least one dimension."""
    if isinstance(value, (str, bytes, Mapping)) or getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def check_choice(answer: Any, right: str, why: Mapping[str, str]) -> Verdict:
    """Whether ``answer`` names the ``right`` option; ``why`` says of every option what speaks for or against it.

    Capitals and surrounding blanks do not matter. Raises ValueError if ``right`` is not one of the options.
    """
    if right not in why:
        raise ValueError(f"right={right!r}: must be one of the options {', '.join(why)}")
    options = ", ".join(why)
    if answer is None:
        return verdict(False, f"{_OPEN}: choose one of {options}.")
    chosen = next((option for option in why if option.lower() == str(answer).strip().lower()), None)
    if chosen is None:
        return verdict(False, f"{answer!r} is not one of the options: {options}.")
    return verdict(chosen == right, f"{'Right' if chosen == right else f'Not {chosen}'}: {why[chosen]}")
