"""Whole clusters: controllers that lose events, nodes without a control plane, a fleet that loses a cluster, two writers."""

import os
import signal
import time

import psutil
import pytest

from beyondlab.fleets import lab, lease
from beyondlab.fleets.client import ApiError
from beyondlab.fleets.lab import Cluster, Fleet, deployment, lose_and_regain, split_brain
from beyondlab.fleets.links import Link
from beyondlab.kit import processes
from beyondlab.kit.processes import wait_until

pytestmark = pytest.mark.skipif(lab.missing() is not None and os.environ.get("CI") != "true", reason=str(lab.missing()))


@pytest.fixture(scope="module", autouse=True)
def nothing_left():
    before = set(processes.carriers(processes.owner_token()))
    yield
    assert set(processes.carriers(processes.owner_token())) <= before


@pytest.fixture(scope="module")
def cluster():
    with Cluster("c", nodes=2, relist=1.0) as one:
        yield one


def pod(name, *command, policy="Never", **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "restartPolicy": policy, "containers": [{"name": name, "image": "none", "command": list(command)}], **spec}}  # fmt: skip


def until(probe, what, timeout=30):
    return wait_until(probe, timeout=timeout, what=what, interval=0.02)


def get(cluster, name):
    return cluster.client.get("pods", name, "default")


def gone(cluster, name):
    try:
        get(cluster, name)
    except ApiError as error:
        return error.code == 404
    return False


def test_a_deployment_becomes_processes_on_both_nodes_and_goes_again(cluster):
    cluster.client.create("deployments", deployment("web", 4), "default")
    until(lambda: cluster.ready("web") == 4 == cluster.running(), "four pods")
    assert sorted(len(node.running()) for node in cluster.nodes) == [2, 2], "the scheduler spreads"
    assert all(psutil.pid_exists(pid) for node in cluster.nodes for pid in node.running())
    cluster.client.patch("deployments", "web", {"spec": {"replicas": 1}}, "default")
    until(lambda: cluster.running() == 1, "one pod")
    until(lambda: cluster.client.get("deployments", "web", "default")["status"].get("readyReplicas") == 1, "the status to follow")
    cluster.client.delete("deployments", "web", "default")
    until(lambda: cluster.running() == 0 and not cluster.client.list("replicasets", "default"), "everything to be collected")


def test_a_new_template_replaces_the_pods(cluster):
    cluster.client.create("deployments", deployment("roll", 2), "default")
    until(lambda: cluster.ready("roll") == 2, "two pods")
    old = {pid for node in cluster.nodes for pid in node.running()}
    cluster.client.apply("deployments", deployment("roll", 2, ("sleep", "599")), manager="test", force=True, namespace="default")
    until(lambda: cluster.ready("roll") == 2 == cluster.running() and not old & {pid for node in cluster.nodes for pid in node.running()}, "two new ones")
    cluster.client.delete("deployments", "roll", "default")
    until(lambda: cluster.running() == 0, "them to be gone")


def test_phases_and_restart_policies(cluster):
    cluster.client.create("pods", pod("good", "true"), "default")
    cluster.client.create("pods", pod("bad", "false"), "default")
    cluster.client.create("pods", pod("again", "false", policy="OnFailure"), "default")
    cluster.client.create("pods", pod("none", "no-such-program"), "default")
    until(lambda: get(cluster, "good")["status"]["phase"] == "Succeeded" and get(cluster, "bad")["status"]["phase"] == "Failed", "both to end")
    until(lambda: get(cluster, "again")["status"].get("containerStatuses", [{}])[0].get("restartCount", 0) >= 2, "two restarts")
    until(lambda: get(cluster, "none")["status"]["phase"] == "Failed", "what cannot start to fail")
    for name in ("good", "bad", "again", "none"):
        cluster.client.delete("pods", name, "default")
    until(lambda: all(gone(cluster, name) for name in ("good", "bad", "again", "none")), "all to be gone")


def test_a_killed_process_is_restarted_by_its_node(cluster):
    cluster.client.create("pods", pod("always", "sleep", "600", policy="Always"), "default")
    first = until(lambda: [pid for node in cluster.nodes for pid in node.running()], "it to run")[0]
    os.kill(first, signal.SIGKILL)
    until(lambda: [pid for node in cluster.nodes for pid in node.running() if pid != first], "another process")
    until(lambda: get(cluster, "always")["status"]["containerStatuses"][0]["restartCount"] == 1, "the restart to be counted")
    cluster.client.delete("pods", "always", "default")
    until(lambda: gone(cluster, "always"), "it to be gone")


def test_a_pod_that_fits_nowhere_waits(cluster):
    huge = pod("huge", "sleep", "600")
    huge["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "64"}}
    cluster.client.create("pods", huge, "default")
    scheduler = cluster.controllers[-1]
    until(lambda: any("0/2 nodes are available: 2 Insufficient cpu" in error for error in scheduler.errors), "the scheduler to say why")
    assert get(cluster, "huge")["status"]["phase"] == "Pending"
    cluster.client.delete("pods", "huge", "default")


def test_controllers_that_lose_half_of_the_events_still_arrive(cluster):
    for controller in cluster.controllers:
        controller.lose = 0.5
    try:
        for replicas in (6, 2, 5):
            cluster.client.apply("deployments", deployment("lossy", replicas), manager="test", namespace="default")
            until(lambda: cluster.running() == replicas == cluster.ready("lossy"), f"{replicas} pods")  # noqa: B023
        assert sum(controller.lost for controller in cluster.controllers) > 10
    finally:
        for controller in cluster.controllers:
            controller.lose = 0.0
    cluster.client.delete("deployments", "lossy", "default")
    until(lambda: cluster.running() == 0, "them to be gone")


def test_pods_outlive_their_control_plane_and_are_restarted_without_it(cluster):
    cluster.client.create("deployments", deployment("alone", 2), "default")
    until(lambda: cluster.ready("alone") == 2, "two pods")
    before = {pid for node in cluster.nodes for pid in node.running()}
    cluster.kill()
    assert not cluster.client.ready() and cluster.running() == 2
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: cluster.running() == 2 and victim not in {pid for node in cluster.nodes for pid in node.running()}, "the node to restart it")
    cluster.bring_back()
    until(lambda: cluster.ready("alone") == 2, "the API to know")
    assert before - {victim} <= {pid for node in cluster.nodes for pid in node.running()}, "the other one never stopped"
    cluster.client.delete("deployments", "alone", "default")
    until(lambda: cluster.running() == 0, "them to be gone")


def test_a_cut_link_is_silence_and_healing_delivers(cluster):
    from beyondlab.fleets.client import Client, Unreachable

    with Link(cluster.port) as link:
        client = Client(link.url, timeout=0.4)
        assert client.ready()
        link.cut()
        begin = time.monotonic()
        with pytest.raises(Unreachable, match="timed out"):
            client.list("pods")
        assert time.monotonic() - begin >= 0.35, "no answer is not a refusal"
        link.heal()
        assert until(lambda: client.ready(), "the link to work again")


def test_without_a_lease_two_write_with_one_nobody_overlaps(cluster):
    torn, held = (lease.reigns(split_brain(cluster, with_lease=flag)) for flag in (False, True))
    assert {writer for writer, _, _ in torn} == {writer for writer, _, _ in held} == {"cloud-a", "cloud-b"}
    assert lease.overlap(torn) > 0.2 and lease.overlap(held) == 0
    end, begin = max(e for w, _, e in held if w == "cloud-a"), min(b for w, b, _ in held if w == "cloud-b")
    assert 0 < end < lab.LEASE.deadline + 0.5 and begin > end


def test_a_fleet_loses_a_cluster_and_gets_it_back():
    with Fleet(threshold=1.0) as fleet:
        assert fleet.start() is fleet, "starting twice is harmless"
        fleet.deploy("web", 6, {"weights": {"cloud-a": 3, "cloud-b": 2, "on-premises": 1}})
        fleet.settle("web", {"cloud-a": 3, "cloud-b": 2, "on-premises": 1})
        assert "cloud-a" in fleet.hub.kubectl("get", "clusters") and "fleetdeployment" in fleet.hub.kubectl("get", "fd", "-o", "name")
        loss = lose_and_regain(fleet, "web", "cloud-a")
        assert loss.before == {"cloud-a": 3, "cloud-b": 2, "on-premises": 1}
        assert loss.during == {"cloud-a": 3, "cloud-b": 4, "on-premises": 2}, "the lost cluster's pods run on"
        assert loss.after == {"cloud-a": 0, "cloud-b": 4, "on-premises": 2}, "and do not come back by themselves"
        assert fleet.running() == loss.before
        assert 0.3 < loss.seen < loss.recovered
        assert min(sum(counts.values()) for _, counts in loss.series) >= 6, "replicas that move are started before the old ones stop"
        fleet.deploy("web", 6, {"affinity": {"data": "stays"}})
        fleet.rebalance("web")
        fleet.settle("web", {"on-premises": 6})
        fleet.deploy("web", 20, {"affinity": {"data": "stays"}})
        fleet.wait(lambda: "no room for 12 of 20" in fleet.status("web").get("message", "") or "12" in fleet.status("web").get("message", ""), "the operator to say that there is no room")
        assert fleet.placement("web") == {"on-premises": 6}, "what cannot be placed changes nothing"


def test_a_cluster_that_cannot_start_leaves_nothing(monkeypatch):
    monkeypatch.setattr(lab, "_etcd", lambda: "false")
    before = set(processes.carriers(processes.owner_token()))
    with pytest.raises(processes.ProcessExited):
        Cluster("broken").start()
    assert set(processes.carriers(processes.owner_token())) <= before
