"""The budget of a notebook is one that can be exceeded, and not by a neighbour."""

import subprocess
import sys

import budget
import pytest


@pytest.mark.parametrize(
    ("wall", "cpu", "busy", "cores", "seconds"),
    [
        (70, 50, 50, 2, 70),  # alone: all of it, also where it only sleeps
        (70, 1, 1, 2, 70),
        (100, 40, 200, 2, 20),  # both cores at work all the time: its own share of them
        (100, 40, 140, 2, 50),  # a neighbour with a core of its own
        (100, 40, 140, 4, 75),
        (70, 50, 49, 2, 70),  # clocks of a hundredth of a second disagree
    ],
)
def test_what_neighbours_cannot_be_blamed_for(wall, cpu, busy, cores, seconds):
    assert budget.without_neighbours(wall, cpu, busy, cores) == seconds


def test_memory_is_what_processes_have_together():
    code = "import os; held = os.urandom(100 << 20); os.fork(); os.write(1, b'%d\\n' % os.getpid()); os.read(0, 1)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        both = {int(process.stdout.readline()) for _ in range(2)}
        assert process.pid in both and len(both) == 2
        assert 100 << 20 < budget.resident(both) < 150 << 20, "shared pages count once"
        process.communicate(b"..")
    assert budget.resident(both) == 0
