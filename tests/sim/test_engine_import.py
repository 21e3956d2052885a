"""When numba is imported, and what happens where it cannot keep its cache or is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import beyondlab

PACKAGE = Path(beyondlab.__file__).parent


def child(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_numba_is_imported_by_the_first_simulation() -> None:
    out = child(
        "import sys, beyondlab.sim as sim; before = 'numba' in sys.modules\n"
        "sim.simulate([0.0], 1.0, 1.0); print(before, 'numba' in sys.modules)"
    )
    assert out.split() == ["False", "True"]


def test_without_numba_the_reference_runs() -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec; sys.modules['numba'] = None\n"
        "u.find_spec = lambda name, *rest: None if name == 'numba' else find(name, *rest)\n"
        "import beyondlab.sim as sim; print(sim.simulate([0.0, 1.0, 9.0], 0.5, 2.0).cold)\n"
        "print(sim.queue([0.0, 1.0], 1.5).wait[1])"
    )
    assert child(code).split() == ["2", "0.5"]


def test_compiles_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """A file stands where each cache directory would be, which stops root as well."""
    shutil.copytree(PACKAGE, tmp_path / "beyondlab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "beyondlab" / "sim" / "__pycache__").write_text("")
    (tmp_path / "file").write_text("")
    out = child(
        "import numba, beyondlab.sim as sim\n"
        "from beyondlab.sim import _engine_python as module\n"
        "try: numba.njit(cache=True)(module.kept_warm); print('cached')\n"
        "except RuntimeError: print('refused')\n"
        "print(sim.simulate([0.0, 1.0, 9.0], 0.5, 2.0, engine='numba').cold, sim.__file__)\n"
        "print(sim.queue([0.0, 1.0], 1.5, engine='numba').wait[1])",
        PYTHONPATH=str(tmp_path),
        HOME=str(tmp_path / "file"),
        XDG_CACHE_HOME=str(tmp_path / "file"),
        NUMBA_CACHE_DIR="",
        LOCALAPPDATA=str(tmp_path / "file"),
    ).split()
    if out[0] == "cached":
        pytest.fail("numba found a place for its cache: this test proves nothing here")
    assert out == ["refused", "2", str(tmp_path / "beyondlab" / "sim" / "__init__.py"), "0.5"]
