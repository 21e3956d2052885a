"""Karmada's division, held to its own tests, and the older rule to the tests that it had.

Webster: karmada-io/karmada ``pkg/util/helper/webstermethod_test.go`` (TestAllocateWebsterSeats) as of commit f3c4376; before,
ties were broken by votes, and round 6 gave PartyA the seat. The rule before 1.16:
``pkg/scheduler/core/division_algorithm_test.go`` (Test_dispenser_takeByWeight, Test_divideReplicasByPreference) as of
commit 8d9780f.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.fleets.division import NotEnoughRoom, aggregated, floor_and_rest, largest_remainder, losses, webster, weighted_by_room

PARTIES = {"PartyA": 100000, "PartyB": 80000, "PartyC": 30000, "PartyD": 20000}


@pytest.mark.parametrize(("new", "votes", "initial", "expected"), [
    (4, {"Alpha": 1200, "Beta": 900, "Gamma": 400}, None, {"Alpha": 2, "Beta": 1, "Gamma": 1}),
    (1, PARTIES, None, {"PartyA": 1, "PartyB": 0, "PartyC": 0, "PartyD": 0}),
    (2, PARTIES, None, {"PartyA": 1, "PartyB": 1, "PartyC": 0, "PartyD": 0}),
    (3, PARTIES, None, {"PartyA": 2, "PartyB": 1, "PartyC": 0, "PartyD": 0}),
    (4, PARTIES, None, {"PartyA": 2, "PartyB": 1, "PartyC": 1, "PartyD": 0}),
    (5, PARTIES, None, {"PartyA": 2, "PartyB": 2, "PartyC": 1, "PartyD": 0}),
    (6, PARTIES, None, {"PartyA": 2, "PartyB": 2, "PartyC": 1, "PartyD": 1}),
    (7, PARTIES, None, {"PartyA": 3, "PartyB": 2, "PartyC": 1, "PartyD": 1}),
    (8, PARTIES, None, {"PartyA": 3, "PartyB": 3, "PartyC": 1, "PartyD": 1}),
    (1, {}, None, {}),
    (0, {"PartyA": 100, "PartyB": 200}, None, {"PartyA": 0, "PartyB": 0}),
    (0, {}, None, {}),
    (1, {"PartyA": 3, "PartyB": 1}, {"PartyA": 1, "PartyB": 0}, {"PartyA": 1, "PartyB": 1}),
    (1, {"PartyA": 1, "PartyB": 1}, None, {"PartyA": 1, "PartyB": 0}),
    (2, {"NewParty1": 1, "NewParty2": 1}, {"OldParty": 0}, {"NewParty1": 1, "NewParty2": 1, "OldParty": 0}),
    (2, {"OldParty": 1, "NewParty": 1}, {"OldParty": 1}, {"NewParty": 2, "OldParty": 1}),
    (2, {"PartyA": 100}, {"PartyB": 3}, {"PartyA": 2, "PartyB": 3}),
])  # fmt: skip
def test_webster_as_karmada_tests_it(new, votes, initial, expected):
    assert webster(new, votes, initial) == expected


@pytest.mark.parametrize(("first", "expected"), [(str, {"PartyA": 1, "PartyB": 0}), (lambda n: -ord(n[-1]), {"PartyA": 0, "PartyB": 1})])
def test_the_tie_breaker_decides(first, expected):
    assert webster(1, {"PartyA": 1, "PartyB": 1}, first=first) == expected


@pytest.mark.parametrize(("new", "expected"), [
    (6, {"A": 2, "B": 4, "C": 6}), (3, {"A": 1, "B": 3, "C": 5}), (2, {"A": 1, "B": 2, "C": 5}),
])  # fmt: skip
def test_the_older_rule_as_karmada_tested_it(new, expected):
    assert floor_and_rest(new, {"A": 1, "B": 2, "C": 3}, {"A": 1, "B": 2, "C": 3}) == expected


@pytest.mark.parametrize(("replicas", "weights", "expected"), [
    (12, {"member1": 18, "member2": 12, "member3": 6}, {"member1": 6, "member2": 4, "member3": 2}),
    (12, {"member1": 20, "member2": 12, "member3": 6}, {"member1": 7, "member2": 4, "member3": 1}),
    (12, {"member1": 6, "member2": 12, "member3": 6}, {"member1": 3, "member2": 6, "member3": 3}),
    (14, {"member1": 3, "member2": 2, "member3": 1}, {"member1": 8, "member2": 4, "member3": 2}),
    (12, {"member1": 1, "member2": 1, "member3": 1}, {"member1": 4, "member2": 4, "member3": 4}),
])  # fmt: skip
def test_the_older_rule_by_weights(replicas, weights, expected):
    assert floor_and_rest(replicas, weights) == expected


@pytest.mark.parametrize(("replicas", "room", "expected"), [
    (12, {"member2": 12, "member1": 6, "member3": 6}, {"member2": 12}),
    (12, {"member1": 6, "member2": 6, "member3": 6}, {"member1": 6, "member2": 6}),
    (12, {"member1": 12, "member2": 8, "member3": 10}, {"member1": 12}),
])  # fmt: skip
def test_aggregation_uses_as_few_clusters_as_it_can(replicas, room, expected):
    assert aggregated(replicas, room.items()) == expected


def test_no_room_is_said():
    with pytest.raises(NotEnoughRoom, match="max 9 replicas"):
        aggregated(12, {"a": 3, "b": 3, "c": 3}.items())
    with pytest.raises(NotEnoughRoom, match="max 9 replicas"):
        weighted_by_room(12, {"a": 3, "b": 3, "c": 3})
    with pytest.raises(NotEnoughRoom, match="2 of 6"):
        webster(6, {"a": 1, "b": 1}, room={"a": 2, "b": 2})
    with pytest.raises(ValueError, match="replicas=-1"):
        webster(-1, {"a": 1})
    with pytest.raises(ValueError, match="weights"):
        webster(1, {"a": -1})


def test_the_paradox_of_the_older_rule():
    weights = {"a": 6, "b": 4, "c": 3}
    assert floor_and_rest(4, weights)["b"] == 2 and floor_and_rest(5, weights)["b"] == 1
    assert losses(floor_and_rest, weights, 30) and not losses(webster, weights, 30)


def test_hamiltons_rule_has_it_too():
    """The Alabama paradox: largest remainders."""
    assert losses(largest_remainder, {"a": 5, "b": 3, "c": 1}, 30)[0] == (5, "c")


WEIGHTS = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 50), min_size=1, max_size=6).filter(lambda w: sum(w.values()) > 0)


@given(WEIGHTS, st.integers(0, 60))
def test_webster_gives_all_and_never_takes_away(weights, total):
    before, after = webster(total, weights), webster(total + 1, weights)
    assert sum(before.values()) == total
    assert all(after[name] >= before[name] for name in weights)


@given(WEIGHTS, st.integers(0, 40), st.integers(0, 40))
def test_webster_in_two_steps_is_webster_in_one(weights, first, second):
    assert webster(second, weights, webster(first, weights)) == webster(first + second, weights)


@given(WEIGHTS, st.integers(0, 60))
def test_no_two_clusters_could_swap_and_be_nearer(weights, total):
    """Webster's own optimality: moving one replica does not make weights per replica more equal."""
    got = webster(total, weights)
    for gives in weights:
        for takes in weights:
            if gives != takes and got[gives]:
                assert weights[gives] / (2 * got[gives] - 1) >= weights[takes] / (2 * got[takes] + 1) - 1e-9


@given(WEIGHTS, st.integers(0, 60))
def test_the_older_rule_gives_all_too(weights, total):
    assert sum(floor_and_rest(total, weights).values()) == total
