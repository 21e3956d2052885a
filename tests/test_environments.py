"""The environments that people get: everything (requirements.txt), Binder's (binder/), and what Binder would build."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import harness
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOTEBOOKS = harness.PATHS


def pins(file: str) -> dict[str, set[str]]:
    """Name to pinned versions of the lines that apply to this machine."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if not line or line.startswith(("#", "-e ")):
            continue
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{file}: {line} is not pinned"
        if requirement.marker is None or requirement.marker.evaluate():
            found.setdefault(canonicalize_name(requirement.name), set()).add(specifier.version)
    return found


def executed_with(path: Path) -> dict[str, str]:
    return json.loads(path.read_text())["metadata"]["beyondlab"]["executed_with"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("file", ["requirements.txt", "binder/requirements.txt"])
def test_both_files_pin_the_versions_that_the_notebooks_were_executed_with(file, path):
    pinned = pins(file)
    versions = {name: version for name, version in executed_with(path).items() if name != "python"}
    assert versions, "the notebook says what it was executed with"
    for name, version in versions.items():
        assert pinned[canonicalize_name(name)] == {version}, name


def test_binders_file_is_part_of_the_whole_and_few():
    whole, binder = pins("requirements.txt"), pins("binder/requirements.txt")
    assert all(whole[name] == versions for name, versions in binder.items())
    assert len(binder) <= 150


def test_this_environment_has_the_pinned_versions():
    for name, versions in pins("requirements.txt").items():
        assert metadata.version(name) in versions, name


def test_the_environment_is_free_of_conflicts():
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120)
    assert check.returncode == 0, check.stdout


@pytest.fixture(scope="module")
def dockerfile() -> str:
    """What repo2docker would build, from its dry run: no Docker daemon is asked."""
    run = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout + run.stderr


def test_binder_takes_the_python_that_the_notebooks_were_executed_with(dockerfile):
    (version,) = set(re.findall(r"conda environment for python=(\S+)", dockerfile))
    assert {executed_with(path)["python"] for path in NOTEBOOKS} == {version}


def test_binder_installs_binders_file_and_nothing_else(dockerfile):
    assert re.findall(r"pip install .*", dockerfile) == ['pip install --no-cache-dir -r "binder/requirements.txt"']
    assert "apt.txt" not in dockerfile and not (ROOT / "binder" / "apt.txt").exists()


def test_binder_has_the_whole_repository_before_it_installs_the_library(dockerfile):
    """binder/requirements.txt begins with the library itself, ``-e .``."""
    assert (ROOT / "binder" / "requirements.txt").read_text().splitlines()[1] == "-e ."
    assert dockerfile.index("COPY --chown=0:0 src/ ${REPO_DIR}/") < dockerfile.index('-r "binder/requirements.txt"')
