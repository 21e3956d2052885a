"""Filter and score, held to kube-scheduler's own tables (kubernetes/kubernetes ``pkg/scheduler/framework/plugins``)."""

import pytest

from beyondlab.fleets.scheduling import HOSTNAME, Node, Pod, Spread, balanced_allocation, choose, least_allocated, pod_from, quantity, topology_spread, why_not

NONE, ASKS = {}, {"cpu": 3000, "memory": 5000}
P = lambda node, cpu=0, memory=0, **more: Pod(requests={"cpu": cpu, "memory": memory, **more}, node=node)  # noqa: E731
N = lambda name, cpu=0, memory=0, **more: Node(name, {"cpu": cpu, "memory": memory, **more})  # noqa: E731

# noderesources/least_allocated_test.go: TestLeastAllocatedScoringStrategy
LEAST = {
    "nothing scheduled, nothing requested": (NONE, [N("node1", 4000, 10000), N("node2", 4000, 10000)], [], [100, 100], None),
    "nothing scheduled, differently sized nodes": (ASKS, [N("node1", 4000, 10000), N("node2", 6000, 10000)], [], [37, 50], None),
    "no resources requested, pods scheduled": (NONE, [N("node1", 4000, 10000), N("node2", 4000, 10000)],
        [P("node1"), P("node1"), P("node2"), P("node2")], [100, 100], None),
    "no resources requested, pods scheduled with resources": (NONE, [N("node1", 10000, 20000), N("node2", 10000, 20000)],
        [P("node1", 3000), P("node1", 3000), P("node2", 3000), P("node2", 3000, 5000)], [70, 57], None),
    "resources requested, pods scheduled with resources": (ASKS, [N("node1", 10000, 20000), N("node2", 10000, 20000)],
        [P("node1", 3000), P("node2", 3000, 5000)], [57, 45], None),
    "the same, differently sized nodes": (ASKS, [N("node1", 10000, 20000), N("node2", 10000, 50000)],
        [P("node1", 3000), P("node2", 3000, 5000)], [57, 60], None),
    "requested resources exceed node capacity": ({"cpu": 3000}, [N("node1", 4000, 10000), N("node2", 4000, 10000)],
        [P("node1", 3000), P("node2", 3000, 5000)], [50, 25], None),
    "zero node resources": (NONE, [N("node1"), N("node2")], [P("node1", 3000), P("node2", 3000, 5000)], [0, 0], None),
    "different weight on CPU and memory": (ASKS, [N("node1", 4000, 10000), N("node2", 6000, 10000)], [], [41, 50], {"memory": 2, "cpu": 1}),
    "bypass extended resource if not requested": (ASKS, [N("node1", 6000, 10000), N("node2", 6000, 10000, ext=4)], [], [50, 50],
        {"cpu": 1, "memory": 1, "ext": 1}),
    "honor extended resource if requested": ({**ASKS, "ext": 2}, [N("node1", 6000, 10000, ext=4), N("node2", 6000, 10000, ext=10)], [], [50, 60],
        {"cpu": 1, "memory": 1, "ext": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAST)
def test_least_allocated(name):
    asks, nodes, there, expected, weights = LEAST[name]
    assert [least_allocated(Pod(requests=asks), node, there, weights) for node in nodes] == expected


@pytest.mark.parametrize("weights", [{"memory": -1, "cpu": 1}, {"memory": 1, "cpu": 0}, {"memory": 1, "cpu": 101}])
def test_a_weight_is_between_1_and_100(weights):
    with pytest.raises(ValueError, match="between 1 and 100"):
        least_allocated(Pod(requests=ASKS), N("node1", 4000, 10000), [], weights)


CPU_AND_MEMORY, CPU_ONLY = P("node2", 3000, 5000), P("node1", 3000)
GPU = ("cpu", "memory", "gpu")
# noderesources/balanced_allocation_test.go: TestNodeResourcesBalancedAllocation
BALANCED = {
    "nothing requested, skip": (NONE, [N("node1", 4000, 10000), N("node2", 4000, 10000)], [], [None, None], ("cpu", "memory")),
    "differently sized nodes": (ASKS, [N("node1", 4000, 10000), N("node2", 6000, 10000)], [], [87, 100], ("cpu", "memory")),
    "pods scheduled with resources": (ASKS, [N("node1", 10000, 20000), N("node2", 10000, 20000)], [CPU_ONLY, CPU_AND_MEMORY], [82, 95], ("cpu", "memory")),
    "the same, differently sized nodes": (ASKS, [N("node1", 10000, 20000), N("node2", 10000, 50000)], [CPU_ONLY, CPU_AND_MEMORY], [82, 80], ("cpu", "memory")),
    "requested resources at node capacity": ({"cpu": 3000}, [N("node1", 6000, 10000), N("node2", 6000, 10000)], [CPU_ONLY, CPU_AND_MEMORY], [50, 75], ("cpu", "memory")),
    "include scalar resource": ({"gpu": 1}, [N("node1", 3500, 40000, gpu=8), N("node2", 3500, 40000, gpu=8)],
        [CPU_AND_MEMORY, P("node1", 3000, 5000, gpu=3)], [70, 65], GPU),
    "node without the scalar resource": (ASKS, [N("node1", 3500, 40000, gpu=8), N("node2", 3500, 40000)], [], [63, 63], GPU),
}  # fmt: skip


@pytest.mark.parametrize("name", BALANCED)
def test_balanced_allocation(name):
    asks, nodes, there, expected, resources = BALANCED[name]
    assert [balanced_allocation(Pod(requests=asks), node, there, resources) for node in nodes] == expected


FOO, BAR = ({"matchExpressions": [{"key": key, "operator": "Exists"}]} for key in ("foo", "bar"))
HOSTS = lambda *names: [Node(n, labels={HOSTNAME: n}) for n in names]  # noqa: E731
ZONES = lambda **zones: [Node(n.replace("_", "-"), labels={"zone": z, HOSTNAME: n.replace("_", "-")}) for n, z in zones.items()]  # noqa: E731


def there(**counts):
    """``node_a="foo foo,bar"``: a pod with foo, and one with foo and bar, on node-a."""
    return [Pod(labels=dict.fromkeys(kinds.split(","), ""), node=node.replace("_", "-")) for node, text in counts.items() for kinds in text.split()]


ZONED = ZONES(node_a="zone1", node_b="zone1", node_x="zone2", node_y="zone2")
FOUR = HOSTS("node-a", "node-b", "node-c", "node-d")
# podtopologyspread/scoring_test.go: TestPodTopologySpreadScore. (constraints, candidates, other nodes, pods, scores)
SPREAD = {
    "one constraint on node, no existing pods": ([Spread(HOSTNAME, FOO)], HOSTS("node-a", "node-b"), [], [], [100, 100]),
    "only one node is candidate": ([Spread(HOSTNAME, FOO)], HOSTS("node-a"), HOSTS("node-b"), there(node_a="foo foo", node_b="foo"), [100]),
    "all nodes have the same number": ([Spread(HOSTNAME, FOO)], HOSTS("node-a", "node-b"), [], there(node_a="foo", node_b="foo"), [100, 100]),
    "all 4 nodes are candidates": ([Spread(HOSTNAME, FOO)], FOUR, [], there(node_a="foo foo", node_b="foo", node_d="foo foo foo"), [20, 60, 100, 0]),
    "null selector": ([Spread(HOSTNAME, None)], FOUR, [], there(node_a="foo foo", node_b="foo", node_d="foo foo foo"), [100] * 4),
    "maxSkew=2": ([Spread(HOSTNAME, FOO, 2)], FOUR, [], there(node_a="foo foo", node_b="foo", node_d="foo foo foo"), [33, 66, 100, 16]),
    "maxSkew=3": ([Spread(HOSTNAME, FOO, 3)], FOUR, [], there(node_a="foo " * 4, node_b="foo " * 3, node_c="foo foo", node_d="foo"), [44, 66, 77, 100]),
    "3 out of 4 nodes are candidates": ([Spread(HOSTNAME, FOO)], HOSTS("node-a", "node-b", "node-x"), HOSTS("node-y"),
        there(node_a="foo " * 4, node_b="foo foo", node_x="foo", node_y="foo " * 3), [33, 83, 100]),
    "one node doesn't match topology key": ([Spread(HOSTNAME, FOO)], [*HOSTS("node-a"), Node("node-b", labels={"n": "node-b"}), *HOSTS("node-x")], HOSTS("node-y"),
        there(node_a="foo " * 4, node_b="foo foo", node_x="foo", node_y="foo " * 3), [16, 0, 100]),
    "one constraint on zone, 3 out of 4": ([Spread("zone", FOO)], ZONED[:3], ZONED[3:],
        there(node_a="foo " * 4, node_b="foo foo", node_x="foo", node_y="foo " * 3), [75, 75, 100]),
    "two constraints on zone and node, 2 out of 4": ([Spread("zone", FOO), Spread(HOSTNAME, FOO)], [ZONED[0], ZONED[2]], [ZONED[1], ZONED[3]],
        there(node_a="foo foo", node_b="foo", node_x="foo foo", node_y="foo " * 4), [100, 63]),
    "two constraints on zone": ([Spread("zone", FOO), Spread("zone", BAR)], [ZONED[0], ZONED[2]], [ZONED[1], ZONED[3]],
        there(node_a="foo,bar foo", node_b="foo,bar", node_y="foo foo,bar foo"), [85, 100]),
    "zone and node, different selectors": ([Spread("zone", FOO), Spread(HOSTNAME, BAR)], ZONED, [],
        there(node_a="foo", node_b="foo,bar", node_y="foo bar"), [60, 20, 100, 60]),
    "the same, some nodes have 0 pods": ([Spread("zone", FOO), Spread(HOSTNAME, BAR)], ZONED, [],
        there(node_b="bar", node_x="foo", node_y="foo,bar"), [100, 60, 40, 0]),
    "the same, 3 out of 4": ([Spread("zone", FOO), Spread(HOSTNAME, BAR)], ZONED[:3], ZONED[3:],
        there(node_a="foo", node_b="foo,bar", node_y="foo bar"), [50, 25, 100]),
    "pods in a different namespace do not count": ([Spread(HOSTNAME, FOO)], HOSTS("node-a", "node-b"), [],
        [Pod(labels={"foo": ""}, node="node-a", namespace="ns1"), *there(node_a="foo", node_b="foo foo")], [100, 33]),
    "terminating pods are excluded": ([Spread(HOSTNAME, FOO)], HOSTS("node-a", "node-b"), [],
        [Pod(labels={"foo": ""}, node="node-a", terminating=True), *there(node_b="foo")], [100, 0]),
    "another key, maxSkew=2": ([Spread("node", FOO, 2)], [Node(n, labels={"node": n}) for n in ("node-a", "node-b", "node-c")], [],
        there(node_a="foo foo", node_b="foo foo", node_c="foo"), [75, 75, 100]),
}  # fmt: skip


@pytest.mark.parametrize("name", SPREAD)
def test_topology_spread(name):
    rules, candidates, others, pods, expected = SPREAD[name]
    pod = Pod("p", labels={"foo": ""}, spread=tuple(rules))
    assert list(topology_spread(pod, candidates, pods, [*candidates, *others]).values()) == expected


def test_nodes_that_the_selector_excludes_do_not_count():
    """"NodeAffinityPolicy honoured with labelSelectors": pods on a node that the pod may not use are not counted."""
    nodes = [Node("node-a", labels={"node": "node-a", "foo": ""}), Node("node-b", labels={"node": "node-b", "foo": ""}), Node("node-c", labels={"node": "node-c"})]
    pod = Pod("p", labels={"foo": ""}, node_selector={"foo": ""}, spread=(Spread("node", FOO),))
    assert list(topology_spread(pod, nodes, there(node_a="foo foo", node_b="foo", node_c="foo")).values()) == [0, 33, 100]


def test_the_filter_says_why():
    node = Node("n", {"cpu": 1000, "memory": 100}, {"disk": "ssd"}, ("gpu",), pods=1)
    assert why_not(Pod(tolerations=("gpu",)), node, [], [node]) is None
    assert why_not(Pod(), node, [], [node]) == "had untolerated taint {gpu}"
    assert "affinity" in why_not(Pod(node_selector={"disk": "hdd"}), node, [], [node])
    assert why_not(Pod(tolerations=("gpu",)), node, [Pod(node="n")], [node]) == "Too many pods"
    assert why_not(Pod(requests={"cpu": 1001}, tolerations=("gpu",)), node, [], [node]) == "Insufficient cpu"


def test_a_hard_spread_rule_keeps_the_skew():
    nodes = ZONES(node_a="zone1", node_x="zone2")
    pod = Pod(labels={"foo": ""}, spread=(Spread("zone", FOO, 1, hard=True),))
    assert why_not(pod, nodes[0], there(node_a="foo"), nodes) == "didn't match pod topology spread constraints"
    assert why_not(pod, nodes[1], there(node_a="foo"), nodes) is None
    assert choose(pod, nodes, there(node_a="foo"))[0] == "node-x"


def test_nowhere_is_explained_as_kube_scheduler_does():
    node, why = choose(Pod(requests={"cpu": 9}), [N("a", 1, 1), N("b", 1, 1)], [])
    assert node is None and why == "0/2 nodes are available: 2 Insufficient cpu"


def test_the_emptier_node_is_taken_and_equals_by_name():
    nodes = [N("a", 4000, 8000), N("b", 4000, 8000)]
    asks = Pod(requests={"cpu": 500, "memory": 1000})
    assert choose(asks, nodes, [])[0] == "a"
    assert choose(asks, nodes, [P("a", 500, 1000)])[0] == "b"


def test_from_the_api():
    value = {"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}}, {"name": "d"}]}}  # fmt: skip
    pod = pod_from(value)
    assert pod.requests == {"cpu": 250, "memory": 2**30} and pod.assumed == {"cpu": 100, "memory": 200 * 2**20}
    assert [quantity(text) for text in ("250m", "2", "1Ki", "1.5G")] == [0.25, 2, 1024, 1.5e9]
    with pytest.raises(ValueError, match="quantity='x'"):
        quantity("x")
