"""The application of the lab, put into an image as ``app/main.py``. Standard library only; it listens on 127.0.0.1:PORT.

Before it listens it reads the first TOUCH of ``model.bin``: from the file, or, where ``.lazy.json`` stands in the image's
root, from the layer. A lazy file system does that unseen; here the application does it.

``/``: a greeting. ``/sleep?S``, ``/burn?S``: wait, or compute, for S seconds. ``/eat?MB``: take memory. ``/health``.
"""

import gzip
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
kept = []


def touch(share):
    """The digest of the first chunks of the model, and how many bytes were read for it."""
    lazy = os.path.join(ROOT, ".lazy.json")
    chunk = 1 << 18
    if os.path.exists(lazy):
        with open(lazy) as file:
            entry = json.load(file).get("model.bin")
        if entry:
            parts, moved = [], 0
            wanted = max(1, -int(-entry["size"] * share // chunk))
            with open(entry["blob"], "rb") as file:
                for offset, length, name in entry["chunks"][:wanted]:
                    file.seek(offset)
                    part = gzip.decompress(file.read(length))
                    if "sha256:" + hashlib.sha256(part).hexdigest() != name:
                        sys.exit("a chunk of the model has other bytes")
                    parts.append(part)
                    moved += length
            return hashlib.sha256(b"".join(parts)).hexdigest(), moved
    path = os.path.join(ROOT, "model.bin")
    if not os.path.exists(path):
        return "", 0
    size = max(1, -int(-os.path.getsize(path) * share // chunk)) * chunk
    with open(path, "rb") as file:
        data = file.read(size)
    return hashlib.sha256(data).hexdigest(), len(data)


def answer(path):
    what, _, argument = path.partition("?")
    if what == "/sleep":
        time.sleep(float(argument))
    elif what == "/burn":
        begin, used = time.monotonic(), time.process_time()
        while time.monotonic() - begin < float(argument):
            sum(range(2000))
        return {"cpu": time.process_time() - used, "wall": time.monotonic() - begin}
    elif what == "/eat":
        kept.append(bytearray(b"x") * (int(argument) << 20))
        return {"eaten": int(argument)}
    return {"greeting": os.environ.get("GREETING", "hello"), "model": MODEL, "moved": MOVED}


def serve(connection):
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(4096)
            if not more:
                return
            data += more
        try:
            status, body = "200 OK", json.dumps(answer(data.split()[1].decode()), sort_keys=True).encode()
        except MemoryError:
            os._exit(137)
        connection.sendall(b"HTTP/1.0 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))


if __name__ == "__main__":
    MODEL, MOVED = touch(float(os.environ.get("TOUCH", "0.064")))
    if os.environ.get("STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.stack_size(256 << 10)
    with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as server:
        while True:
            threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()
