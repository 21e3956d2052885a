"""The browser tests come last: Playwright keeps an event loop running, in which nbclient cannot execute a notebook."""

from pathlib import Path

BOOK = Path(__file__).with_name("book")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: BOOK in item.path.parents)
