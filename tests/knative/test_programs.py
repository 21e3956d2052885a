"""The parts of the programs that can be held to a table: breaker, choice of a pod, traffic split, statistics, HTTP.

Sources: knative/serving, Apache License 2.0, (c) The Knative Authors: ``pkg/queue/breaker_test.go`` (commit 00290b5b) and
``pkg/activator/net/lb_policy_test.go`` (commit 03ed4a10).
"""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beyondlab.knative import wire
from beyondlab.knative.activator import RoundRobin, Throttler, Tracker, first_available, policy_for, random_choice_2
from beyondlab.knative.ingress import Split
from beyondlab.knative.queue_proxy import Breaker, Overload, QueueProxy, Stats
from beyondlab.knative.wire import Message, answer


class Requests:
    """What the source's helpers do: requests that hold a breaker until they are let go."""

    def __init__(self, breaker):
        self.breaker, self.tasks, self.gates, self.accepted = breaker, [], [], []

    async def send(self):
        gate = asyncio.Event()
        number = len(self.tasks)
        self.gates.append(gate)
        self.accepted.append(None)

        async def hold():
            try:
                async with self.breaker:
                    await gate.wait()
                    self.accepted[number] = True
            except Overload:
                self.accepted[number] = False

        self.tasks.append(asyncio.create_task(hold()))
        for _ in range(3):
            await asyncio.sleep(0)

    async def finish(self, numbers):
        for number in numbers:
            self.gates[number].set()
        for _ in range(5):
            await asyncio.sleep(0)


def test_breaker_overload():
    """TestBreakerOverload: one in work, one waiting, the third refused."""

    async def run():
        requests = Requests(Breaker(1, 1))
        for _ in range(3):
            await requests.send()
        await requests.finish([0, 1])
        await asyncio.gather(*requests.tasks)
        return requests.accepted

    assert asyncio.run(run()) == [True, True, False]


def test_breaker_without_overload():
    """TestBreakerNoOverload: never more than two at a time."""

    async def run():
        requests = Requests(Breaker(1, 1))
        await requests.send()
        await requests.send()
        for number in range(2):
            await requests.finish([number])
            await requests.send()
        await requests.finish([2, 3])
        await asyncio.gather(*requests.tasks)
        return requests.accepted

    assert asyncio.run(run()) == [True] * 4


def test_breaker_recovers():
    """TestBreakerRecover and TestBreakerLargeCapacityRecover."""

    async def run(concurrency, queue, first, more):
        breaker = Breaker(concurrency, queue)
        requests = Requests(breaker)
        for _ in range(first):
            await requests.send()
        for step in range(more):
            await requests.finish([step])
            await requests.send()
        await requests.finish(range(len(requests.gates)))
        await asyncio.gather(*requests.tasks)
        assert breaker.active == breaker.waiting == 0
        return requests.accepted

    assert asyncio.run(run(1, 1, 4, 0)) == [True, True, False, False]
    assert asyncio.run(run(5, 45, 100, 50)) == [True] * 50 + [False] * 50 + [True] * 50


def test_breaker_loses_no_place_when_a_caller_gives_up():
    async def run():
        breaker = Breaker(1, 5)
        requests = Requests(breaker)
        for _ in range(3):
            await requests.send()
        requests.tasks[1].cancel()
        await requests.finish([0, 2])
        await asyncio.gather(*requests.tasks, return_exceptions=True)
        return breaker.active, breaker.waiting, requests.accepted

    assert asyncio.run(run()) == (0, 0, [True, None, True])


@pytest.mark.parametrize("limits", [(-1, 0), (0, -1)])
def test_breaker_refuses_negative_limits(limits):
    with pytest.raises(ValueError, match="at least 0"):
        Breaker(*limits)


def trackers(count, limit):
    return [Tracker(port, limit) for port in range(count)]


def test_two_choices():
    """TestRandomChoice2."""
    rng = random.Random(3)
    one = trackers(1, 0)
    assert random_choice_2(one, rng).weight == 1 and random_choice_2(one, rng).weight == 2
    one[0].release()
    assert one[0].weight == 1
    for count in (2, 3):
        pods = trackers(count, 0)
        first = random_choice_2(pods, rng)
        second = random_choice_2(pods, rng)
        assert first.weight == second.weight == 1 and first is not second
        second.release()
        assert random_choice_2(pods, rng).weight == 1
    assert random_choice_2([], rng) is None


def test_first_available():
    """TestFirstAvailable."""
    one = trackers(1, 1)
    assert first_available(one) is one[0] and first_available(one) is None
    two = trackers(2, 1)
    assert first_available(two) is two[0] and first_available(two) is two[1]


def test_round_robin():
    """TestRoundRobin, with a limit of one and of two."""
    robin, pods = RoundRobin(), trackers(3, 1)
    assert robin(pods) is pods[0] and robin(pods) is pods[1]
    assert robin(pods[:1]) is None
    assert robin(pods) is pods[2] and robin(pods) is None
    pods[2].release()
    assert robin(pods) is pods[2]
    robin, pods = RoundRobin(), trackers(3, 2)
    assert robin(pods) is pods[0] and robin(pods) is pods[1]
    assert robin(pods[:1]) is pods[0]
    assert robin(pods) is pods[1] and robin(pods) is pods[2] and robin(pods) is pods[2]


def test_policy_by_limit():
    assert policy_for(3, random.Random(0)) is first_available
    assert isinstance(policy_for(4, random.Random(0)), RoundRobin)
    assert policy_for(0, random.Random(0))(trackers(1, 0)).weight == 1


def test_the_activator_holds_requests_in_order_until_there_is_a_pod():
    async def run():
        throttler, served = Throttler(), []

        async def one(number):
            tracker = await throttler.acquire()
            served.append(number)
            await asyncio.sleep(0)
            throttler.release(tracker)

        throttler.update([], 1)
        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert throttler.waiting == 5 and served == []
        throttler.update([1, 2], 1)
        await asyncio.gather(*tasks)
        return served, [tracker.weight for tracker in throttler.trackers]

    assert asyncio.run(run()) == ([0, 1, 2, 3, 4], [0, 0])


def test_a_pod_keeps_its_load_when_the_endpoints_change():
    async def run():
        throttler = Throttler()
        throttler.update([1], 1)
        held = await throttler.acquire()
        throttler.update([1, 2], 1)
        assert throttler.trackers[0] is held and (await throttler.acquire()).port == 2

    asyncio.run(run())


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 9))
def test_split(shares, seed):
    shares.append(100 - sum(shares))
    if shares[-1] < 0:
        with pytest.raises(ValueError):
            Split({str(n): share for n, share in enumerate(shares)})
        return
    split = Split({str(n): share for n, share in enumerate(shares)}, seed)
    drawn = [split.pick() for _ in range(1_000)]
    for name, share in split.percent.items():
        assert abs(drawn.count(name) - 10 * share) < 85 and (share or name not in drawn)


@pytest.mark.parametrize("percent", [{}, {"a": 99}, {"a": 50, "b": 51}, {"a": 50.5, "b": 49.5}, {"a": -1, "b": 101}, {"a": True, "b": 99}])
def test_bad_splits(percent):
    with pytest.raises(ValueError, match="percent="):
        Split(percent)


def test_average_concurrency_is_weighted_by_time():
    stats = Stats(0.0)
    stats.begin(0.0)
    stats.begin(0.5, proxied=True)
    stats.end(1.0)
    found = stats.report(2.0)
    assert (found["concurrency"], found["proxied"], found["requests"], found["in_flight"]) == (1.25, 0.75, 2, 1)
    assert stats.report(4.0)["concurrency"] == 1.0 and stats.report(4.0)["requests"] == 0


def test_http_there_and_back():
    async def run():
        async def echo(request):
            if request.path == "/broken":
                raise ValueError("no")
            return Message(status=201, headers={"x-got": request.headers.get("x-sent", "")}, body=request.body)

        server, port = await wire.serve(echo)
        async with server:
            reply = await wire.call(port, Message("POST", "/", headers={"x-sent": "a b"}, body=b"\x00" * 100_000))
            broken = await wire.call(port, Message(path="/broken"))
        with pytest.raises(OSError):
            await wire.call(port, Message())
        return reply, broken

    reply, broken = asyncio.run(run())
    assert (reply.status, reply.headers["x-got"], len(reply.body)) == (201, "a b", 100_000)
    assert broken.status == 500 and "ValueError" in broken.json()["error"]


def test_http_reads_chunks_and_notices_a_broken_answer():
    async def run():
        async def chunked(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            writer.close()

        async def broken(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            writer.close()

        bodies = []
        for handler in (chunked, broken):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            async with server:
                try:
                    bodies.append((await wire.call(server.sockets[0].getsockname()[1], Message())).body)
                except ConnectionResetError as error:
                    bodies.append(str(error))
        return bodies

    assert asyncio.run(run()) == [b"abcde", "the connection ended within a body"]


def test_queue_proxy_limits_times_out_and_reports():
    async def run():
        busy = most = 0

        async def function(request):
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0.5 if request.path == "/late" else 0.01)
            busy -= 1
            return answer(200, {})

        server, port = await wire.serve(function)
        async with server:
            proxy = QueueProxy(port, 2, 0.2)
            replies = await asyncio.gather(*(proxy.serve(Message()) for _ in range(30)))
            late = await proxy.serve(Message(path="/late"))
            ready = await proxy.control(Message(path="/ready"))
            drained = await proxy.control(Message("POST", "/drain", body=b'{"quiet": 0.02, "limit": 1}'))
            after = await proxy.control(Message(path="/ready"))
        gone = await proxy.serve(Message())
        metrics = (await proxy.control(Message(path="/metrics"))).json()
        return replies, most, late, ready, drained, after, gone, metrics

    replies, most, late, ready, drained, after, gone, metrics = asyncio.run(run())
    assert most == 2 and [reply.status for reply in replies].count(200) == 22
    assert all(reply.headers["x-try-elsewhere"] == "overload" for reply in replies if reply.status == 503)
    assert late.status == 504 and ready.status == 200 and drained.json() == {"drained": True} and after.status == 503
    assert gone.status == 502 and gone.headers["x-try-elsewhere"] == "broken"
    assert metrics["rejected"] == 8 and metrics["requests"] == 32 and metrics["in_flight"] == 0
