import numpy as np
import pytest
from beyondlab.kit.exercises import check_choice, check_function, check_number, predict


def said(capsys) -> str:
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("value", "kept", "text"),
    [
        (30, 30, "Your guess: 30 %. We come back to it."),
        (0.5, 0.5, "Your guess: 0.500 %. We come back to it."),
        (130, None, "Your guess must lie between 0 and 100 %; this is 130 %."),
        ("30", None, "Your guess must be a number, such as 50; this is '30'."),
        (float("nan"), None, "Your guess must be a number, such as 50; this is nan."),
        (True, None, "Your guess must be a number, such as 50; this is True."),
        (None, None, "Not answered yet: How many? Replace None with your guess in %."),
    ],
)
def test_predict(capsys, value, kept, text):
    guess = predict("How many?", value, unit="%", low=0, high=100)
    assert (guess.value, said(capsys), repr(guess)) == (kept, text, "")


def test_predict_with_one_bound(capsys):
    predict("How long?", -1, unit="s", low=0)
    assert said(capsys) == "Your guess must lie at 0 s or above; this is -1 s."
    with pytest.raises(ValueError, match="low=2"):
        predict("How long?", 1, low=2, high=1)


@pytest.mark.parametrize(
    ("guess", "actual", "comment"),
    [
        (10, 10, "Spot on."),
        (10.9, 10, "Spot on."),
        (15, 10, "Close: 1.5 times too high."),
        (3, 10, "The right order of magnitude: 3.3 times too low."),
        (50, 0.5, "100 times too high. That is why we measure."),
        (30, 0, "Too high by 30 points."),
        (0, 2, "Too low by 2 points."),
    ],
)
def test_reveal(capsys, guess, actual, comment):
    prediction = predict("How many?", guess, unit="%", low=0, high=100)
    said(capsys)
    prediction.reveal(actual)
    first, second = said(capsys).split("\n")
    assert first == "How many?"
    assert second.startswith("You said ") and second.endswith(comment)


def test_reveal_without_a_guess(capsys):
    prediction = predict("How many?", None, unit="%")
    said(capsys)
    prediction.reveal(np.float64(0.25))
    assert said(capsys) == "How many?\nIt is 0.250 %. You made no guess: try one, and run the notebook again."
    with pytest.raises(ValueError, match="actual='x'"):
        prediction.reveal("x")


MISTAKES = [(50, "You left out the init phase."), (lambda x: x < 0, "A time is never negative.")]


@pytest.mark.parametrize(
    ("answer", "passed", "text"),
    [
        (200, True, "Right: 200 ms."),
        (np.float64(201), True, "Right: 200 ms."),
        (None, False, "Not answered yet: replace None with a number in ms."),
        ("200", False, "A finite number in ms is wanted; this is '200'.\nHint: add up"),
        (float("inf"), False, "A finite number in ms is wanted; this is inf.\nHint: add up"),
        (np.array([1, 2]), False, "A finite number in ms is wanted; this is array([1, 2]).\nHint: add up"),
        (50.5, False, "Not 50.5 ms. You left out the init phase."),
        (-7, False, "Not -7 ms. A time is never negative."),
        (0.2, False, "Not 0.200 ms: too low by a factor of 1,000 (the right unit?).\nHint: add up"),
        (20_000, False, "Not 20,000 ms: too high by a factor of 100 (a share or per cent?).\nHint: add up"),
        (220, False, "Not 220 ms: close, but too high.\nHint: add up"),
        (600, False, "Not 600 ms: too high by a factor of 3.0.\nHint: add up"),
        (0, False, "Not 0 ms: too low.\nHint: add up"),
    ],
)
def test_check_number(capsys, answer, passed, text):
    verdict = check_number(answer, 200, unit="ms", mistakes=MISTAKES, hint="add up")
    assert said(capsys) == text == verdict.message
    assert (bool(verdict), verdict.passed, repr(verdict)) == (passed, passed, "")
    assert passed or " 200 " not in text, "a hint must not tell the answer"


def test_check_number_wrong_sign(capsys):
    assert not check_number(-3.0, 3.0)
    assert said(capsys) == "Not -3: the sign is wrong."


@pytest.mark.parametrize(("arguments", "message"), [({"expected": None}, "expected=None"), ({"expected": 1, "rtol": -1}, "rtol=-1")])
def test_check_number_is_used_well(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_number(1, **arguments)


def square(x):
    return x * x


@pytest.mark.parametrize(
    ("function", "passed", "text"),
    [
        (square, True, "Right, on all 3 cases."),
        (lambda x: x**2 * (1 + 1e-12), True, "Right, on all 3 cases."),
        (None, False, "Not answered yet: write the function."),
        (7, False, "A function is wanted; this is 7.\nHint: multiply"),
        (lambda x: 2 * x, False, "<lambda>(1) gave 2, wanted 1.\nHint: multiply"),
        (lambda x: 1 / x, False, "<lambda>(0) raised ZeroDivisionError: division by zero\nHint: multiply"),
        (lambda x: None, False, "<lambda>(0) returned nothing. Is a return missing? Wanted: 0\nHint: multiply"),
        (lambda x: "0", False, "<lambda>(0) gave '0', wanted 0.\nHint: multiply"),
        (lambda: 0, False, "<lambda>(0) raised TypeError: "),
    ],
)
def test_check_function(capsys, function, passed, text):
    verdict = check_function(function, [0, 1, (5,)], reference=square, hint="multiply")
    assert said(capsys).startswith(text)
    assert bool(verdict) == passed


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ([1, 2.0], (1.0, 2), True),
        (np.array([1.0, 2.0]), [1, 2], True),
        ([1, 2, 3], [1, 2], False),
        ({"a": [1.0]}, {"a": [1 + 1e-13]}, True),
        ({"a": 1}, {"b": 1}, False),
        (True, 1, False),
        (1, True, False),
        ("cold", "cold", True),
        (np.float64(2), 2, True),
        (None, [1], False),
        ("ab", ["a", "b"], False),
    ],
)
def test_comparison(given, wanted, same):
    assert bool(check_function(lambda _: given, [(0, wanted)])) == same


def test_check_function_is_used_well():
    with pytest.raises(ValueError, match=r"cases=\[\]"):
        check_function(square, [])


WHY = {"VM": "it boots a kernel of its own", "process": "it shares the kernel"}


@pytest.mark.parametrize(
    ("answer", "passed", "text"),
    [
        ("VM", True, "Right: it boots a kernel of its own"),
        (" vm ", True, "Right: it boots a kernel of its own"),
        ("process", False, "Not process: it shares the kernel"),
        ("pod", False, "'pod' is not one of the options: VM, process."),
        (None, False, "Not answered yet: choose one of VM, process."),
    ],
)
def test_check_choice(capsys, answer, passed, text):
    assert bool(check_choice(answer, "VM", WHY)) == passed
    assert said(capsys) == text


def test_check_choice_is_used_well():
    with pytest.raises(ValueError, match="right='pod'"):
        check_choice("VM", "pod", WHY)
