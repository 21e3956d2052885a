"""Both runtimes, the zygote, the model server and its published client, driven for real."""

import json
import os
import urllib.error
import urllib.request

import numpy as np
import pytest

from beyondlab.inference import cures, lab, load, models, phases, protocol, server, serving, store, zygote
from beyondlab.kit import processes

pytestmark = pytest.mark.skipif(lab.missing() is not None and os.environ.get("CI") != "true", reason=str(lab.missing()))
ROWS = 9_000
ECHO = "mark('imports')\ndef predict(x):\n    return {'got': x}\n"


@pytest.fixture(autouse=True)
def nothing_left():
    before = set(processes.carriers(processes.owner_token()))
    yield
    assert set(processes.carriers(processes.owner_token())) <= before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def ranker(folder):
    return models.write_ranker(folder, rows=ROWS)


@pytest.fixture(scope="module")
def onnx(folder):
    data = models.digits()
    return models.export(models.train(data), folder)[0], data


@pytest.fixture(scope="module")
def question():
    return models.requests(1, rows=ROWS).tolist()


@pytest.mark.parametrize("host", [serving.Lambda, serving.CloudRun])
def test_a_function_answers_and_its_phases_add_up(host):
    with host(ECHO) as running:
        first, second = running.ask([1, 2]), running.ask("again")
        assert running.memory() > 1e6
    assert first.value == {"got": [1, 2]} and second.value == {"got": "again"}
    assert set(first.phases) == set(phases.PHASES) and all(seconds >= 0 for seconds in first.phases.values())
    assert phases.total(first.phases) > first.seconds >= first.inference
    assert first.phases["runtime"] > 0.005 and first.phases["model read"] == 0


@pytest.mark.parametrize("host", [serving.Lambda, serving.CloudRun])
def test_a_function_that_cannot_load_says_why(host):
    with pytest.raises((RuntimeError, processes.ProcessExited), match="no_such_module"), host("import no_such_module"):
        pass


def test_a_function_that_raises_is_an_error():
    with serving.Lambda("def predict(x):\n    raise ValueError('no such digit')\n") as running:
        with pytest.raises(RuntimeError, match="no such digit"):
            running.ask(1)


def test_both_runtimes_give_the_same_digit(onnx):
    path, data = onnx
    x = data.x_test[:3].tolist()
    answers = [lab.start(host, cures.ONNX, x, path=path)["value"] for host in (serving.Lambda, serving.CloudRun)]
    assert lab.difference(*answers) < 1e-6 and np.array(answers[0]).shape == (3, 10)


def test_every_way_to_load_gives_the_same_scores(ranker, question):
    with store.object_store(ranker.parent, 200e6) as address:
        answers = {
            name: lab.start(serving.Lambda, body, question, path=ranker, store=address)["value"]
            for name, body in [("whole", cures.WHOLE), ("mapped", cures.MAPPED), ("traced", cures.TRACED), ("remote", cures.REMOTE),
                               ("background", cures.BACKGROUND), ("later", cures.LATER)]
        }  # fmt: skip
    assert all(lab.difference(value, answers["whole"]) < 1e-5 for value in answers.values())


def test_a_thread_that_loads_does_not_survive_gunicorns_fork(ranker, question):
    """The lesson of exercise 4: works on Lambda's runtime (above), hangs under functions-framework."""
    with store.object_store(ranker.parent, 30e6) as address:
        with serving.CloudRun(cures.LATER, path=ranker, store=address, timeout=6.0) as running, pytest.raises(OSError, match="timed out"):
            running.ask(question)


def test_clones_share_their_parents_memory(ranker, question):
    source = serving.module(cures.MAPPED, path=ranker)
    direct = lab.start(serving.Lambda, cures.MAPPED, question, path=ranker)["value"]
    with zygote.Zygote(source) as parent:
        made = [parent.clone(question) for _ in range(3)]
    assert all(lab.difference(clone.value, direct) < 1e-6 for clone in made)
    assert all(clone.private < clone.shared for clone in made)
    assert min(clone.seconds for clone in made) < parent.init


def test_clones_are_copies_and_so_are_their_secrets():
    source = serving.module("import secrets\ntoken = secrets.token_hex(8)\ncount = 0\ndef predict(x):\n    global count\n    count += 1\n    return [token, count]\n")
    with zygote.Zygote(source) as parent:
        tokens = [parent.clone(None).value for _ in range(3)]
        assert {count for _, count in tokens} == {1}, "what one writes, the others do not see"
        assert len({token for token, _ in tokens}) == 1, "what init made unique is not"


def test_a_clone_that_fails_leaves_the_zygote_alive():
    with zygote.Zygote(serving.module("def predict(x):\n    return 1 / x\n")) as parent:
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            parent.clone(0)
        assert parent.clone(4).value == 0.25


def test_evict_empties_the_page_cache_or_says_that_it_did_not(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(4_000_000))
    assert serving.resident(path) == 1.0
    left = serving.evict(path)
    assert left in (0.0, 1.0), "dropped, or a file system in memory"
    path.read_bytes()
    assert serving.resident(path) == 1.0


# The model server and the published client


def test_nvidias_client_speaks_with_the_server(ranker):
    client_module = pytest.importorskip("tritonclient.http", reason="tritonclient is for Linux")
    ids = models.requests(3, rows=ROWS)
    import onnxruntime

    direct = onnxruntime.InferenceSession(ranker).run(None, {"ids": ids})[0]
    with server.model_server("ranker", {"1": ranker, "2": ranker}, size=8, delay=0.002) as url:
        client = client_module.InferenceServerClient(url.removeprefix("http://"))
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("ranker", "1")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata("ranker")
        assert metadata["versions"] == ["1", "2"]
        assert metadata["inputs"] == [{"name": "ids", "datatype": "INT64", "shape": [-1, 8]}]
        for binary_in in (True, False):
            for binary_out in (True, False):
                tensor = client_module.InferInput("ids", ids.shape, "INT64")
                tensor.set_data_from_numpy(ids, binary_data=binary_in)
                wanted = client_module.InferRequestedOutput("scores", binary_data=binary_out)
                result = client.infer("ranker", [tensor], model_version="1", outputs=[wanted], request_id="seven")
                assert np.abs(result.as_numpy("scores") - direct).max() < 1e-5
                assert result.get_response()["id"] == "seven" and result.get_response()["model_version"] == "1"
        tensor = client_module.InferInput("ids", ids.shape, "INT64")
        tensor.set_data_from_numpy(ids)
        assert np.abs(client.infer("ranker", [tensor]).as_numpy("scores") - direct).max() < 1e-5
        for name, version in (("unknown", ""), ("ranker", "9")):
            with pytest.raises(Exception, match="no (model|version)|has no version"):
                client.infer(name, [tensor], model_version=version)
        wrong = client_module.InferInput("ids", [3, 4], "INT64")
        wrong.set_data_from_numpy(ids[:, :4].copy())
        with pytest.raises(Exception, match="shape"):
            client.infer("ranker", [wrong])
        client.close()


def test_the_server_batches_and_splits(ranker):
    bodies = [json.dumps(protocol.encode_request({"ids": row[None]})).encode() for row in models.requests(24, rows=ROWS)]
    with server.model_server("ranker", {"1": ranker, "2": ranker}, size=4, delay=0.05) as url:
        answers = load.replay(f"{url}/v2/models/ranker/versions/1/infer", [0.0] * 24, bodies)
        sizes, seconds = lab.batches(answers)
        assert sum(sizes) == 24 and max(sizes) == 4 and min(seconds) > 0
        body = json.dumps({"1": 0, "2": 100}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/traffic", body), timeout=10).read()
        answers = load.replay(f"{url}/v2/models/ranker/infer", [0.0] * 5, bodies[:5])
        assert {document["model_version"] for document in answers.documents} == {"2"}
        for path, content in (("/traffic", b'{"1": 50}'), ("/batching", b'{"size": 0, "delay": 0}'), ("/v2/models/ranker/infer", b"{")):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(url + path, content), timeout=10)
            assert caught.value.code == 400 and "error" in json.loads(caught.value.read())


def test_a_load_that_is_refused_is_an_error(ranker):
    with server.model_server("ranker", {"1": ranker}) as url:
        with pytest.raises(RuntimeError, match="404"):
            load.replay(f"{url}/v2/models/other/infer", [0.0], [b"{}"])
    with pytest.raises(ValueError, match="due"):
        load.replay("http://127.0.0.1:1/", [1.0, 0.0], [b"", b""])


def test_the_folder_goes_and_comes_back():
    first = lab.folder()
    (first / "x").write_text("x")
    lab.tidy()
    assert not first.exists()
    again = lab.folder()
    assert again.is_dir() and again != first
    lab.tidy()
    lab.tidy()
