"""The API server's parts that need no server: patches, selectors, schemas, server-side apply, tables."""

import copy
import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beyondlab.fleets import patches, printing, selectors, validation
from beyondlab.fleets.apply import Conflict, Ownership, builtin_schema, crd_schema, from_fields, leaves, server_side_apply, to_fields
from beyondlab.fleets.resources import BUILTIN, Registry, from_definition

NOW = "2026-11-27T00:00:00Z"

# RFC 7386, appendix A
MERGE = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}), ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}), ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}), ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]), ({"a": "b"}, ["c"], ["c"]), ({"a": "foo"}, None, None), ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}), ([1, 2], {"a": "b", "c": None}, {"a": "b"}), ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "patch", "expected"), MERGE)
def test_json_merge_patch_as_the_rfc_has_it(target, patch, expected):
    before = copy.deepcopy(target)
    assert patches.merge(target, patch) == expected
    assert target == before


# RFC 6902, appendix A
JSON_PATCH = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
    ({"foo": ["bar", "baz"]}, [{"op": "add", "path": "/foo/1", "value": "qux"}], {"foo": ["bar", "qux", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
    ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
    ({"baz": "qux", "foo": "bar"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo", "foo": "bar"}),
    ({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}, [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
     {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
    ({"foo": ["all", "grass", "cows", "eat"]}, [{"op": "move", "from": "/foo/1", "path": "/foo/3"}], {"foo": ["all", "cows", "eat", "grass"]}),
    ({"baz": "qux", "foo": ["a", 2, "c"]}, [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
     {"baz": "qux", "foo": ["a", 2, "c"]}),
    ({"foo": "bar"}, [{"op": "add", "path": "/child", "value": {"grandchild": {}}}], {"foo": "bar", "child": {"grandchild": {}}}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}], {"foo": ["bar", ["abc", "def"]]}),
]  # fmt: skip


@pytest.mark.parametrize(("target", "operations", "expected"), JSON_PATCH)
def test_json_patch_as_the_rfc_has_it(target, operations, expected):
    assert patches.json_patch(target, operations) == expected


@pytest.mark.parametrize("operations", [
    [{"op": "add", "path": "/a/b", "value": 1}], [{"op": "test", "path": "/foo", "value": "x"}], [{"op": "remove", "path": "/none"}],
    [{"op": "replace", "path": "/none", "value": 1}], [{"op": "jump", "path": "/foo"}], [{"op": "add", "path": "foo", "value": 1}],
])  # fmt: skip
def test_a_json_patch_that_does_not_fit_is_refused(operations):
    with pytest.raises(patches.BadPatch):
        patches.json_patch({"foo": "bar"}, operations)


def containers(*pairs):
    return {"spec": {"containers": [{"name": name, "image": image} for name, image in pairs]}}


def test_a_strategic_patch_merges_lists_by_name():
    there = containers(("web", "a"), ("log", "b"))
    assert patches.strategic(there, containers(("web", "c"))) == containers(("web", "c"), ("log", "b"))
    assert patches.strategic(there, containers(("new", "d")))["spec"]["containers"][-1]["name"] == "new"
    gone = {"spec": {"containers": [{"name": "log", "$patch": "delete"}]}}
    assert patches.strategic(there, gone) == containers(("web", "a"))
    assert patches.strategic(there, {"spec": {"containers": [{"$patch": "replace"}, {"name": "x", "image": "y"}]}}) == containers(("x", "y"))


def test_the_other_directives_of_a_strategic_patch():
    ordered = {"spec": {"$setElementOrder/containers": [{"name": "log"}, {"name": "web"}], "containers": [{"name": "log"}]}}
    assert [c["name"] for c in patches.strategic(containers(("web", "a"), ("log", "b")), ordered)["spec"]["containers"]] == ["log", "web"]
    assert patches.strategic({"metadata": {"finalizers": ["a", "b"]}}, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}) == {"metadata": {"finalizers": ["b"]}}
    assert patches.strategic({"metadata": {"finalizers": ["a"]}}, {"metadata": {"finalizers": ["a", "b"]}}) == {"metadata": {"finalizers": ["a", "b"]}}
    assert patches.strategic({"strategy": {"type": "a", "x": 1}}, {"strategy": {"$retainKeys": ["type"], "type": "b"}}) == {"strategy": {"type": "b"}}
    assert patches.strategic({"a": {"b": 1}}, {"a": {"$patch": "replace", "c": 2}}) == {"a": {"c": 2}}


@pytest.mark.parametrize(("text", "found", "expected"), [
    ("", {}, True), ("a=b", {"a": "b"}, True), ("a==b", {"a": "c"}, False), ("a!=b", {}, True), ("a!=b", {"a": "b"}, False),
    ("a in (b, c)", {"a": "c"}, True), ("a in (b)", {}, False), ("a notin (b)", {}, True), ("a notin (b,c)", {"a": "b"}, False),
    ("a", {"a": ""}, True), ("!a", {"a": ""}, False), ("! a", {}, True), ("a=b,c=d", {"a": "b", "c": "d"}, True), ("a=b,c in (x,y),!e", {"a": "b", "c": "y"}, True),
    ("app.kubernetes.io/name=web", {"app.kubernetes.io/name": "web"}, True), ("a=", {"a": ""}, True),
])  # fmt: skip
def test_label_selectors(text, found, expected):
    assert selectors.labels(text)(found) is expected


@pytest.mark.parametrize("text", ["a b", "a in b", "=b", "a>3"])
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(selectors.BadSelector, match="labelSelector"):
        selectors.labels(text)


def test_field_selectors_and_selector_objects():
    pod = {"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Running"}}
    assert selectors.fields("metadata.name=p,status.phase=Running,spec.nodeName=")(pod)
    assert not selectors.fields("spec.nodeName!=")(pod)
    with pytest.raises(selectors.BadSelector, match="fieldSelector"):
        selectors.fields("metadata.name in (a)")
    rule = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["x"]}, {"key": "d", "operator": "DoesNotExist"}]}
    assert selectors.matches(rule, {"a": "b"}) and not selectors.matches(rule, {"a": "b", "d": ""})
    assert selectors.matches({}, {}) and not selectors.matches(None, {})


SCHEMA = {"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "required": ["size"], "properties": {
    "size": {"type": "integer", "minimum": 1, "maximum": 9}, "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
    "names": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}}, "free": {"type": "object", "additionalProperties": {"type": "string"}}}}}}  # fmt: skip


@pytest.mark.parametrize(("spec", "message"), [
    ({}, "spec.size: Required value"), ({"size": "3"}, "spec.size: Invalid value"), ({"size": 0}, "greater than or equal to 1"),
    ({"size": 10}, "less than or equal to 9"), ({"size": 1, "mode": "c"}, "supported values"), ({"size": 1, "names": ["ok", "No"]}, r"spec.names\[1\]"),
    ({"size": True}, "must be of type integer"), ({"size": 1, "free": {"a": 1}}, "spec.free.a"),
])  # fmt: skip
def test_a_schema_finds_faults(spec, message):
    assert any(__import__("re").search(message, fault) for fault in validation.faults({"spec": spec}, SCHEMA))


def test_pruning_and_defaults():
    value = {"spec": {"size": 2, "sise": 3, "free": {"x": "y"}}, "extra": 1}
    assert sorted(validation.unknown(value, SCHEMA)) == ["extra", "spec.sise"]
    validation.prune(value, SCHEMA)
    assert value == {"spec": {"size": 2, "mode": "a", "free": {"x": "y"}}}
    assert not list(validation.faults(value, SCHEMA))


def deployment(replicas, image="a", **labels):
    value = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
             "spec": {"template": {"spec": {"containers": [{"name": "web", "image": image}]}}}}  # fmt: skip
    return value if replicas is None else {**value, "spec": {**value["spec"], "replicas": replicas}}


def applied(live, config, manager, **options):
    return server_side_apply(live, config, manager=manager, schema=builtin_schema, now=NOW, **options)


def test_apply_creates_changes_and_gives_up_fields():
    first = applied(None, deployment(3, app="web", tier="x"), "me")
    assert first["metadata"]["managedFields"][0]["operation"] == "Apply"
    second = applied(first, deployment(None, image="b", app="web"), "me")
    assert second["metadata"]["labels"] == {"app": "web"} and "replicas" not in second["spec"]
    assert second["spec"]["template"]["spec"]["containers"] == [{"name": "web", "image": "b"}]


def test_another_managers_field_is_a_conflict_until_forced():
    live = applied(None, deployment(3), "me")
    with pytest.raises(Conflict, match=r'Apply failed with 1 conflict: conflict with "me" using apps/v1: .spec.replicas'):
        applied(live, deployment(5), "you")
    forced = applied(live, deployment(5), "you", force=True)
    assert forced["spec"]["replicas"] == 5
    with pytest.raises(Conflict, match='"you"'):
        applied(forced, deployment(3), "me")


def test_equal_values_are_shared_and_go_only_with_the_last_owner():
    live = applied(applied(None, deployment(3), "me"), deployment(3), "you")
    still = applied(live, deployment(None), "me")
    assert still["spec"]["replicas"] == 3
    assert "replicas" not in applied(still, deployment(None), "you")["spec"]


def test_items_of_a_named_list_have_owners_of_their_own():
    def pod(*names):
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": n, "image": n} for n in names]}}

    live = applied(applied(None, pod("a"), "me"), pod("b"), "you")
    assert [c["name"] for c in live["spec"]["containers"]] == ["a", "b"]
    assert [c["name"] for c in applied(live, pod(), "me")["spec"]["containers"]] == ["b"]


def test_finalizers_are_a_set():
    def with_finalizers(*names):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": list(names)}}

    live = applied(applied(None, with_finalizers("a"), "me"), with_finalizers("b"), "you")
    assert live["metadata"]["finalizers"] == ["a", "b"]
    assert applied(live, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}, "me")["metadata"]["finalizers"] == ["b"]


def test_a_plain_write_takes_the_field_from_who_applied_it():
    live = applied(None, deployment(3), "me")
    after = copy.deepcopy(live)
    after["spec"]["replicas"] = 7
    ownership = Ownership(live["metadata"]["managedFields"])
    ownership.updated(("hpa", "Update", "apps/v1", ""), leaves(live, builtin_schema), leaves(after, builtin_schema))
    after["metadata"]["managedFields"] = ownership.entries(NOW)
    owners = {entry["manager"]: entry["fieldsV1"] for entry in after["metadata"]["managedFields"]}
    assert owners["hpa"] == {"f:spec": {"f:replicas": {}}} and "f:replicas" not in owners["me"]["f:spec"]
    with pytest.raises(Conflict, match='"hpa"'):
        applied(after, deployment(3), "me")


def test_lists_of_custom_resources_merge_as_their_schema_says():
    keyed = {"properties": {"spec": {"properties": {"ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["number"], "items": {}},
                                                    "plain": {"type": "array"}}}}}  # fmt: skip
    look = crd_schema(keyed)
    assert look(("spec", "ports")) == ("number",) and look(("spec", "plain")) == "atomic" and look(("metadata", "finalizers")) == "set"


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(st.tuples(st.just("f"), NAMES), min_size=1, max_size=3).map(tuple)


@given(st.sets(PATHS, min_size=1, max_size=6))
def test_fields_survive_the_way_to_text_and_back(paths):
    tops = {p for p in paths if not any(q != p and q[: len(p)] == p for q in paths)}
    assert from_fields(to_fields(tops)) == tops


@given(st.dictionaries(NAMES, st.integers(0, 3), max_size=3), st.dictionaries(NAMES, st.integers(0, 3), max_size=3), st.dictionaries(NAMES, st.integers(0, 3), max_size=3))
@example({}, {"a": 0}, {"a": 1})
@example({"a": 0}, {}, {})
def test_apply_is_idempotent_and_ends_in_what_was_applied_last(first, second, other):
    def config(data):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}

    live = applied(applied(None, config(first), "me"), config(other), "you", force=True)
    once = applied(live, config(second), "me", force=True)
    assert {k: v for k, v in once.get("data", {}).items() if k in second} == second
    again = applied(copy.deepcopy(once), config(second), "me")
    assert again == once
    kept = set(once.get("data") or {})
    assert kept == set(second) | set(other), "what only I had and gave up is gone"


def test_definitions_are_checked():
    with pytest.raises(ValueError, match="spec.group"):
        from_definition({"metadata": {"name": "x"}, "spec": {}})
    good = {"metadata": {"name": "sites.lab.example"}, "spec": {"group": "lab.example", "names": {"plural": "sites", "kind": "Site"},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}, {"name": "v0", "served": False}]}}  # fmt: skip
    assert [r.group_version for r in from_definition(good)] == ["lab.example/v1"]
    with pytest.raises(ValueError, match='must be "sites.lab.example"'):
        from_definition({**good, "metadata": {"name": "other"}})
    registry = Registry()
    registry.define([good])
    assert registry.get("lab.example", "v1", "sites").name == "sites.lab.example"
    assert "lab.example" in registry.groups() and registry.openapi("lab.example", "v1")["components"]["schemas"]
    assert BUILTIN[2].key("default", "web") == "/registry/core/pods/default/web"


@pytest.mark.parametrize(("seconds", "text"), [(5, "5s"), (119, "119s"), (180, "3m"), (200, "3m20s"), (3599, "59m"), (7200, "2h"), (200_000, "2d")])
def test_ages_read_as_kubectl_shows_them(seconds, text):
    now = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
    assert printing.age((now - datetime.timedelta(seconds=seconds)).isoformat(), now) == text
