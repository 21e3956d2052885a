"""The lab runs the notebook's functions apart from the kernel, and real runtimes; nothing is left behind."""

import ctypes
import os
import subprocess

import pytest
from beyondlab.containers import images, lab, model
from beyondlab.kit import cgroups, namespaces, processes, recordings


def double(number):
    return twice(number)


def twice(number):
    print("working", flush=True)
    return 2 * number


def fails():
    sys.exit("no such thing")  # noqa: F821


def test_functions_run_in_a_process_of_their_own():
    ran = lab.isolated(double, twice, arguments=[21], count=3)
    assert ran.returned == (42, 42, 42) and len(ran.seconds) == 3
    assert ran.output.split() == ["working"] * 3
    with pytest.raises(RuntimeError, match="fails ended with status 1: no such thing"):
        lab.isolated(fails)
    with pytest.raises(ValueError, match="count=0"):
        lab.isolated(double, count=0)


def test_a_root_folder_comes_and_goes():
    with lab.root_folder(["sh", "true"]) as root:
        assert os.path.exists(f"{root}/bin/sh") and os.path.isdir(f"{root}/proc")
        if namespaces.missing() is None:
            assert namespaces.run(["/bin/sh", "-c", "exit 4"], root=root).status == 4
    assert not os.path.exists(root)


def test_runtimes_run_an_image_built_here():
    if reason := lab._runtime_missing():
        absent = "installed" in reason
        (pytest.fail if absent and os.environ.get("CI") == "true" else pytest.skip)(reason)
    made = images.image([images.tar(images.root_files(["sh", "hostname"]) | {"etc/mark": b"from the image\n"})])
    with lab.bundle(made, ["/bin/sh", "-c", "read line < /etc/mark; echo $line; echo $$"]) as bundle:
        for runtime in lab.RUNTIMES:
            output, seconds = bundle.run(runtime, count=2)
            assert output.split("\n")[-4:] == ["from the image", "1"] * 2 and all(s > 0 for s in seconds)
    with lab.bundle(made, ["/bin/sh", "-c", "exit 3"]) as bundle, pytest.raises(RuntimeError, match="exit status 3"):
        bundle.run(lab.RUNTIMES[0])
    left = subprocess.run(["find", str(cgroups.ROOT), "-name", f"*{processes.owner_token()}*"], capture_output=True, text=True)
    assert left.stdout == ""


def test_a_layout_written_by_others_is_run():
    if reason := lab._runtime_missing():
        pytest.skip(reason)
    made = images.image([images.tar(images.root_files(["sh"]))], command=["/bin/sh", "-c", "echo from its own command"])
    with processes.scratch() as layout:
        images.write_layout(layout, {"old": made, "new": made})
        with lab.bundle_of(layout, "new") as bundle:
            assert bundle.run("crun")[0].splitlines()[-1] == "from its own command"
        with pytest.raises(RuntimeError, match="umoci ended"), lab.bundle_of(layout, "none"):
            pass


def test_a_group_for_memory_is_given_where_there_can_be_one(monkeypatch):
    with lab.memory_group() as group:
        assert (group is None) == (cgroups.missing("memory") is not None)
        folder = group and group.folders["memory"]
    assert folder is None or not folder.exists()
    monkeypatch.setattr(lab.cgroups, "missing", lambda *_: "read-only")
    with lab.memory_group() as group:
        assert group is None


def test_missing_tools_are_named(monkeypatch):
    monkeypatch.setattr(lab.shutil, "which", lambda name: None)
    assert lab._tools_missing() == "skopeo and umoci are not installed"
    assert lab._absent("crun") == "crun is not installed"


def test_the_kernel_throttles_as_the_closed_form_says():
    if reason := cgroups.missing("cpu"):
        pytest.skip(reason)
    bursts = [lab.burn(0.09, 0.4, period=0.05) for _ in range(3)]
    low = min(model.burst_time(0.09, 0.4, period=0.05, phase=phase / 1e3) for phase in range(50))
    high = model.burst_time(0.09, 0.4, period=0.05)
    assert all(burst.seconds >= 0.8 * low for burst in bursts), "other programs may make it longer, never much shorter"
    assert min(burst.seconds for burst in bursts) <= 3 * high
    assert min(burst.stat.throttled for burst in bursts) <= model.throttled_periods(0.09, 0.4, period=0.05) + 2
    with pytest.raises(ValueError, match="threads=0"):
        lab.burn(0.1, 1.0, threads=0)
    with pytest.raises(ValueError, match="work=0"):
        lab.burn(0, 1.0)


def test_the_answer_of_the_chapter_is_what_was_recorded():
    """"Three to five times" and "limit 2": the text is changed when a new recording says otherwise."""
    found = recordings.read(lab.NAME).results
    assert 3 < found["start_up"]["container"].value / found["start_up"]["plain process"].value < 5
    assert 3 <= found["throttled"]["nr_throttled"].value <= 5
    assert found["real_runtimes"]["runc"].value > 1.5 * found["real_runtimes"]["crun"].value


def test_libc_has_what_the_notebook_calls():
    if os.uname().sysname != "Linux":
        pytest.skip("Linux only")
    libc = ctypes.CDLL(None)
    assert all(hasattr(libc, name) for name in ("unshare", "mount", "umount2", "pivot_root", "sethostname", "prctl"))
