from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.hosting import placement
from beyondlab.hosting.placement import Host

NEEDS = st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), st.sampled_from([512, 1024, 4096, 16384])), max_size=60)


def hosts(*free):
    """Hosts of 8 vCPU and 16 GiB with so much left of each."""
    made = []
    for number, (cpu, memory) in enumerate(free):
        host = Host(str(number), 8, 16384)
        if (cpu, memory) != (8, 16384):
            host.take("other", 8 - cpu, 16384 - memory)
        made.append(host)
    return made


def test_each_policy_by_hand():
    free = hosts((8, 16384), (2, 12288), (4, 4096))
    assert placement.first_fit(free, 1, 1024).name == "0"
    assert placement.best_fit(free, 1, 1024).name == "2"
    assert placement.dominant(free, 2, 1024).name == "1"  # CPU dominates: a quarter of it against a sixteenth
    assert placement.dominant(free, 1, 4096).name == "2"  # memory dominates
    assert all(policy(free, 9, 1024) is None for policy in placement.POLICIES.values())


def test_a_host_gives_no_more_than_it_has():
    host = Host("h", 1, 1024)
    host.take("a", 0.5, 512)
    with pytest.raises(ValueError, match="is on h already"):
        host.take("a", 0.1, 1)
    with pytest.raises(ValueError, match=r"h has 0.5 vCPU and 512 MiB left"):
        host.take("b", 0.6, 512)
    host.release("a")
    assert host.free == (1, 1024)


@given(NEEDS, st.sampled_from(sorted(placement.POLICIES)))
def test_nothing_is_lost_and_no_host_is_over_full(needs, policy):
    used = placement.pack(needs, policy, vcpu=8, memory=16384)
    assert sorted(share for host in used for share in host.tasks.values()) == sorted(needs)
    assert all(host.free[0] >= -1e-9 and host.free[1] >= 0 for host in used)
    assert len(used) >= placement.least_hosts(needs, vcpu=8, memory=16384)


@given(st.lists(st.integers(1, 100), max_size=80))
def test_first_fit_in_one_dimension_leaves_no_two_hosts_half_empty(sizes):
    """Why first fit needs at most twice the least (Johnson 1974): all hosts but one are over half full."""
    used = placement.pack([(size / 100, 1) for size in sizes], "first fit", vcpu=1.0, memory=10_000)
    assert sum(host.free[0] >= 0.5 + 1e-6 for host in used) <= 1


def test_what_first_fit_does_wrong():
    """Small, then large: first fit needs a host more than the least, and not if the largest come first."""
    needs = [(0.4, 1)] * 2 + [(0.6, 1)] * 2
    assert len(placement.pack(needs, "first fit", vcpu=1.0, memory=100)) == 3
    assert len(placement.pack(sorted(needs, reverse=True), "first fit", vcpu=1.0, memory=100)) == 2
    assert placement.least_hosts(needs, vcpu=1.0, memory=100) == 2


def test_errors():
    with pytest.raises(ValueError, match="policy='worst': must be one of first fit"):
        placement.pack([], "worst", vcpu=1, memory=1)
    with pytest.raises(ValueError, match="has 1 vCPU"):
        placement.pack([(2, 1)], "best fit", vcpu=1, memory=1)
    with pytest.raises(ValueError, match="vcpu=0: must be a finite number greater than 0"):
        Host("h", 0, 1)
