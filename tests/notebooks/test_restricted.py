"""Every notebook as Binder runs it: binder/requirements.txt, an ordinary user, no KVM, no namespaces, no network."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import budget
import harness
import pytest

RESTRICTED = Path(__file__).with_name("restricted.py")
REQUIREMENTS = harness.ROOT / "binder" / "requirements.txt"
KERNEL = "beyondlab-binder"

PROBE = """
import ctypes, errno, json, os, socket
def fails(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
def unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")
def connect(address):
    with socket.socket() as probe:
        probe.settimeout(3)
        probe.connect(address)
with socket.create_server(("127.0.0.1", 0)) as server:
    loopback = fails(lambda: connect(server.getsockname()))
open(os.path.expanduser("~/mine"), "w").close()
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
    "kvm": fails(lambda: os.open("/dev/kvm", os.O_RDWR)), "root only": fails(lambda: os.listdir("/proc/1/fd")),
    "user namespace": fails(unshare), "loopback": loopback, "elsewhere": fails(lambda: connect(("192.0.2.1", 80))),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm", "NoNewPrivs"))],
}))
"""


def restricted(*command: str, copy: Path | None = None, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    options = ["--copy", str(copy)] if copy else []
    argv = [sys.executable, str(RESTRICTED), *options, "--", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def possible(unable):
    """That this machine allows the restriction at all."""
    done = restricted("true")
    if done.returncode == 77:
        unable(done.stderr.strip())
    assert done.returncode == 0, done.stderr


def test_the_restriction_is_real(possible):
    done = restricted(sys.executable, "-c", PROBE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("uid") == found.pop("gid") == [1000] * 3
    assert set(found.pop("groups")) <= {1000, 65534}
    assert found.pop("kvm") in ("EACCES", "ENOENT")
    assert found.pop("user namespace") in ("ENOSPC", "EPERM")
    assert found == {
        "root only": "EACCES",
        "loopback": None,
        "elsewhere": "ENETUNREACH",
        "interfaces": ["lo"],
        "privileges": ["0000000000000000", "0000000000000000", "1"],
    }


def test_the_restriction_ends_with_its_command_and_passes_on_its_status(possible):
    mark = f"120.{os.getpid()}"
    done = restricted("bash", "-c", f"setsid sleep {mark} & exit 5")
    assert done.returncode == 5
    assert subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True).returncode == 1


def test_the_time_of_all_that_the_command_starts_is_counted(possible):
    orphan = "import os, time\nif os.fork() == 0:\n while time.process_time() < 1: pass\n os.mknod('done')"
    with budget.Stopwatch() as watch:
        wait = "until [ -e done ]; do sleep 0.1; done; sleep 1"
        done = restricted("bash", "-c", f'{sys.executable} -c "{orphan}"; {wait}')
    assert done.returncode == 0, done.stderr
    assert watch.cpu > 1 and watch.wall > 2


def test_machine_sees_the_restriction(possible):
    code = "from beyondlab.kit.machine import look; m = look(); print(m.kvm, m.user_namespaces, m.root, m.cgroup_writable)"
    done = restricted(sys.executable, "-c", code)
    assert done.stdout.split() == ["none", "False", "False", "False"], done.stderr


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def executed_with(path: Path) -> dict[str, str]:
    stored = harness.read(path).metadata.get("beyondlab", {}).get("executed_with")
    assert stored, f"{path.name} does not say what it was executed with: make notebooks"
    return {canonical(name): version for name, version in stored.items() if name != "python"}


@pytest.fixture(scope="session")
def binder() -> Path:
    """An environment of binder/requirements.txt alone, kept under .cache until that file or pyproject.toml changes."""
    parts = [REQUIREMENTS.read_bytes(), (harness.ROOT / "pyproject.toml").read_bytes(), sys.version.encode()]
    home = harness.ROOT / ".cache" / "binder-env"
    folder = home / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    home.parent.mkdir(exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            install(folder)
    return folder


def install(folder: Path) -> None:
    """A virtual environment of binder/requirements.txt in ``folder``."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    pip = [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin" / "python"), "-r", str(REQUIREMENTS)]
    done = subprocess.run(pip, cwd=harness.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"binder/requirements.txt cannot be installed here:\n{done.stderr[-2000:]}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    (folder / "complete").touch()


def test_binder_installs_what_the_notebook_was_executed_with(path, binder):
    stored = executed_with(path)
    code = "import json, sys; from importlib.metadata import version; print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
    done = subprocess.run([str(binder / "bin" / "python"), "-c", code, *stored], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == stored


def test_notebook_under_nbval_as_binder_runs_it(path, binder, possible, tmp_path):
    work = tmp_path / "work"
    folder = harness.copy_of_folder(path, work / path.parent.relative_to(harness.ROOT))
    shutil.copy(harness.SANITIZE, work / "sanitize.cfg")
    (work / "pytest.ini").write_text("[pytest]\n")
    kernel = work / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    argv = [str(binder / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": KERNEL, "language": "python"}))
    pytest_command = [
        sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "--nbval", "--nbval-kernel-name", KERNEL,
        "--nbval-cell-timeout", str(harness.CELL_LIMIT), "--nbval-sanitize-with", "sanitize.cfg",
        str((folder / path.name).relative_to(work)),
    ]  # fmt: skip
    with budget.Stopwatch() as watch:
        done = restricted("sh", "-c", 'JUPYTER_PATH="$PWD/jupyter" exec "$@"', "sh", *pytest_command, copy=work)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(rf"\b{len(harness.code(harness.read(path)))} passed", done.stdout), done.stdout[-2000:]
    assert watch.seconds < budget.SECONDS, f"{watch}"
