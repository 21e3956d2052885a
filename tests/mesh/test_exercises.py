"""Right answers pass, typical wrong ones are told what is wrong with them."""

import pytest

from beyondlab.mesh import exercises
from beyondlab.mesh.description import Limits, shop

RIGHT = shop().change("stock", mutual_tls=True, callers=("orders",), limits=Limits(requests=20), timeout=0.5)


@pytest.mark.parametrize(("check", "answer"), [
    (exercises.check_log, "Circuit breaker"), (exercises.check_tiers, 64), (exercises.check_replicas, 20),
    (exercises.check_safe_load, 90), (exercises.check_budget, lambda active, retrying: retrying < max(active // 5, 3)),
    (exercises.check_order, ["endpoints", "clusters", "routes", "old cluster removed"]),
    (exercises.check_policy, RIGHT), (exercises.check_fleet, 6.6),
])  # fmt: skip
def test_right_answers_pass(check, answer, capsys):
    assert check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize(("check", "answer", "says"), [
    (exercises.check_log, "time-out", "UT"), (exercises.check_log, "gremlins", "not one of the options"),
    (exercises.check_tiers, 4, "Its caller retries too"), (exercises.check_tiers, 27, "four attempts"), (exercises.check_tiers, 12, "multiply"),
    (exercises.check_replicas, 10, "are one"), (exercises.check_replicas, 19, "10.5 %"),
    (exercises.check_safe_load, 100 / 1.1, "retries included"), (exercises.check_safe_load, 0.9, "per cent"),
    (exercises.check_budget, lambda active, retrying: retrying < 0.2 * active, "wanted True"),
    (exercises.check_budget, lambda active, retrying: retrying <= max(active // 5, 3), "wanted False"),
    (exercises.check_order, ["routes", "endpoints", "clusters", "old cluster removed"], "503"),
    (exercises.check_order, ["endpoints", "clusters", "old cluster removed", "routes"], "old route"),
    (exercises.check_order, ["clusters", "endpoints", "routes", "old cluster removed"], "wait"),
    (exercises.check_order, ["endpoints"], "each of these once"),
    (exercises.check_policy, shop(), "mutual_tls"), (exercises.check_policy, "stock", "Description"),
    (exercises.check_policy, shop().change("stock", mutual_tls=True), "any identity"),
    (exercises.check_policy, RIGHT.change("stock", callers=("web",)), "web"),
    (exercises.check_policy, RIGHT.change("stock", methods=("GET", "POST")), "methods"),
    (exercises.check_policy, RIGHT.change("stock", limits=None), "20 requests"),
    (exercises.check_policy, RIGHT.change("stock", timeout=5.0), "0.5 s"),
    (exercises.check_policy, RIGHT.change("orders", timeout=1.0), "orders"),
    (exercises.check_fleet, 12.0, "sidecars"), (exercises.check_fleet, 3.6, "waypoint"), (exercises.check_fleet, 4.8, "two ztunnels"),
])  # fmt: skip
def test_wrong_answers_are_told_why(check, answer, says, capsys):
    assert not check(answer)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("check", [getattr(exercises, name) for name in dir(exercises) if name.startswith("check_") and name not in
                                   ("check_choice", "check_function", "check_number")])  # fmt: skip
def test_no_answer_is_no_error(check, capsys):
    assert not check(None)
    assert capsys.readouterr().out.startswith("Not answered yet")
