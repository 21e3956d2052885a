"""Firecracker's API in front of the course's monitor, and the client that drives both."""

import json
import socket
import subprocess
import sys

import pytest
from beyondlab.kit import processes
from beyondlab.microvms import client, guests, openapi
from beyondlab.microvms.client import Client, Refused
from beyondlab.microvms.firecracker import LOAD_NOT_ALLOWED, NO_KERNEL, POST_BOOT, PRE_BOOT, Instance
from beyondlab.microvms.lab import Monitor
from beyondlab.microvms.rate_limiter import TokenType


@pytest.fixture
def guest(tmp_path):
    file = tmp_path / "guest"
    file.write_bytes(guests.WATCHER)
    return str(file)


def ask(instance, method, path, body=None):
    status, document = instance.handle(method, path, b"" if body is None else json.dumps(body).encode())
    if openapi.operation(method, path):
        openapi.check_answer(method, path, status, document)
    return status, (document or {}).get("fault_message", document)


def test_the_document_names_its_source_version_and_licence():
    info = openapi.firecracker()["info"]
    assert info["version"] and info["license"]["name"] == "Apache 2.0"
    assert info["x-source"].startswith("https://github.com/firecracker-microvm/firecracker/blob/")


def test_every_reference_of_the_document_resolves():
    text = json.dumps(openapi.firecracker())
    used = {part.split('"')[0] for part in text.split("#/definitions/")[1:]}
    assert used <= openapi.firecracker()["definitions"].keys()
    assert used >= openapi.firecracker()["definitions"].keys() - {"Error"}


BODY = "An error occurred when deserializing the json body of a request: "


@pytest.mark.parametrize(
    ("method", "path", "body", "fault"),
    [
        ("PUT", "/vm", {}, "Invalid request method and/or path: PUT vm."),
        ("GET", "/nowhere", None, "Invalid request method and/or path: GET nowhere."),
        ("PUT", "/machine-config", {"vcpu_count": 1}, BODY + "missing field `mem_size_mib`."),
        ("PUT", "/machine-config", {"vcpu_count": "1", "mem_size_mib": 128}, BODY + 'invalid type: string "1", expected integer.'),
        ("PUT", "/machine-config", {"vcpu_count": True, "mem_size_mib": 128}, BODY + "invalid type: boolean true, expected integer."),
        ("PUT", "/machine-config", {"vcpu_count": 33, "mem_size_mib": 128}, BODY + "invalid value: integer `33`, expected 1 to 32."),
        ("PUT", "/actions", {"action_type": "Fly"}, BODY + "unknown variant `Fly`, expected one of `FlushMetrics`, `InstanceStart`, `SendCtrlAltDel`."),
        ("PUT", "/boot-source", {"kernel_image_path": "k", "cmdline": ""}, BODY + "unknown field `cmdline`, expected one of `boot_args`, `initrd_path`, `kernel_image_path`."),
        ("PUT", "/boot-source", {"kernel_image_path": "/nowhere/k"}, "Boot source error: The kernel file cannot be opened: k: no such file."),
        ("PUT", "/actions", {"action_type": "InstanceStart"}, NO_KERNEL),
        ("PATCH", "/vm", {"state": "Paused"}, PRE_BOOT),
        ("PUT", "/snapshot/create", {"mem_file_path": "m", "snapshot_path": "s"}, PRE_BOOT),
        ("PUT", "/drives/a", {"drive_id": "b", "is_root_device": False}, "The id from the path [a] does not match the id from the body [b]!"),
        ("PUT", "/vsock", {}, "The requested operation is not supported: the course's monitor has no vsock."),
    ],
)  # fmt: skip
def test_faults_before_the_start(method, path, body, fault):
    assert ask(Instance(processor="interpreter"), method, path, body) == (400, fault)


@pytest.mark.parametrize("raw", [b"", b"{", b"{}{}", b"\xff", b"[" * 100_000, b"null", b"[]", b"1e999", b'{"action_type": NaN}', b'{"action_type": null}'])
def test_a_body_that_is_no_document(raw):
    status, document = Instance(processor="interpreter").handle("PUT", "/actions", raw)
    assert status == 400 and document["fault_message"].startswith(BODY)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_numbers_that_firecracker_cannot_hold(number):
    limiter = {"ops": {"size": number, "refill_time": 1}}
    for path, body in (("/machine-config", {"vcpu_count": 1, "mem_size_mib": number}),
                       ("/drives/a", {"drive_id": "a", "is_root_device": False, "rate_limiter": limiter})):
        assert f"invalid value: integer `{number}`, expected 0 to 2**64 - 1" in ask(Instance(processor="interpreter"), "PUT", path, body)[1]


def test_machine_config_is_kept_and_patched():
    instance = Instance(processor="interpreter")
    assert ask(instance, "GET", "/machine-config")[1]["mem_size_mib"] == 128
    assert ask(instance, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 64}) == (204, None)
    assert ask(instance, "PATCH", "/machine-config", {"mem_size_mib": 32}) == (204, None)
    assert ask(instance, "GET", "/machine-config")[1]["mem_size_mib"] == 32
    assert "one vCPU" in ask(instance, "PATCH", "/machine-config", {"vcpu_count": 2})[1]


def test_life_of_an_instance(guest, tmp_path):
    instance = Instance(processor="interpreter")
    state, memory = str(tmp_path / "s"), str(tmp_path / "m")
    assert ask(instance, "PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 2}) == (204, None)
    assert ask(instance, "PUT", "/boot-source", {"kernel_image_path": guest}) == (204, None)
    assert ask(instance, "GET", "/")[1]["state"] == "Not started"
    assert ask(instance, "PUT", "/actions", {"action_type": "InstanceStart"}) == (204, None)
    assert ask(instance, "GET", "/")[1]["state"] == "Running"
    for body in ({"vcpu_count": 1, "mem_size_mib": 2},):
        assert ask(instance, "PUT", "/machine-config", body) == (400, POST_BOOT)
    create = {"snapshot_path": state, "mem_file_path": memory}
    assert "not paused" in ask(instance, "PUT", "/snapshot/create", create)[1]
    assert ask(instance, "PATCH", "/vm", {"state": "Paused"}) == (204, None)
    assert ask(instance, "PUT", "/snapshot/create", create) == (204, None)
    assert "diff snapshots" in ask(instance, "PUT", "/snapshot/create", create | {"snapshot_type": "Diff"})[1]
    assert ask(instance, "PATCH", "/vm", {"state": "Resumed"}) == (204, None)
    assert ask(instance, "PATCH", "/vm", {"state": "Paused"}) == (204, None)

    load = {"snapshot_path": state, "mem_backend": {"backend_type": "File", "backend_path": memory}}
    other = Instance(processor="interpreter")
    assert ask(other, "PUT", "/snapshot/load", load | {"mem_file_path": memory})[0] == 400
    assert "page-fault handler" in ask(other, "PUT", "/snapshot/load", {**load, "mem_backend": {"backend_type": "Uffd", "backend_path": "x"}})[1]
    assert ask(other, "PUT", "/snapshot/load", load | {"resume_vm": False}) == (204, None)
    assert ask(other, "GET", "/")[1]["state"] == "Paused"
    configured = Instance(processor="interpreter")
    ask(configured, "PUT", "/boot-source", {"kernel_image_path": guest})
    assert ask(configured, "PUT", "/snapshot/load", load) == (400, LOAD_NOT_ALLOWED)


def test_a_guest_that_has_halted_can_be_paused_again(tmp_path):
    instance = Instance(processor="interpreter")
    (tmp_path / "hello").write_bytes(guests.HELLO)
    assert ask(instance, "PUT", "/boot-source", {"kernel_image_path": str(tmp_path / "hello")}) == (204, None)
    assert ask(instance, "PUT", "/actions", {"action_type": "InstanceStart"}) == (204, None)
    instance._thread.join(10)
    for state in ("Paused", "Resumed", "Paused"):
        assert ask(instance, "PATCH", "/vm", {"state": state}) == (204, None)


def test_files_that_cannot_be_written_or_read(guest, tmp_path):
    instance = Instance(processor="interpreter")
    ask(instance, "PUT", "/boot-source", {"kernel_image_path": guest})
    ask(instance, "PUT", "/actions", {"action_type": "InstanceStart"})
    ask(instance, "PATCH", "/vm", {"state": "Paused"})
    for path, fault in (("/nowhere/s", "No such file or directory"), ("\0", "null byte")):
        status, told = ask(instance, "PUT", "/snapshot/create", {"snapshot_path": path, "mem_file_path": path})
        assert status == 400 and fault in told
    for text in ("", "[]", "{}", '{"general": [], "segments": [], "ip": 0, "flags": 2, "generation": 1, "memory_mib": 1}'):
        (tmp_path / "s").write_text(text)
        body = {"snapshot_path": str(tmp_path / "s"), "mem_backend": {"backend_type": "File", "backend_path": guest}}
        status, told = ask(Instance(processor="interpreter"), "PUT", "/snapshot/load", body)
        assert status == 400 and "Failed to restore" in told


def test_a_bucket_that_is_not_named_in_a_patch_stays(guest, tmp_path):
    (tmp_path / "disk").write_bytes(bytes(512))
    instance = Instance(processor="interpreter")
    ask(instance, "PUT", "/boot-source", {"kernel_image_path": guest})
    ops, bandwidth = {"size": 5, "refill_time": 10}, {"size": 4096, "refill_time": 100}
    drive = {"drive_id": "a", "is_root_device": False, "is_read_only": True, "path_on_host": str(tmp_path / "disk")}
    assert ask(instance, "PUT", "/drives/a", {**drive, "rate_limiter": {"ops": ops}}) == (204, None)
    ask(instance, "PUT", "/actions", {"action_type": "InstanceStart"})
    assert ask(instance, "PATCH", "/drives/a", {"drive_id": "a"}) == (204, None)
    assert instance._vm._limiter.buckets[TokenType.OPS].size == 5
    assert ask(instance, "PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"bandwidth": bandwidth}}) == (204, None)
    assert {kind: b.size for kind, b in instance._vm._limiter.buckets.items()} == {TokenType.OPS: 5, TokenType.BYTES: 4096}
    assert ask(instance, "GET", "/vm/config")[1]["drives"][0]["rate_limiter"] == {"ops": ops, "bandwidth": bandwidth}
    assert ask(instance, "PATCH", "/drives/a", {"drive_id": "a", "rate_limiter": {"ops": {"size": 0, "refill_time": 1}}}) == (204, None)
    assert instance._vm._limiter.buckets[TokenType.OPS] is None


def test_lengths_that_are_none():
    with Monitor(real=False) as monitor:
        for length in (b"abc", b"-5", b"99999999999"):
            with socket.socket(socket.AF_UNIX) as hostile:
                hostile.settimeout(10)
                hostile.connect(str(monitor._folder / "api"))
                hostile.sendall(b"PUT /vm HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n")
                assert b"400 Bad Request" in hostile.recv(1000)
        assert monitor.api.get("/")["state"] == "Not started" and monitor.console() == ""


def test_a_linux_kernel_is_refused(tmp_path):
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(100))
    instance = Instance(processor="interpreter")
    ask(instance, "PUT", "/boot-source", {"kernel_image_path": str(tmp_path / "vmlinux")})
    assert "16-bit guests only" in ask(instance, "PUT", "/actions", {"action_type": "InstanceStart"})[1]


def test_the_client_script_boots_snapshots_and_restores(tmp_path):
    with Monitor(real=False) as monitor:
        answers = client.boot(monitor.api, **monitor.guest())
        monitor.wait_for("ready")
        answers += client.snapshot(monitor.api, tmp_path / "s", tmp_path / "m")
        assert monitor.api.get("/")["state"] == "Paused"
        with pytest.raises(Refused, match=r"PUT /actions: 400: The requested operation is not supported after"):
            monitor.api.put("/actions", action_type="InstanceStart")
        assert monitor.api.request("PUT", "/network-interfaces/e", {"iface_id": "e", "host_dev_name": "tap9"}).status == 400
    with Monitor(real=False) as monitor:
        answers += client.restore(monitor.api, tmp_path / "s", tmp_path / "m")
        monitor.wait_for("restored")
        assert "ready" not in monitor.console()
    assert {answer.status for answer in answers} == {204}
    assert len(answers) == 6


def test_a_socket_deep_down(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(processes._owner, "scratch", deep / "scratch")
    with Monitor(real=False) as monitor:
        assert len(monitor.api._path) > client.LONGEST_PATH
        assert monitor.api.get("/")["state"] == "Not started"


def test_every_request_of_the_client_fits_the_document(monkeypatch, tmp_path):
    sent = []

    def request(self, method, path, body=None):
        sent.append((method, path, body))
        return client.Answer(method, path, 204, None, 0.0)

    monkeypatch.setattr(Client, "request", request)
    api = Client("/nowhere")
    limiter = {"bandwidth": {"size": 1, "refill_time": 1}}
    client.boot(api, "k", initrd="i", drive="d", rate_limiter=limiter)
    client.snapshot(api, "s", "m")
    client.restore(api, "s", "m")
    assert len(sent) == 7
    for method, path, body in sent:
        _, operation, _ = openapi.operation(method, path)
        openapi.check(body, openapi.body_schema(operation))


def test_the_script_from_the_command_line(tmp_path):
    with Monitor(real=False) as monitor:
        guest = monitor.guest()
        argv = [sys.executable, "-m", "beyondlab.microvms.client", monitor.api._path, "boot", str(guest["kernel"]), "--memory", "16"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
            "PUT /machine-config: 204", "PUT /boot-source: 204", "PUT /actions: 204",
        ]  # fmt: skip
        monitor.wait_for("ready")


def test_clients_that_hang_up_do_not_tear_the_console():
    with Monitor(real=False) as monitor:
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as hasty:
                hasty.connect(str(monitor._folder / "api"))
                hasty.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert monitor.api.get("/")["state"] == "Not started"
        assert "Error" not in monitor.process.output(10_000)
