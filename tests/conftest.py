"""What all tests share.

With several workers each test of notebooks goes to the next that is free, and of other tests a whole file: ``make
test`` asks for it (``--dist loadscope``). First comes what others wait for, the book's build and Binder's environment;
then the notebooks, one by one, so that the run with two windows of one is mostly beside a lighter run; then the files
that take longest, so that no worker is left alone with one of them at the end.

Started in the background, a shell makes us ignore SIGINT, and our children with us: tests that interrupt a child would
wait in vain, so the signal gets its handler back. Hypothesis judges results, not how fast a busy machine gives them.
"""

import signal

import pytest
from hypothesis import settings

FIRST = (
    "book/test_links.py", "notebooks/test_restricted.py::test_binder", "notebooks/test_restricted.py::test_the",
    "notebooks/", "book/test_pages.py", "sim/test_sweeps.py", "fleets/test_lab.py", "test_lab.py", "sim/",
)  # fmt: skip

signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def turn(item) -> tuple[int, str]:
    """When an item is run: by the first of FIRST that its id holds, tests of one notebook one after another."""
    rank = next((number for number, part in enumerate(FIRST) if part in item.nodeid), len(FIRST))
    return rank, str(item.callspec.params.get("path", "")) if hasattr(item, "callspec") else ""


def pytest_collection_modifyitems(items):
    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByNotebookAndFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if "/notebooks/" in nodeid.split("::")[0] else nodeid.split("::")[0]

    return ByNotebookAndFile(config, log) if config.getvalue("dist") == "loadscope" else None
