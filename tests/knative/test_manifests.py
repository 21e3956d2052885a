"""What is generated is valid by the published schemas, and what is wrong is found."""

import copy

import pytest
import yaml

from beyondlab.knative import manifests
from beyondlab.knative.manifests import Service

SERVICE = Service("prices", "example.com/shop/prices:2", revision="v2", concurrency=2, max_scale=3, window="60s", target="2",
                  env={"SHOP": "lab"}, traffic={"v1": 90, "v2": 10})  # fmt: skip
MADE = {
    "knative": manifests.knative(SERVICE),
    "cloud-run": manifests.cloud_run(SERVICE),
    "keda": manifests.scaled_object(SERVICE, queue="orders", host="MQ"),
}


@pytest.mark.parametrize("kind", manifests.KINDS)
def test_valid_and_the_same_after_yaml(kind):
    assert manifests.problems(kind, MADE[kind]) == []
    assert yaml.safe_load(manifests.text(manifests.valid(kind, MADE[kind]))) == MADE[kind]


@pytest.mark.parametrize(("kind", "path", "value", "says"), [
    ("knative", "spec.template.spec.containerConcurrency", "two", "'two' is not of type 'integer'"),
    ("knative", "spec.template.spec.containers", None, "'containers' is a required property"),
    ("knative", "spec.template.spec.replicas", 3, "'replicas' was unexpected"),
    ("knative", "spec.traffic.0.percent", 90.5, "is not of type 'integer'"),
    ("knative", "spec.template.metadata.annotations.x", 3, "is not of type 'string'"),
    ("cloud-run", "spec.template.spec.timeoutSeconds", "5m", "is not of type 'integer'"),
    ("cloud-run", "spec.template.spec.containers.0.resources.limits.cpu", 1, "is not of type 'string'"),
    ("keda", "spec.triggers", None, "'triggers' is a required property"),
    ("keda", "spec.triggers.0.metadata.value", 5, "is not of type 'string'"),
    ("keda", "spec.minReplicas", 0, "'minReplicas' was unexpected"),
])  # fmt: skip
def test_what_is_wrong_is_found(kind, path, value, says):
    broken = copy.deepcopy(MADE[kind])
    *way, last = path.split(".")
    part = broken
    for step in way:
        part = part[int(step) if isinstance(part, list) else step]
    if value is None:
        del part[last]
    else:
        part[last] = value
    assert any(says in line for line in manifests.problems(kind, broken)), manifests.problems(kind, broken)
    with pytest.raises(ValueError, match=kind):
        manifests.valid(kind, broken)


def test_cloud_run_knows_two_annotations():
    lines = manifests.problems("cloud-run", MADE["knative"])
    assert len(lines) == 3 and all("does not know" in line for line in lines)
    both = manifests.cloud_run(Service("a", "b", min_scale=1, max_scale=5))
    assert both["spec"]["template"]["metadata"]["annotations"] == {
        "autoscaling.knative.dev/minScale": "1", "autoscaling.knative.dev/maxScale": "5"}  # fmt: skip


def test_annotations_beyond_knatives_bounds_are_refused():
    with pytest.raises(ValueError, match="stable-window"):
        manifests.knative(Service("a", "b", window="5s"))


def test_shared_values():
    assert manifests.shared({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3], "c": 1}) == pytest.approx(2 / 3)
    assert manifests.shared(MADE["knative"], MADE["knative"]) == 1
    assert manifests.shared(MADE["knative"], manifests.lambda_function(SERVICE)) == 0


@pytest.mark.parametrize("make", [lambda: Service("", "b"), lambda: Service("a", ""), lambda: Service("a", "b", traffic={"v1": 90})])
def test_bad_services(make):
    with pytest.raises(ValueError):
        make()


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind="):
        manifests.problems("helm", {})
