"""The load generators, against a server whose answers are known."""

import asyncio
import threading

import numpy as np
import pytest

from beyondlab.kit import load
from beyondlab.kit.http import Client, NoAnswer


class Server:
    """Answers 200 with the path as body; /slow after half a second, /close without an answer, /bye and closes."""

    def __enter__(self):
        self.loop, ready = asyncio.new_event_loop(), threading.Event()
        self.connections = 0

        async def serve(reader, writer):
            self.connections += 1
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    path = head.split(b" ", 2)[1]
                    if path == b"/close":
                        break
                    if path == b"/slow":
                        await asyncio.sleep(0.5)
                    extra = b"connection: close\r\n" if path == b"/bye" else b""
                    writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (extra, len(path), path))
                    if path == b"/bye":
                        break
            except asyncio.IncompleteReadError:
                pass
            writer.close()

        async def begin():
            self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            ready.set()

        self.loop.create_task(begin())
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


def test_an_open_loop_sends_whether_or_not_it_is_answered(server):
    answers = load.open_loop(server.port, [0.0, 0.05, 0.1, 0.15], "/slow")
    assert answers.status.tolist() == [200] * 4 and answers.bodies == (b"/slow",) * 4
    assert answers.sent[-1] < answers.done[0], "the last was sent before the first was answered"
    assert 0.5 <= answers.percentile(50) < 5


def test_requests_begin_in_the_order_of_the_plan_however_late_the_machine_is():
    begun = []

    async def one(index):
        begun.append(index)
        await asyncio.sleep(0.01 * (5 - index))

    async def wait_for(moment):
        await asyncio.sleep(0)  # as when all moments are over

    asyncio.run(load.at_each([0.0] * 5, one, wait_for))
    assert begun == list(range(5))


def test_a_closed_loop_waits(server):
    answers = load.closed_loop(server.port, 3, "/slow", clients=1)
    assert np.all(answers.sent[1:] >= answers.done[:-1]) and np.all(answers.response >= 0.5)


def test_connections_are_kept_and_paths_and_headers_may_change(server):
    before = server.connections
    answers = load.closed_loop(server.port, 20, lambda index: f"/{index}", clients=2, headers=lambda index: {"x": str(index)})
    assert answers.bodies == tuple(f"/{index}".encode() for index in range(20))
    assert server.connections - before == 2


def test_a_connection_that_the_server_closes_is_not_used_again(server):
    answers = load.closed_loop(server.port, 4, "/bye", clients=1)
    assert answers.status.tolist() == [200] * 4


def test_no_answer_is_status_0(server):
    assert load.closed_loop(server.port, 2, "/close").status.tolist() == [0, 0]
    assert load.closed_loop(server.port, 1, "/slow", timeout=0.1).status.tolist() == [0]
    with Server() as other:
        port = other.port
    assert load.closed_loop(port, 1, "/").status.tolist() == [0]


def test_a_client_says_why_there_is_no_answer(server):
    async def ask():
        await Client(server.port).fetch("/close")

    with pytest.raises(NoAnswer):
        load.in_a_thread(ask)


def test_only_loopback_is_loaded():
    with pytest.raises(ValueError, match="loopback"):
        Client(80, host="192.0.2.1")


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda: load.open_loop(1, []), "arrivals"), (lambda: load.open_loop(1, [1.0, 0.5]), "ascending"),
    (lambda: load.open_loop(1, [31.0]), "30 s"), (lambda: load.open_loop(1, [float("nan")]), "finite"),
    (lambda: load.closed_loop(1, 0), "requests=0"), (lambda: load.closed_loop(1, 1, clients=0), "clients=0"),
    (lambda: load.closed_loop(1, 1, timeout=0), "timeout=0"),
])  # fmt: skip
def test_bad_plans_are_refused(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
