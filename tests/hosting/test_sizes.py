"""The rules of size, held to the vendors' tables and examples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.hosting import sizes
from beyondlab.hosting.sizes import GIB, Size, SizeError

# "Troubleshoot Amazon ECS task definition invalid CPU or memory errors", read 27 November 2026: CPU units -> least, most and
# step in MiB. The first row is a list: 512 MiB, 1 GB, 2 GB.
ECS_TABLE = [
    (512, 1024, 4096, 1024), (1024, 2048, 8192, 1024), (2048, 4096, 16384, 1024), (4096, 8192, 30720, 1024),
    (8192, 16384, 61440, 4096), (16384, 32768, 122880, 8192),
]  # fmt: skip


@pytest.mark.parametrize(("cpu", "least", "most", "step"), ECS_TABLE)
def test_fargate_sells_what_the_table_says_and_no_more(cpu, least, most, step):
    for memory in range(least - step + step // 2, most + 2 * step, step // 2):
        if least <= memory <= most and (memory - least) % step == 0:
            assert sizes.fargate(cpu, memory) == Size(cpu / 1024, memory)
        else:
            with pytest.raises(SizeError, match=f"memory={memory}"):
                sizes.fargate(cpu, memory)


def test_the_smallest_row():
    assert [m for m in range(256, 4096, 256) if m in sizes.FARGATE[256]] == [512, 1024, 2048]


def test_the_example_of_eks():
    """EKS, "Understand Fargate Pod configuration details": 1 vCPU and 8 GB, with 256 MB added, become 2 vCPU and 9 GB."""
    assert sizes.nearest("fargate", 1, 8 * GIB + 256) == Size(2, 9 * GIB)


@pytest.mark.parametrize(
    ("cpu", "memory", "near"),
    [(1024, 1024, Size(1, 2048)), (3072, 2048, Size(4, 8192)), (512, 5120, Size(1, 5120)), (16384, 500_000, Size(16, 122880))],
)
def test_an_error_names_argument_value_allowed_and_nearest(cpu, memory, near):
    with pytest.raises(SizeError, match=r"(cpu|memory)=\d+: .*must be .*nearest valid: ") as caught:
        sizes.fargate(cpu, memory)
    assert caught.value.nearest == near


def test_aci():
    assert sizes.aci(1, 1024) == Size(1, 1024) and sizes.aci(31, 240 * GIB) == Size(31, 240 * GIB)
    for vcpu, memory, near in [(0.5, 2048, Size(1, 2048)), (32, 2048, Size(31, 2048)), (2, 512, Size(2, 1024))]:
        with pytest.raises(SizeError) as caught:
            sizes.aci(vcpu, memory)
        assert caught.value.nearest == near


# Cloud Run, "Configure CPU limits", read 27 November 2026: vCPU -> memory from and to, MiB.
@pytest.mark.parametrize(
    ("cpu", "least", "most"), [(1, 128, 4096), (2, 128, 8192), (4, 2048, 16384), (6, 4096, 24576), (8, 4096, 32768)]
)
def test_cloud_run(cpu, least, most):
    assert sizes.cloud_run(cpu, least) == Size(cpu, least) and sizes.cloud_run(cpu, most) == Size(cpu, most)
    for memory in (least - 1, most + 1):
        with pytest.raises(SizeError, match="nearest valid"):
            sizes.cloud_run(cpu, memory)


def test_cloud_run_under_one_vcpu():
    assert sizes.cloud_run(0.08, 512, concurrency=1) == Size(0.08, 512)
    assert sizes.cloud_run(0.5, 1024, concurrency=1) == Size(0.5, 1024)
    with pytest.raises(ValueError, match=r"containerConcurrency=80: must be 1 with less than 1 vCPU"):
        sizes.cloud_run(0.5, 512)
    for cpu, memory, near in [(0.4, 600, Size(0.5, 600)), (0.07, 256, Size(0.08, 256)), (0.5, 1100, Size(1, 1100)), (3, 512, Size(4, 2048))]:
        with pytest.raises(SizeError) as caught:
            sizes.cloud_run(cpu, memory, concurrency=1)
        assert caught.value.nearest == near


def test_lambda():
    assert sizes.function(1769).vcpu == 1.0
    for memory in (127, 10_241, 512.5):
        with pytest.raises(SizeError):
            sizes.function(memory)


VALID = {
    "fargate": lambda s: sizes.fargate(round(s.vcpu * 1024), s.memory),
    "aci": lambda s: sizes.aci(s.vcpu, s.memory),
    "cloud run": lambda s: sizes.cloud_run(s.vcpu, s.memory, concurrency=1),
    "lambda": lambda s: sizes.function(s.memory),
}


@given(st.sampled_from(sorted(VALID)), st.floats(0.001, 40), st.integers(1, 300_000))
def test_the_nearest_is_valid_and_holds_the_need_where_any_does(platform, vcpu, memory):
    near = sizes.nearest(platform, vcpu, memory)
    assert VALID[platform](near) == near
    most = {"fargate": (16, 122880), "aci": (31, 240 * GIB), "cloud run": (8, 32 * GIB), "lambda": (10240 / 1769, 10240)}[platform]
    assert near.holds(vcpu, memory) or vcpu > most[0] or memory > most[1]


@given(st.floats(0.05, 16), st.integers(64, 122880))
def test_no_fargate_size_that_holds_the_need_is_cheaper(vcpu, memory):
    def usd(size):
        return 9 * size.vcpu + size.memory / GIB

    near = sizes.nearest("fargate", vcpu, memory)
    every = [Size(cpu / 1024, m) for cpu, row in sizes.FARGATE.items() for m in row]
    assert usd(near) == min(usd(size) for size in every if size.holds(vcpu, memory))


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True])
def test_bad_needs(value):
    with pytest.raises(ValueError, match="vcpu="):
        sizes.nearest("fargate", value, 512)
    with pytest.raises(ValueError, match="platform='ecs': must be one of fargate"):
        sizes.nearest("ecs", 1, 512)
