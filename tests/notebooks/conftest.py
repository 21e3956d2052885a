"""Each test with a ``path`` runs on every notebook of the course."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


def pytest_generate_tests(metafunc):
    if "path" in metafunc.fixturenames:
        metafunc.parametrize("path", harness.PATHS, ids=harness.name)


@pytest.fixture
def unable():
    """Skip a test that this machine cannot run, with its reason; on CI, fail."""

    def skip_or_fail(reason: str):
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return skip_or_fail
