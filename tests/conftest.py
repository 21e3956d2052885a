"""What all tests share.

The browser tests come last: Playwright keeps an event loop running, in which nbclient cannot execute a notebook.
Started in the background, a shell makes us ignore SIGINT, and our children with us: tests that interrupt a child would
wait in vain, so the signal gets its handler back. Hypothesis judges results, not how fast a busy machine gives them.
"""

import signal
from pathlib import Path

from hypothesis import settings

BOOK = Path(__file__).with_name("book")

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: BOOK in item.path.parents)
