"""Run pytest; what fails is run once more with nothing beside it: python tools/prove.py PYTEST-ARGUMENTS...

Tests that measure share the machine with their neighbours (``-n 2``), and a neighbour can take the processor in the
middle of a measurement. So up to LIMIT failed tests get one second chance, alone and one after another. A failure that
stays is a failure; both runs are in the log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 10
TESTS_FAILED = 1


def run(arguments: list[str], cache: str) -> tuple[int, list[str]]:
    """Pytest's exit status, and the ids of the tests that failed."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments], check=False)
    failed = Path(cache) / "v" / "cache" / "lastfailed"
    return done.returncode, sorted(json.loads(failed.read_text())) if failed.exists() else []


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        status, failed = run(arguments, cache)
        if status != TESTS_FAILED or not 0 < len(failed) <= LIMIT:
            return status
        print(f"prove: once more, with nothing beside them: {', '.join(failed)}", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        status, _ = run(failed, cache)
        return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
