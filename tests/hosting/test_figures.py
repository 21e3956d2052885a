"""The maps: a platform has one look on all of them, and nothing stands on the reader's star."""

from __future__ import annotations

import re

import numpy as np
import pytest

from beyondlab.hosting import costs, figures


@pytest.fixture(scope="module")
def own():
    mine = costs.Workload(rate=20, work=0.05, wait=0.15, vcpu=0.25, memory=512, cv=0.5)
    usable = [name for name in costs.PLATFORMS if name != "Fargate Spot"]
    return costs.cost_map(np.geomspace(0.01, 1000, 26), np.geomspace(0.1, 10, 13), usable, mine)


def test_a_platform_has_one_look_on_every_map():
    everywhere = figures._looks(["Fargate Spot", "Lambda, Arm", "Fargate"])
    here = figures._looks(["Lambda, Arm", "Cloud Run, requests"])
    assert everywhere["Lambda, Arm"] == here["Lambda, Arm"]
    assert len({look["facecolor"] for look in here.values()}) == 2


@pytest.mark.parametrize("cv", [0.2, 0.5, 2.0])
def test_no_name_of_a_region_covers_the_star(own, cv):
    svg = figures.own_map(own, rate=20, cv=cv).svg
    *_, star, _legend = (float(y) for y in re.findall(r'<use [^>]*y="([\d.]+)"', svg))
    names = [float(y) for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>([^<]+)</text>', svg) if text in own.shares()]
    assert len(names) >= 2
    assert all(abs(y - star) > 12 for y in names[:2]), (star, names)
