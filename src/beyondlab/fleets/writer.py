"""A service of which there must be one: it writes a line to a ledger every 20 ms, while it believes it may.

Run as a program, a real process that can be stopped and cut off. Without ``--server`` it always believes it may::

    python -m beyondlab.fleets.writer --ledger FILE --name cloud-a --server URL --times 1.0 0.6 0.15
"""

from __future__ import annotations

import argparse
import os
import threading
import time

from beyondlab.fleets.client import Client
from beyondlab.fleets.lease import Elector, Times

PERIOD = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description="Write to a ledger, as the only one if a lease allows.")
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--server", help="URL of the API server that keeps the lease")
    parser.add_argument("--times", type=float, nargs=3, default=(15.0, 10.0, 2.0), metavar=("DURATION", "DEADLINE", "RETRY"))
    given = parser.parse_args()
    ledger = os.open(given.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    elector = None
    if given.server:
        times = Times(*given.times)
        elector = Elector(Client(given.server, agent=given.name, timeout=times.retry * 2), "ledger", given.name, times)

        def renew() -> None:
            while True:
                elector.step()
                time.sleep(times.retry)

        threading.Thread(target=renew, daemon=True).start()
    while True:
        if elector is None or elector.leads():
            token = elector.token if elector else 0
            os.write(ledger, f"{time.monotonic():.4f} {given.name} {token}\n".encode())
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
