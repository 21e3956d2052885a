"""Right answers pass, typical wrong ones are told why, open ones are told so."""

import math

import pytest

from beyondlab.fleets import exercises as e


def next_cluster(weights, replicas):
    return min(weights, key=lambda name: (-weights[name] / (2 * replicas[name] + 1), replicas[name], name))


def desired(usage, request, target):
    known = [u for u in usage if u is not None]
    ratio = lambda values: int(100 * sum(values) / (request * len(values))) / target  # noqa: E731
    first = ratio(known)
    values = [u if u is not None else (request if first < 1 else 0) for u in usage]
    second = ratio(values)
    if abs(1 - second) <= 0.1 or (first - 1) * (second - 1) < 0:
        return len(usage)
    wanted = math.ceil(second * len(usage))
    return len(usage) if (second < 1 and wanted > len(usage)) else wanted


def reconcile(wanted, running):
    return wanted - running, running - wanted


def fence(writes):
    return [write for i, write in enumerate(writes) if any(other[2] > write[2] for other in writes[:i])]


RIGHT = [
    (e.check_capacity, 400 / 3), (e.check_next_cluster, next_cluster), (e.check_desired, desired), (e.check_reconcile, reconcile),
    (e.check_policy, {"ledger": {"affinity": {"data": "stays"}}, "web": {"objective": "cost", "at_least": 2}}),
    (e.check_lease, {"duration": 8, "deadline": 6, "retry": 1}), (e.check_flapping, "gitops"), (e.check_common, 0.5),
    (e.check_fence, fence),
]  # fmt: skip


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda x: getattr(x, "__name__", ""))
def test_right(check, answer, capsys):
    assert check(answer)
    assert capsys.readouterr().out.startswith("Right")


@pytest.mark.parametrize("check", [check for check, _ in RIGHT], ids=lambda x: x.__name__)
def test_open(check, capsys):
    assert not check(None)
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize(("check", "answer", "said"), [
    (e.check_capacity, 125, "each a third"), (e.check_capacity, 33.3, "each of the four"), (e.check_capacity, 200, "two clusters"),
    (e.check_next_cluster, lambda w, r: max(w, key=w.get), "wanted"), (e.check_next_cluster, lambda w, r: None, "returned nothing"),
    (e.check_desired, lambda u, r, t: math.ceil(sum(x or 0 for x in u) / len(u) / r * 100 / t * len(u)), "wanted"),
    (e.check_reconcile, lambda w, r: (w, r - w), "although it runs"), (e.check_reconcile, lambda w, r: (w - r, set()), "run."),
    (e.check_reconcile, lambda w, r: (w - r, {"nobody"}), "although it does not run"), (e.check_reconcile, lambda w, r: None, "raised"),
    (e.check_policy, {"ledger": {}, "web": {}}, "must stay"), (e.check_policy, {"ledger": {"affinity": {"data": "stays"}}, "web": {"objective": "cost"}}, "survive"),
    (e.check_policy, {"ledger": {"affinity": {"data": "stays"}}, "web": {}}, "need not"),
    (e.check_policy, {"ledger": {"affinity": {"data": "stays"}}, "web": {"affinity": {"kind": "cloud"}}}, "Cheaper"), (e.check_policy, {"ledger": {"x": 1}, "web": {}}, "Not yet"),
    (e.check_lease, {"duration": 15, "deadline": 10, "retry": 2}, "Too slow"), (e.check_lease, {"duration": 8, "deadline": 4, "retry": 2}, "nervous"),
    (e.check_lease, {"duration": 8, "deadline": 7.5, "retry": 1}, "Too tight"), (e.check_lease, {"duration": 1, "deadline": 2, "retry": 1}, "Not yet"),
    (e.check_flapping, "autoscaler", "steady"), (e.check_flapping, "nobody", "not one of the options"), (e.check_common, 50, "per cent"),
    (e.check_fence, lambda writes: [w for w in writes if w[2] < writes[-1][2]], "wanted"), (e.check_fence, lambda writes: None, "returned nothing"),
])  # fmt: skip
def test_wrong(check, answer, said, capsys):
    assert not check(answer)
    assert said in capsys.readouterr().out
