"""An object store for the lab: HTTP with Range, at a bandwidth that a token bucket limits.

The bucket stands for the network between a function and its weights. On loopback 250 MB take a tenth of a second; no
function is that close to its bucket. ``python -m beyondlab.inference.store FOLDER BYTES_PER_SECOND``.
"""

from __future__ import annotations

import http.server
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beyondlab.kit import check, processes

_PIECE = 262_144
_READY = re.compile(r"listening on port (\d+)")


class TokenBucket:
    """A rate limit that allows bursts: ``rate`` tokens a second drip into a bucket that holds ``burst``.

    No clock inside: the caller says what time it is, in seconds. A request may take more than there is; it is then
    told how long it has to wait, and the next ones wait behind it.
    """

    def __init__(self, rate: float, burst: float, now: float = 0.0) -> None:
        check.all_positive(rate=rate, burst=burst)
        self.rate, self.burst = rate, burst
        self._tokens, self._last = burst, now

    def take(self, tokens: float, now: float) -> float:
        """Take ``tokens`` and say how many seconds to wait before using them."""
        if tokens < 0 or now < self._last:
            raise ValueError(f"tokens={tokens!r}, now={now!r}: must not be negative, and time does not run backwards")
        self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate) - tokens
        self._last = now
        return max(0.0, -self._tokens / self.rate)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last that a Range header asks of ``size`` bytes (RFC 9110, section 14).

    None if there is no header, or one to be ignored: another unit, several ranges, or bad syntax. Raises ValueError if
    it cannot be satisfied.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if not match or match[1] == match[2] == "":
        return None
    if match[1] == "":
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return None
    if begin >= end:
        raise ValueError(f"header={header!r}: not within {size} bytes")
    return begin, end


def _handler(folder: Path, rate: float) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            file = folder / Path(self.path).name
            if not file.is_file():
                self._refuse(404)
                return
            size = file.stat().st_size
            try:
                asked = byte_range(self.headers.get("Range"), size)
            except ValueError:
                self._refuse(416)
                return
            begin, end = asked or (0, size)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(end - begin))
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
            self.end_headers()
            bucket = TokenBucket(rate, _PIECE, time.monotonic())
            with file.open("rb") as source:
                source.seek(begin)
                while begin < end:
                    piece = source.read(min(_PIECE, end - begin))
                    time.sleep(bucket.take(len(piece), time.monotonic()))
                    self.wfile.write(piece)
                    begin += len(piece)

        def _refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def object_store(folder: Path, rate: float) -> Iterator[str]:
    """Serve the files of ``folder`` at ``rate`` bytes a second a connection; the address to put a name behind."""
    check.positive("rate", rate, "bytes a second")

    def port(process: processes.Process) -> str | None:
        found = _READY.search(process.output())
        return found and found[1]

    argv = [sys.executable, "-m", "beyondlab.inference.store", str(folder), repr(float(rate))]
    with processes.Process(argv, name="object store", ready=port, timeout=30.0, stop_timeout=0.5) as process:
        yield f"http://127.0.0.1:{port(process)}"


if __name__ == "__main__":
    server = _Server(("127.0.0.1", 0), _handler(Path(sys.argv[1]), float(sys.argv[2])))
    print("listening on port", server.server_port, flush=True)
    server.serve_forever()
