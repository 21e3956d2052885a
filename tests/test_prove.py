"""tools/prove.py: a disturbed test gets one second chance alone, a broken one none that helps."""

import subprocess
import sys
from pathlib import Path

import pytest

PROVE = Path(__file__).resolve().parents[1] / "tools" / "prove.py"

TESTS = """
from pathlib import Path
import pytest
RUNS = Path(__file__).with_name("runs")

def test_disturbed_once():
    before = RUNS.exists()
    RUNS.touch()
    assert before

def test_fine():
    assert True

@pytest.mark.parametrize("number", range({broken}))
def test_broken(number):
    assert number < 0
"""


def prove(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROVE), *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("broken", "status", "second"), [(1, 1, "1 failed, 1 passed"), (10, 1, None)]
)
def test_only_what_failed_runs_again_and_only_if_it_is_little(broken, status, second, tmp_path):
    (tmp_path / "test_some.py").write_text(TESTS.format(broken=broken))
    done = prove("test_some.py", folder=tmp_path)
    assert done.returncode == status, done.stdout
    assert ("prove: once more" in done.stdout) == (second is not None)
    assert second is None or second in done.stdout.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["runs", "test_some.py"]
