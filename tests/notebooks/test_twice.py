"""A notebook may be run as learners do: cells twice, and the same notebook in two windows."""

import copy

import harness


def test_every_cell_twice_in_a_row(path, tmp_path):
    stored = harness.read(path)
    doubled = harness.read(path)
    doubled.cells = []
    for cell in stored.cells:
        first, second = copy.deepcopy(cell), copy.deepcopy(cell)
        first.id, second.id = f"{cell.id}-1"[-64:], f"{cell.id}-2"[-64:]
        doubled.cells += [first, second] if cell.cell_type == "code" else [first]
    harness.run(doubled, folder=harness.copy_of_folder(path, tmp_path / "copy"))
    second = copy.deepcopy(doubled)
    second.cells = harness.code(doubled)[1::2]
    harness.assert_same_outputs(stored, second, "second run of a cell")


def test_two_copies_at_once(path, tmp_path):
    one, other = harness.read(path), harness.read(path)
    harness.run(one, other, folder=harness.copy_of_folder(path, tmp_path / "copy"))
    for which, executed in (("one copy", one), ("the other copy", other)):
        harness.assert_same_outputs(harness.read(path), executed, which)
