"""The API server as its clients see it: the real kubectl, the official Python client, and kopf, unchanged."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from beyondlab.fleets import controllers, lab
from beyondlab.fleets.client import ApiError, Client, Unreachable, path_of
from beyondlab.fleets.lab import Cluster, deployment
from beyondlab.kit.processes import Process, wait_until

pytestmark = pytest.mark.skipif(lab.missing() is not None and os.environ.get("CI") != "true", reason=str(lab.missing()))
official = pytest.importorskip("kubernetes")

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "sites.lab.example"},
    "spec": {"group": "lab.example", "scope": "Namespaced", "names": {"plural": "sites", "singular": "site", "kind": "Site", "shortNames": ["st"]},
             "versions": [{"name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
                           "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                           "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                               "spec": {"type": "object", "required": ["size"], "properties": {
                                   "size": {"type": "integer", "minimum": 0, "description": "How many."}, "text": {"type": "string", "default": "hello"}}},
                               "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}}}]},
}  # fmt: skip
SITES = "sites.lab.example/v1"


@pytest.fixture(scope="module")
def bare():
    """An API server on its own: no controllers, no nodes."""
    with Cluster("bare", nodes=0, with_controllers=False) as cluster:
        cluster.client.create("customresourcedefinitions", CRD)
        yield cluster


@pytest.fixture(scope="module")
def core(bare):
    configuration = official.client.Configuration()
    configuration.host = bare.url
    api = official.client.ApiClient(configuration)
    yield official.client.CoreV1Api(api)
    api.close()


def apps(core):
    return official.client.AppsV1Api(core.api_client)


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": name[0]}}, "data": data}


def test_kubectl_finds_its_way(bare):
    assert "v1.37.0+course" in bare.kubectl("version")
    listed = bare.kubectl("api-resources")
    assert "deployments" in listed and "sites" in listed and "lab.example/v1" in listed
    assert "How many." in bare.kubectl("explain", "site.spec.size")
    assert "deployment" in bare.kubectl("explain", "deployment").lower()


def test_kubectl_applies_gets_patches_scales_and_deletes(bare):
    assert bare.kubectl("apply", "-f", "-", stdin=deployment("k", 3)) == "deployment.apps/k created"
    assert bare.kubectl("apply", "-f", "-", stdin=deployment("k", 3)) == "deployment.apps/k unchanged"
    assert bare.kubectl("apply", "-f", "-", stdin=deployment("k", 4)) == "deployment.apps/k configured"
    assert bare.kubectl("get", "deploy", "k", "-o", "jsonpath={.spec.replicas}") == "4"
    bare.kubectl("scale", "deploy/k", "--replicas=6")
    bare.kubectl("label", "deploy/k", "tier=x")
    bare.kubectl("annotate", "deploy/k", "note=y")
    bare.kubectl("patch", "deploy/k", "--type=json", "-p", json.dumps([{"op": "replace", "path": "/spec/replicas", "value": 7}]))
    bare.kubectl("patch", "deploy/k", "-p", json.dumps({"spec": {"template": {"spec": {"containers": [{"name": "k", "image": "new"}]}}}}))
    found = json.loads(bare.kubectl("get", "deploy", "-l", "tier=x", "-o", "json"))["items"]
    assert [each["spec"]["replicas"] for each in found] == [7]
    container = found[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "new" and container["command"] == ["sleep", "600"], "a strategic patch merges by name"
    assert "NAME" in bare.kubectl("get", "deploy") and "DESIRED" in bare.kubectl("get", "deploy")
    assert "replicas: 7" in bare.kubectl("diff", "-f", "-", stdin=deployment("k", 4), check=False)
    assert "deleted" in bare.kubectl("delete", "deploy", "k")
    assert "NotFound" in bare.kubectl("get", "deploy", "k", check=False)


def test_kubectl_is_told_of_a_conflict_and_may_force(bare):
    bare.kubectl("apply", "--server-side", "--field-manager=gitops", "-f", "-", stdin=deployment("ssa", 2))
    said = bare.kubectl("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=deployment("ssa", 5), check=False)
    assert 'Apply failed with 1 conflict: conflict with "gitops" using apps/v1: .spec.replicas' in said
    assert "serverside-applied" in bare.kubectl("apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-", stdin=deployment("ssa", 5))
    owners = {m["manager"]: m["fieldsV1"] for m in bare.client.get("deployments", "ssa", "default")["metadata"]["managedFields"]}
    assert "f:replicas" in owners["me"]["f:spec"] and "f:replicas" not in owners["gitops"]["f:spec"]
    bare.kubectl("scale", "deploy/ssa", "--replicas=9")
    said = bare.kubectl("apply", "--server-side", "--field-manager=me", "-f", "-", stdin=deployment("ssa", 5), check=False)
    assert 'with subresource "scale"' in said
    bare.kubectl("delete", "deploy", "ssa")


def test_kubectl_validates_custom_resources(bare):
    site = {"apiVersion": "lab.example/v1", "kind": "Site", "metadata": {"name": "a"}, "spec": {"size": 2}}
    assert bare.kubectl("apply", "-f", "-", stdin=site) == "site.lab.example/a created"
    assert "2" in bare.kubectl("get", "st", "a").splitlines()[1]
    assert bare.kubectl("get", "st", "a", "-o", "jsonpath={.spec.text}") == "hello"
    wrong = bare.kubectl("apply", "-f", "-", stdin={**site, "spec": {"size": -1}}, check=False)
    assert "greater than or equal to 0" in wrong and "Invalid" in wrong
    assert 'unknown field "spec.sise"' in bare.kubectl("apply", "-f", "-", stdin={**site, "spec": {"size": 1, "sise": 3}}, check=False)
    assert "created" in bare.kubectl("apply", "--dry-run=server", "-f", "-", stdin={**site, "metadata": {"name": "dry"}})
    assert "NotFound" in bare.kubectl("get", "st", "dry", check=False)
    bare.kubectl("patch", "st", "a", "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Up"}, "spec": {"size": 8}}')
    value = bare.client.get(SITES, "a", "default")
    assert value["status"] == {"phase": "Up"} and value["spec"]["size"] == 2 and value["metadata"]["generation"] == 1
    assert "condition met" in bare.kubectl("wait", "--for=jsonpath={.status.phase}=Up", "st/a", "--timeout=5s")
    bare.kubectl("delete", "st", "a")


def test_kubectl_watches(bare):
    argv = [lab._kubectl(), "--server", bare.url, "--cache-dir", str(bare.folder / "kube"), "get", "cm", "-w", "--output-watch-events", "-l", "of=w"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(bare.folder)}) as watching:
        timer = threading.Timer(30, watching.kill)
        timer.start()
        try:
            time.sleep(1.0)
            bare.client.create("configmaps", config_map("w1"), "default")
            bare.client.patch("configmaps", "w1", {"data": {"a": "b"}}, "default")
            bare.client.delete("configmaps", "w1", "default")
            lines = [watching.stdout.readline() for _ in range(4)]
        finally:
            timer.cancel()
            watching.kill()
    assert [line.split()[0] for line in lines] == ["EVENT", "ADDED", "MODIFIED", "DELETED"]


def test_namespaces_take_their_content_along(bare):
    bare.kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})
    bare.client.create("configmaps", config_map("x"), "team")
    assert "team" in bare.kubectl("get", "ns")
    bare.kubectl("delete", "ns", "team")
    assert bare.client.list("configmaps", "team") == []
    with pytest.raises(ApiError, match='namespaces "team" not found'):
        bare.client.create("configmaps", config_map("x"), "team")


def test_the_official_client_creates_reads_replaces_and_deletes(core):
    core.create_namespaced_config_map("default", config_map("o1", a="1"))
    with pytest.raises(official.client.ApiException) as refused:
        core.create_namespaced_config_map("default", config_map("o1"))
    assert refused.value.status == 409 and json.loads(refused.value.body)["reason"] == "AlreadyExists"
    value = core.read_namespaced_config_map("o1", "default")
    value.data["b"] = "2"
    core.replace_namespaced_config_map("o1", "default", value)
    with pytest.raises(official.client.ApiException) as refused:
        core.replace_namespaced_config_map("o1", "default", value)
    assert refused.value.status == 409 and json.loads(refused.value.body)["reason"] == "Conflict", "optimistic concurrency"
    assert core.patch_namespaced_config_map("o1", "default", {"data": {"a": None}}).data == {"b": "2"}
    assert [each.metadata.name for each in core.list_namespaced_config_map("default", label_selector="of in (o)").items] == ["o1"]
    assert [each.metadata.name for each in core.list_namespaced_config_map("default", field_selector="metadata.name=o1").items] == ["o1"]
    core.delete_namespaced_config_map("o1", "default")
    with pytest.raises(official.client.ApiException) as refused:
        core.read_namespaced_config_map("o1", "default")
    assert refused.value.status == 404


def test_the_official_client_scales_a_deployment(core):
    apps(core).create_namespaced_deployment("default", deployment("off", 2))
    apps(core).patch_namespaced_deployment_scale("off", "default", {"spec": {"replicas": 5}})
    assert apps(core).read_namespaced_deployment_scale("off", "default").spec.replicas == 5
    assert apps(core).read_namespaced_deployment("off", "default").metadata.generation == 2
    apps(core).delete_namespaced_deployment("off", "default")


def test_the_official_client_watches_and_goes_on_from_a_version(core):
    since = core.list_namespaced_config_map("default").metadata.resource_version
    for name in ("p1", "p2", "p3"):
        core.create_namespaced_config_map("default", config_map(name))
    seen = []
    for event in official.watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version=since, timeout_seconds=10):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 2:
            since = event["object"].metadata.resource_version
            break
    assert seen == [("ADDED", "p1"), ("ADDED", "p2")]
    event = next(official.watch.Watch().stream(core.list_namespaced_config_map, "default", resource_version=since, timeout_seconds=10))
    assert event["object"].metadata.name == "p3"
    core.delete_collection_namespaced_config_map("default", label_selector="of=p")
    assert core.list_namespaced_config_map("default", label_selector="of=p").items == []


def test_the_official_client_defines_and_uses_a_custom_resource(core):
    custom = official.client.CustomObjectsApi(core.api_client)
    custom.create_namespaced_custom_object("lab.example", "v1", "default", "sites", {"apiVersion": "lab.example/v1", "kind": "Site", "metadata": {"name": "c"}, "spec": {"size": 1}})
    custom.patch_namespaced_custom_object_status("lab.example", "v1", "default", "sites", "c", {"status": {"phase": "Up"}})
    found = custom.get_namespaced_custom_object("lab.example", "v1", "default", "sites", "c")
    assert found["status"] == {"phase": "Up"} and found["spec"] == {"size": 1, "text": "hello"}
    custom.delete_namespaced_custom_object("lab.example", "v1", "default", "sites", "c")


def test_a_selector_makes_events_of_its_own(bare):
    """An object that begins to match is ADDED, one that no longer does is DELETED."""
    _, since = bare.client.list_at("configmaps", "default")
    bare.client.create("configmaps", config_map("sel"), "default")
    bare.client.patch("configmaps", "sel", {"metadata": {"labels": {"on": "yes"}}}, "default")
    bare.client.patch("configmaps", "sel", {"data": {"a": "b"}}, "default")
    bare.client.patch("configmaps", "sel", {"metadata": {"labels": {"on": None}}}, "default")
    seen = []
    for kind, _ in bare.client.watch("configmaps", "default", since=since, labels="on=yes", seconds=5):
        seen.append(kind)
        if kind == "BOOKMARK":
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    bare.client.delete("configmaps", "sel", "default")


def test_bookmarks_move_on_without_events(bare):
    _, since = bare.client.list_at("pods", "default")
    bare.client.create("configmaps", config_map("bm"), "default")
    kind, value = next(bare.client.watch("pods", "default", since=since, seconds=5))
    while int(value["metadata"]["resourceVersion"]) <= int(since):
        kind, value = next(bare.client.watch("pods", "default", since=since, seconds=5))
    assert kind == "BOOKMARK"
    bare.client.delete("configmaps", "bm", "default")


def test_after_a_crash_the_data_is_there_and_old_versions_are_too_old(bare):
    bare.client.create("configmaps", config_map("kept"), "default")
    bare.kill()
    with pytest.raises(Unreachable):
        bare.client.list("configmaps")
    bare.bring_back()
    assert [each["metadata"]["name"] for each in bare.client.list("configmaps", labels="of=k")] == ["kept"]
    with pytest.raises(ApiError, match="too old resource version") as refused:
        next(bare.client.watch("pods", since="1"))
    assert refused.value.code == 410 and refused.value.reason == "Expired"
    bare.client.delete("configmaps", "kept", "default")


def test_pages_of_a_list_are_of_one_moment(bare):
    for i in range(5):
        bare.client.create("configmaps", config_map(f"g{i}"), "default")
    path = path_of("configmaps", "default")
    first = bare.client.request("GET", path, limit=2)
    bare.client.create("configmaps", config_map("g9"), "default")
    names, page = [each["metadata"]["name"] for each in first["items"]], first
    while token := page["metadata"].get("continue"):
        page = bare.client.request("GET", path, **{"limit": 2, "continue": token})
        names += [each["metadata"]["name"] for each in page["items"]]
    assert [n for n in names if n[0] == "g"] == [f"g{i}" for i in range(5)]
    bare.client.request("DELETE", path, labelSelector="of=g")


def test_finalizers_hold_an_object_until_the_last_is_gone(bare):
    bare.client.create("configmaps", {**config_map("f1"), "metadata": {"name": "f1", "finalizers": ["lab.example/wait"]}}, "default")
    bare.client.delete("configmaps", "f1", "default")
    assert "deletionTimestamp" in bare.client.get("configmaps", "f1", "default")["metadata"]
    bare.client.patch("configmaps", "f1", {"metadata": {"finalizers": None}}, "default")
    with pytest.raises(ApiError) as refused:
        bare.client.get("configmaps", "f1", "default")
    assert refused.value.code == 404


@pytest.mark.parametrize(("method", "path", "body", "kind", "code"), [
    ("GET", "/nothing", None, "", 404), ("GET", "/apis/no.such", None, "", 404), ("GET", "/api/v1/nothings", None, "", 404),
    ("POST", "/api/v1/namespaces/default/pods", {"metadata": {}, "spec": {"containers": [{"name": "a"}]}}, "application/json", 422),
    ("POST", "/api/v1/namespaces/default/pods", {"kind": "Node"}, "application/json", 400), ("POST", "/api/v1/namespaces/default/pods", {}, "application/vnd.kubernetes.protobuf", 415),
    ("PATCH", "/api/v1/namespaces/default/configmaps/x", {}, "application/json", 415), ("GET", "/api/v1/pods?labelSelector=a%20b", None, "", 400),
    ("DELETE", "/api/v1/namespaces/default/pods/none", None, "", 404), ("PATCH", "/api/v1/namespaces/default/configmaps/x", {}, "application/apply-patch+yaml", 400),
    ("PUT", "/api/v1/namespaces/default/configmaps", {}, "application/json", 405), ("POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "x"}, "spec": {}}, "application/json", 422),
])  # fmt: skip
def test_it_says_no_as_kubernetes_does(bare, method, path, body, kind, code):
    with pytest.raises(ApiError) as refused:
        bare.client.request(method, path, body, content_type=kind)
    assert refused.value.code == code and str(refused.value)


def test_many_writers_lose_no_update(bare):
    """Ten threads add one each, by read, change, replace, and again after a conflict."""
    bare.client.create("configmaps", config_map("count", n="0"), "default")
    conflicts = []

    def add():
        while True:
            value = bare.client.get("configmaps", "count", "default")
            value["data"]["n"] = str(int(value["data"]["n"]) + 1)
            try:
                return bare.client.replace("configmaps", value)
            except ApiError as error:
                conflicts.append(error.code)

    threads = [threading.Thread(target=add) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert bare.client.get("configmaps", "count", "default")["data"]["n"] == "10"
    assert set(conflicts) <= {409}


def test_a_kopf_operator_works_unchanged(bare, tmp_path):
    """A handler on creation, one on a changed field, a finaliser for deletion, status by patch."""
    script = tmp_path / "operator.py"
    script.write_text(
        "import kopf\n"
        "@kopf.on.login()\n"
        "def login(**kw): return kopf.login_with_kubeconfig(**kw)\n"
        "@kopf.on.create('lab.example', 'v1', 'sites')\n"
        "def made(spec, patch, **_): patch.status['seen'] = spec['size']\n"
        "@kopf.on.field('lab.example', 'v1', 'sites', field='spec.size')\n"
        "def sized(old, new, patch, **_): patch.status['change'] = f'{old}->{new}'\n"
        "@kopf.on.delete('lab.example', 'v1', 'sites')\n"
        "def gone(**_): pass\n"
    )
    env = {"KUBECONFIG": str(bare.kubeconfig()), "HOME": str(tmp_path)}
    with Process([sys.executable, "-m", "kopf", "run", str(script), "--standalone", "--all-namespaces"], env=env, name="kopf") as operator:
        bare.client.create(SITES, {"metadata": {"name": "k"}, "spec": {"size": 3}}, "default")

        def status():
            assert operator.returncode is None, operator.output()
            return bare.client.get(SITES, "k", "default").get("status", {})

        wait_until(lambda: status().get("seen") == 3, timeout=60, what="kopf to see the site")
        bare.client.patch(SITES, "k", {"spec": {"size": 5}}, "default")
        wait_until(lambda: status().get("change") == "3->5", timeout=30, what="kopf to see the change")
        assert bare.client.get(SITES, "k", "default")["metadata"]["finalizers"]
        bare.client.delete(SITES, "k", "default")
        wait_until(lambda: not bare.client.list(SITES, "default"), timeout=30, what="kopf to let the site go")
        assert "error" not in operator.output(200).lower()


def test_an_unreachable_server_is_an_os_error():
    with pytest.raises(Unreachable):
        Client("http://127.0.0.1:9").get("pods", "x", "default")
    assert not Client("http://127.0.0.1:9").ready()
    with pytest.raises(ValueError, match="plural='widgets'"):
        path_of("widgets")


def test_which_pods_go_first():
    def pod(name, node="", up=False, born="1"):
        return {"metadata": {"name": name, "creationTimestamp": born}, "spec": {"nodeName": node},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if up else "False"}]}}  # fmt: skip

    pods = [pod("old", "n", True, "1"), pod("young", "n", True, "2"), pod("unready", "n"), pod("unbound")]
    assert [p["metadata"]["name"] for p in controllers.to_delete(pods, 4)] == ["unbound", "unready", "young", "old"]
