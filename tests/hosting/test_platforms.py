"""Four descriptions, held to the vendors' own models and examples."""

from __future__ import annotations

import copy
import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.hosting import platforms, sizes
from beyondlab.hosting.lab import GREETER
from beyondlab.hosting.platforms import NotValid
from beyondlab.hosting.tasks import Task


@pytest.mark.parametrize("platform", platforms.PLATFORMS)
def test_the_same_task_comes_back(platform):
    assert platforms.read(platforms.describe(GREETER, platform), platform) == GREETER


SOLD = sorted(
    (cpu / 1024, memory) for cpu, row in sizes.FARGATE.items() for memory in row
    if cpu / 1024 in sizes.CLOUD_RUN and sizes.CLOUD_RUN[cpu / 1024][0] <= memory <= sizes.CLOUD_RUN[cpu / 1024][1]
)  # fmt: skip


@given(
    st.sampled_from(SOLD), st.lists(st.text("abc-./", min_size=1), min_size=1, max_size=3), st.integers(1, 65535),
    st.dictionaries(st.text("ABC_", min_size=1), st.text(max_size=9), max_size=3), st.integers(0, 120),
)  # fmt: skip
def test_any_task_of_a_size_that_all_sell_is_the_same_everywhere(size, command, port, environment, stop):
    task = Task("name", "image:1", tuple(command), *size, port, environment, float(stop))
    for platform in platforms.PLATFORMS:
        found = platforms.read(json.loads(json.dumps(platforms.describe(task, platform))), platform)
        assert found == task
        if platform in ("fargate", "kubernetes"):
            assert found.stop_timeout == stop


def test_botocore_accepts_its_own_example():
    """botocore/data/ecs/2014-11-13/examples-1.json, RegisterTaskDefinition. It is no Fargate task, and is told so."""
    import botocore

    file = resources.files(botocore).joinpath("data/ecs/2014-11-13/examples-1.json")
    examples = json.loads(file.read_text())["examples"]["RegisterTaskDefinition"]
    assert examples
    for example in examples:
        platforms._validate_ecs(example["input"])
        with pytest.raises(NotValid, match="networkMode=None: must be 'awsvpc' on Fargate"):
            platforms.read(example["input"], "fargate")


def change(platform, alter):
    document = copy.deepcopy(platforms.describe(GREETER, platform))
    alter(document)
    return document


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (lambda d: d.pop("family"), "Missing required parameter in input: \"family\""),
        (lambda d: d.update(replicas=2), 'Unknown parameter in input: "replicas"'),
        (lambda d: d.update(cpu=1024), "Invalid type for parameter cpu"),
        (lambda d: d.update(networkMode="overlay"), "networkMode='overlay': must be one of bridge, host, awsvpc, none"),
        (lambda d: d.update(networkMode="bridge"), "networkMode='bridge': must be 'awsvpc' on Fargate"),
        (lambda d: d.update(requiresCompatibilities=["EC2"]), "requiresCompatibilities"),
        (lambda d: d.pop("memory"), "memory: a task on Fargate must say it"),
        (lambda d: d["containerDefinitions"][0].update(stopTimeout=121), "stopTimeout=121: must be 0 to 120"),
        (lambda d: d["containerDefinitions"][0]["portMappings"][0].update(protocol="sctp"), "protocol='sctp'"),
        (lambda d: d.update(memory="2 TB"), "memory='2 TB': must be a number"),
    ],
)  # fmt: skip
def test_ecs_refuses(alter, complaint):
    with pytest.raises(NotValid) as caught:
        platforms.read(change("fargate", alter), "fargate")
    assert complaint in str(caught.value)


def test_ecs_takes_vcpu_and_gb_too():
    task = platforms.read(change("fargate", lambda d: d.update(cpu="1 vCPU", memory="2 GB")), "fargate")
    assert (task.vcpu, task.memory) == (1.0, 2048)
    default = platforms.read(change("fargate", lambda d: d["containerDefinitions"][0].pop("stopTimeout")), "fargate")
    assert default.stop_timeout == 30


# Azure/azure-rest-api-specs, specification/containerinstance/resource-manager/Microsoft.ContainerInstance/ContainerInstance/
# examples/2025-09-01/ContainerGroupCreateConfidential.json: what it sends.
AZURE_EXAMPLE = {
    "location": "westeurope",
    "properties": {
        "confidentialComputeProperties": {"ccePolicy": "eyJhbGxvd19hbGwi"},
        "containers": [{"name": "accdemo", "properties": {
            "command": [], "environmentVariables": [], "image": "confiimage", "ports": [{"port": 8000}],
            "resources": {"requests": {"cpu": 1, "memoryInGB": 1.5}},
            "securityContext": {"capabilities": {"add": ["CAP_NET_ADMIN"]}, "privileged": False},
        }}],
        "imageRegistryCredentials": [],
        "ipAddress": {"type": "Public", "ports": [{"port": 8000, "protocol": "TCP"}]},
        "osType": "Linux",
        "sku": "Confidential",
    },
}  # fmt: skip


def test_azures_example_is_valid_as_far_as_the_excerpt_goes():
    document = copy.deepcopy(AZURE_EXAMPLE)
    with pytest.raises(NotValid, match="Additional properties"):
        platforms._validate(document, "aci")
    for name in ("confidentialComputeProperties", "imageRegistryCredentials"):
        del document["properties"][name]
    del document["properties"]["containers"][0]["properties"]["securityContext"]
    platforms._validate(document, "aci")
    with pytest.raises(ValueError, match="a task needs all three"):
        platforms.read(document, "aci")  # its command is the image's, which a description does not tell
    document["properties"]["containers"][0]["properties"]["command"] = ["serve"]
    task = platforms.read(document, "aci")
    assert (task.vcpu, task.memory, task.port) == (1, 1536, 8000)


@pytest.mark.parametrize(
    ("platform", "alter", "complaint"),
    [
        ("aci", lambda d: d["properties"].pop("containers"), "properties: 'containers' is a required property"),
        ("aci", lambda d: d["properties"].update(restartPolicy="Sometimes"), "properties.restartPolicy: 'Sometimes' is not one of"),
        ("aci", lambda d: d["properties"]["containers"][0]["properties"]["resources"]["requests"].pop("cpu"), "'cpu' is a required"),
        ("aci", lambda d: d["properties"]["containers"][0]["properties"].pop("resources"), "must say what it requests"),
        ("cloud run", lambda d: d["spec"]["template"]["spec"].update(concurrency=3), "spec.template.spec: Additional"),
        ("cloud run", lambda d: d["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].pop("cpu"), "limits.cpu: must be given"),
        ("kubernetes", lambda d: d["spec"]["containers"][0].pop("name"), "spec.containers[0]: 'name' is a required"),
        ("kubernetes", lambda d: d["spec"]["containers"][0]["resources"]["limits"].update(memory="2Gb"), "memory='2Gb': must be a number"),
        ("kubernetes", lambda d: d["spec"].update(terminationGracePeriodSeconds="10"), "'10' is not of type 'integer'"),
    ],
)  # fmt: skip
def test_the_others_refuse(platform, alter, complaint):
    with pytest.raises(NotValid) as caught:
        platforms.read(change(platform, alter), platform)
    assert complaint in str(caught.value)


def test_two_containers_are_too_many_for_this_reader():
    for platform, path in (("fargate", ("containerDefinitions",)), ("kubernetes", ("spec", "containers"))):
        document = copy.deepcopy(platforms.describe(GREETER, platform))
        inside = document
        for part in path:
            inside = inside[part]
        inside.append(inside[0])
        with pytest.raises(ValueError, match="2 containers; this reader takes one"):
            platforms.read(document, platform)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [("500m", "cpu", 0.5), ("2", "cpu", 2), ("512Mi", "memory", 512), ("1Gi", "memory", 1024), ("1G", "memory", 953.67), ("1048576", "memory", 1)],
)
def test_quantities(text, name, value):
    assert platforms.quantity(text, name) == pytest.approx(value, rel=1e-4)


def test_the_excerpt_of_kubernetes_is_that_of_its_client():
    """The client is generated from Kubernetes' OpenAPI: every field of the excerpt is there, with the same type."""
    client = pytest.importorskip("kubernetes.client")
    types = {"str": "string", "int": "integer", "bool": "boolean"}

    def compare(schema, model, skip=()):
        fields = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for name, inner in schema["properties"].items():
            kind = fields[name]
            if kind in types:
                assert inner["type"] == types[kind], name
            elif kind.startswith("List["):
                assert inner["type"] == "array", name
                compare(inner["items"], getattr(client, kind[5:-1])) if kind[5:-1] not in types else None
            elif kind.startswith("Dict["):
                assert inner["type"] == "object", name
            else:
                compare(inner, getattr(client, kind))

    compare(platforms.schema("kubernetes"), client.V1Pod)


def test_unknown_platforms():
    for call in (lambda: platforms.describe(GREETER, "ecs"), lambda: platforms.read({}, "ecs")):
        with pytest.raises(ValueError, match="platform='ecs': must be one of fargate"):
            call()


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"command": ()}, {"vcpu": 0}, {"memory": -1}, {"port": 70_000}, {"stop_timeout": -1.0}]
)
def test_a_task_that_makes_no_sense(wrong):
    right = {"name": "a", "image": "b", "command": ("c",), "vcpu": 1.0, "memory": 512}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Task(**right | wrong)
