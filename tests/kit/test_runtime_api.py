"""The Runtime API without a runtime: what any HTTP client sees."""

import http.client
import json
import socket
import struct
import threading
import time

import pytest

from beyondlab.kit.runtime_api import MAX_RESPONSE_BYTES, RuntimeApi

BASE = "/2018-06-01/runtime"


def call(api, method, path, body=None, headers=None, **keywords):
    connection = http.client.HTTPConnection(api.address, timeout=5)
    try:
        connection.request(method, path, body, headers or {}, **keywords)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


class Runtime(threading.Thread):
    """Takes one event and posts ``answer(event)`` to ``kind``."""

    def __init__(self, api, kind="response", answer=lambda event: event):
        super().__init__(daemon=True)
        self.api, self.kind, self.answer = api, kind, answer
        self.start()

    def run(self):
        self.next, event = call(self.api, "GET", f"{BASE}/invocation/next")
        self.request_id = self.next.headers["Lambda-Runtime-Aws-Request-Id"]
        self.posted, self.body = call(
            self.api, "POST", f"{BASE}/invocation/{self.request_id}/{self.kind}", self.answer(event)
        )


def test_an_event_goes_out_and_its_answer_comes_back():
    with RuntimeApi(function_name="greet") as api:
        runtime = Runtime(api)
        answer = api.invoke({"n": 1}, timeout=5)
        runtime.join(5)
    assert (answer.kind, json.loads(answer.body)) == ("response", {"n": 1})
    assert answer.request_id == runtime.request_id
    assert runtime.posted.status == 202 and json.loads(runtime.body) == {"status": "OK"}
    assert 0 < int(runtime.next.headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - time.time() <= 5
    assert runtime.next.headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:greet")
    assert api.ready_at is not None


def test_an_error_is_an_answer_too():
    with RuntimeApi() as api:
        Runtime(api, "error", lambda _: b'{"errorType": "ValueError"}')
        answer = api.invoke(None, timeout=5)
    assert (answer.kind, json.loads(answer.body)["errorType"]) == ("error", "ValueError")


@pytest.mark.parametrize(("size", "kind", "status"), [(MAX_RESPONSE_BYTES, "response", 202), (MAX_RESPONSE_BYTES + 1, "too-large", 413)])
def test_an_answer_may_have_6_291_556_bytes(size, kind, status):
    with RuntimeApi() as api:
        runtime = Runtime(api, answer=lambda _: b"x" * size)
        assert api.invoke(None, timeout=10).kind == kind
        runtime.join(5)
    assert runtime.posted.status == status
    if status == 413:
        assert json.loads(runtime.body)["errorType"] == "RequestEntityTooLarge"


def test_a_chunked_answer_is_put_together():
    with RuntimeApi() as api:
        result = []
        caller = threading.Thread(target=lambda: result.append(api.invoke(None, timeout=5)))
        caller.start()
        response, _ = call(api, "GET", f"{BASE}/invocation/next")
        path = f"{BASE}/invocation/{response.headers['Lambda-Runtime-Aws-Request-Id']}/response"
        call(api, "POST", path, iter([b'"one', b' two"']), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        caller.join(5)
    assert json.loads(result[0].body) == "one two"


def test_an_answer_to_another_request_is_refused():
    with RuntimeApi() as api:
        response, body = call(api, "POST", f"{BASE}/invocation/not-this-one/response", b"{}")
    assert response.status == 400 and json.loads(body)["errorType"] == "InvalidRequestID"


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", f"{BASE}/nothing"), ("POST", "/2015-03-31/runtime/init/error")])
def test_other_paths_are_not_there(method, path):
    with RuntimeApi() as api:
        assert call(api, method, path, b"{}")[0].status == 404


def test_no_answer_in_time_is_a_timeout():
    with RuntimeApi() as api:
        begin = time.perf_counter()
        answer = api.invoke(None, timeout=0.2)
    assert answer.kind == "timeout" and answer.body == b""
    assert 0.2 <= time.perf_counter() - begin < 2


def test_a_runtime_that_goes_away_ends_the_wait():
    with RuntimeApi() as api:
        threading.Timer(0.1, api.abandon).start()
        begin = time.perf_counter()
        assert api.invoke(None, timeout=10).kind == "closed"
        assert time.perf_counter() - begin < 5


def test_one_event_at_a_time():
    with RuntimeApi() as api:
        threading.Thread(target=lambda: api.invoke(None, timeout=1), daemon=True).start()
        time.sleep(0.1)
        with pytest.raises(RuntimeError, match="one request at a time"):
            api.invoke(None, timeout=1)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_bad_timeouts_are_refused(timeout):
    with RuntimeApi() as api, pytest.raises(ValueError, match="timeout="):
        api.invoke(None, timeout=timeout)


def test_init_errors_are_kept_even_if_they_are_no_json():
    with RuntimeApi() as api:
        call(api, "POST", f"{BASE}/init/error", b"out of luck")
        assert api.settled() and api.init_error["errorMessage"] == "out of luck"


def test_snapstart_parks_until_restored():
    with RuntimeApi(snap_start=True) as api:
        statuses = []
        runtime = threading.Thread(target=lambda: statuses.append(call(api, "GET", f"{BASE}/restore/next")[0].status))
        runtime.start()
        time.sleep(0.1)
        assert api.ready_at is not None and not statuses
        api.restore()
        runtime.join(5)
        assert statuses == [200]


def test_only_snapstart_restores():
    with RuntimeApi() as api, pytest.raises(ValueError, match="snap_start=False"):
        api.restore()


def test_closing_gives_the_port_back_and_ends_hanging_calls():
    api = RuntimeApi()
    failures = []

    def hang():
        try:
            call(api, "GET", f"{BASE}/invocation/next")
        except (http.client.HTTPException, OSError) as error:
            failures.append(error)

    runtime = threading.Thread(target=hang)
    runtime.start()
    time.sleep(0.1)
    api.close()
    api.close()
    runtime.join(5)
    assert len(failures) == 1
    with pytest.raises(OSError):
        call(api, "GET", "/")


def test_a_runtime_that_is_cut_off_is_no_news(capsys):
    with RuntimeApi() as api:
        host, port = api.address.split(":")
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        time.sleep(0.3)
    assert capsys.readouterr().err == ""
