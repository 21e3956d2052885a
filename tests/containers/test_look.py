"""What a process reads about its walls."""

import os

import pytest
from beyondlab.containers import exercises, look

DOCKER = (
    "612 527 0:52 / / rw,relatime master:233 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:"
    "/var/lib/docker/overlay2/l/B:/var/lib/docker/overlay2/l/C,upperdir=/d/diff,workdir=/d/work\n"
    "613 612 0:55 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"
    "614 612 0:56 / /a\\040b rw - tmpfs tmpfs rw,size=64k\n615 612 0:57 / /é\\134 rw - tmpfs  rw\nnonsense\n"
)


def test_mounts_of_a_docker_container():
    found = look.mounts(DOCKER)
    assert [(m.path, m.kind) for m in found] == [("/", "overlay"), ("/proc", "proc"), ("/a b", "tmpfs"), ("/é\\", "tmpfs")]
    assert found[-1].options == "rw", "a file system without a source"
    assert look.overlay_layers(found[0].options) == 3
    assert look.overlay_layers("rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u") == 2
    assert look.overlay_layers("rw,size=64k") == 0


def test_capability_names():
    assert look.capability_names(0) == []
    assert look.capability_names(1) == ["chown"]
    assert set(look.capability_names(exercises.DOCKER_MASK)) == look.DOCKER_DEFAULT
    assert len(look.DOCKER_DEFAULT) == 14 and len(look.CAPABILITIES) == 41
    assert look.capability_names(1 << 50) == ["capability 50"]
    with pytest.raises(ValueError, match="mask=-1"):
        look.capability_names(-1)


def test_namespaces_of_this_process():
    if not os.path.isdir("/proc/self/ns"):
        pytest.skip("no namespaces here")
    assert look.namespaces() == look.namespaces(os.getpid())
    assert look.namespaces()["pid"] > 0


def test_around_says_something_of_every_wall(monkeypatch):
    rows = {row[0]: row[1] for row in look.around().rows}
    assert "namespaces" in rows and all(rows.values())
    monkeypatch.setattr(look, "_read", lambda path: {"/proc/self/mountinfo": DOCKER, "/proc/1/comm": "python\n",
        "/proc/self/status": "Seccomp:\t2\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n"}[path])
    rows = {row[0]: row[1] for row in look.around().rows}
    assert (rows["root file system"], rows["seccomp"], rows["process 1"]) == ("overlay, 3 layers", "filter", "no init system")
    assert rows["capabilities"].startswith("14 of 41 held")
