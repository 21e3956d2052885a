"""The models and their files: safetensors against the published library, ONNX against NumPy and scikit-learn."""

import json

import numpy as np
import onnxruntime
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from beyondlab.inference import models

ROWS = 4_500


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def ranker(folder):
    return models.write_ranker(folder, rows=ROWS), models.write_quantised_ranker(folder, rows=ROWS)


@pytest.fixture(scope="module")
def classifier(folder):
    data = models.digits()
    model = models.train(data)
    return data, model, *models.export(model, folder)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def test_our_safetensors_are_read_by_the_published_library(tmp_path):
    one, two = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([[1, -2, 127]], np.int8)
    path = tmp_path / "ours.safetensors"
    models.write_safetensors(path, [("one", "F32", (3, 4), [one[:2], one[2:]]), ("two", "I8", (1, 3), [two])])
    found = load_file(path)
    assert np.array_equal(found["one"], one) and np.array_equal(found["two"], two)
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == {"one", "two"}


def test_we_read_the_safetensors_of_the_published_library(tmp_path):
    tensors = {"a": np.random.default_rng(1).random((7, 5), np.float32), "b": np.arange(3, dtype=np.int8)}
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"made": "for a test"})
    found = models.mapped(tmp_path / "theirs.safetensors")
    assert set(found) == {"a", "b"} and all(np.array_equal(found[k], tensors[k]) for k in tensors)


def test_pieces_must_fill_their_tensor_and_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="do not fill"):
        models.write_safetensors(tmp_path / "x", [("one", "F32", (3, 4), [np.zeros((2, 4))])])
    (tmp_path / "y").write_bytes(b"PK\x03\x04 not one of them")
    with pytest.raises(ValueError, match="no safetensors"):
        models.header(tmp_path / "y")


def test_the_classifier_answers_alike_in_three_runtimes(classifier):
    data, model, onnx, _ = classifier
    labels, served = session(onnx).run(None, {"X": data.x_test})
    (w1, w2), (b1, b2) = model.coefs_, model.intercepts_
    scores = np.maximum(data.x_test @ w1 + b1, 0) @ w2 + b2
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert np.abs(odds / odds.sum(axis=1, keepdims=True) - served).max() < 1e-5
    assert np.abs(model.predict_proba(data.x_test) - served).max() < 1e-5
    assert (labels == data.y_test).mean() > 0.85


def test_eight_bits_keep_the_labels(classifier):
    data, _, onnx, _ = classifier
    small = models.quantise(onnx)
    assert small.stat().st_size < 0.6 * onnx.stat().st_size
    assert (session(small).run(None, {"X": data.x_test})[0] == session(onnx).run(None, {"X": data.x_test})[0]).mean() > 0.97


def test_the_rankers_graph_points_into_the_weights(ranker):
    graph, _ = ranker
    weights = models.mapped(graph.with_suffix(".safetensors"))
    ids = models.requests(20, rows=ROWS)
    x = weights["table"][ids].mean(axis=1) @ weights["up"]
    for layer in range(models.LAYERS):
        x = np.maximum(x @ weights[f"dense{layer}"], 0)
    served = session(graph).run(None, {"ids": ids})[0]
    assert np.abs(x @ weights["head"] - served).max() < 1e-4 * np.abs(served).max() + 1e-5
    assert graph.stat().st_size < 10_000 and served.std() > 0.01


def test_eight_bits_mostly_choose_the_same(ranker):
    ids = models.requests(300, rows=ROWS)
    full, small = (session(path).run(None, {"ids": ids})[0] for path in ranker)
    assert (full.argmax(1) == small.argmax(1)).mean() > 0.9
    assert ranker[1].with_suffix(".safetensors").stat().st_size < 0.3 * ranker[0].with_suffix(".safetensors").stat().st_size


def test_the_same_seed_gives_the_same_file(tmp_path, ranker):
    again = models.write_ranker(tmp_path, rows=ROWS)
    assert again.with_suffix(".safetensors").read_bytes() == ranker[0].with_suffix(".safetensors").read_bytes()


def test_quantised_is_within_half_a_step():
    weights = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    weights[:, 3] = 0
    values, scale = models.quantised(weights, axis=0)
    assert values.dtype == np.int8 and (np.abs(values * scale - weights) <= scale / 2 + 1e-7).all()


def test_the_header_is_what_the_format_says(ranker):
    raw = ranker[0].with_suffix(".safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 8 == 0 and header["table"]["shape"] == [ROWS, models.WIDTH]
    ends = [entry["data_offsets"] for entry in header.values()]
    assert all(after[0] == before[1] for before, after in zip(ends, ends[1:])), "no gap between tensors"
    assert 8 + length + ends[-1][1] == len(raw)


def test_bad_input():
    with pytest.raises(ValueError, match="train="):
        models.digits(1_797)
    with pytest.raises(ValueError, match="count="):
        models.requests(0)


def test_onnx_runtime_reports_nothing_and_leaves_no_file(tmp_path):
    """Version 1.32.0 writes ``.ses`` into the temporary folder on import, unless ORT_DISABLE_TELEMETRY is set."""
    import os
    import subprocess
    import sys

    env = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | {"TMPDIR": str(tmp_path)}
    code = "import beyondlab.inference, onnxruntime, subprocess, sys; subprocess.run([sys.executable, '-c', 'import onnxruntime'], check=True)"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []
