"""The checks tell right from wrong, and say what is wrong."""

import pytest

from beyondlab.knative import exercises, manifests, model


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (exercises.check_pods, 6, 5, "70 %"),
        (exercises.check_pods, 6, 9, "counts once"),
        (exercises.check_direct, 3, 2, "negative"),
        (exercises.check_direct, 3, 4, "full limit"),
        (exercises.check_keep, 355.9, 415.9, "60 s of it already"),
        (exercises.check_keep, 355.9, 300, "exponential"),
        (exercises.check_keep, 355.9, 540, "37 %"),
        (exercises.check_flapping, "equality", "panic", "nobody panics"),
        (exercises.check_flapping, "equality", "window", "no part"),
    ],
)
def test_answers(check, right, wrong, says, capsys):
    assert check(right)
    assert not check(wrong) and says in capsys.readouterr().out
    assert not check(None) and "Not answered yet" in capsys.readouterr().out


def test_window(capsys):
    assert exercises.check_window(lambda v, w: sum(v[-w:]) / len(v[-w:]) if v else 0.0)
    assert not exercises.check_window(lambda v, w: sum(v[-w:]) / w)
    assert not exercises.check_window(lambda v, w: sum(v) / len(v) if v else 0.0)
    assert not exercises.check_window(lambda v, w: sum(v[-w:]) / len(v[-w:])) and "ZeroDivisionError" in capsys.readouterr().out


def test_event(capsys):
    def right(event, store, charge):
        return store.setdefault((event["source"], event["id"]), None) or store.__setitem__(key := (event["source"], event["id"]), charge(event)) or store[key]

    def by_id(event, store, charge):
        if event["id"] not in store:
            store[event["id"]] = charge(event)
        return store[event["id"]]

    def silent(event, store, charge):
        if event["id"] not in store:
            store[event["id"]] = charge(event)

    assert exercises.check_event(right)
    for wrong, says in [(lambda e, s, c: c(e), "charged again"), (by_id, "another source"), (silent, "return"), (3, "A function"),
                        (lambda e, s, c: e["nothing"], "KeyError"), (None, "Not answered")]:  # fmt: skip
        assert not exercises.check_event(wrong) and says in capsys.readouterr().out


def test_manifest(capsys):
    good = manifests.cloud_run(manifests.Service("a", "b", min_scale=1, max_scale=20))
    assert exercises.check_manifest(good)
    new_names = manifests.knative(manifests.Service("a", "b", min_scale=1, max_scale=20))
    for wrong, says in [(new_names, "does not know"), ({"spec": {"template": {"spec": {}}}}, "required"), ("a: b", "mapping"),
                        (manifests.cloud_run(manifests.Service("a", "b", max_scale=20)), "minScale"), (None, "Not answered")]:  # fmt: skip
        assert not exercises.check_manifest(wrong) and says in capsys.readouterr().out


def test_settings(capsys):
    def simulate(settings):
        keep = settings.stable_window + settings.scale_to_zero_pod_retention_period
        return model.Fleet("", 1.2 / keep, 1.0, settings.stable_window / 30, 300 + keep / 3, 0.0, 0)

    assert exercises.check_settings(model.with_settings(scale_to_zero_pod_retention_period=90), simulate)
    for wrong, says in [(model.with_settings(), "cold"), (model.with_settings(scale_to_zero_pod_retention_period=600), "too dear"),
                        (model.with_settings(stable_window=150), "upwards"), (90, "Settings are wanted"), (None, "Not answered")]:  # fmt: skip
        assert not exercises.check_settings(wrong, simulate) and says in capsys.readouterr().out
