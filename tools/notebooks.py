"""Execute the course's notebooks and store their outputs, so that a second run changes no byte.

    python tools/notebooks.py execute [PATH...]   execute; keep what was measured where no code changed
    python tools/notebooks.py record [PATH...]    execute, record every lab experiment, store all outputs fresh

What varies from run to run (cells tagged ``nbval-ignore-output``) is stored from one same run. ``execute`` keeps those
outputs as long as no code cell of the notebook has changed since that run: a digest of the code stands in the
notebook's metadata as ``beyondlab.measured``. A change of the library does not renew them; ``record`` does.

Also stored as ``beyondlab.executed_with``: the versions of the packages that the library itself asks for. A notebook
whose output holds a path of this machine is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
VARIES = "nbval-ignore-output"
CELL_LIMIT = 300
"""Seconds that one cell may take."""

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}


def find(paths: list[Path]) -> list[Path]:
    """The notebooks among ``paths`` and in the folders among them, without checkpoints."""
    found = []
    for path in paths:
        if not path.exists():
            raise SystemExit(f"{path}: there is no such notebook or folder")
        found += sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def versions() -> dict[str, str]:
    """Versions of the library's direct dependencies that apply here, and Python's, patch release left out."""
    required = [Requirement(text) for text in metadata.requires("beyondlab") or []]
    direct = [need.name for need in required if need.marker is None or need.marker.evaluate({"extra": ""})]
    found = {name: metadata.version(name) for name in sorted(direct)}
    return found | {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}


def run(notebook: NotebookNode, folder: Path, **environment: str) -> NotebookNode:
    """``notebook`` executed in ``folder``. Raises CellExecutionError where a cell does."""
    client = NotebookClient(
        notebook,
        timeout=CELL_LIMIT,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=os.environ | environment)


def varies(cell: NotebookNode) -> bool:
    return VARIES in cell.metadata.get("tags", [])


def code_digest(notebook: NotebookNode) -> str:
    """A digest of all code cells: their sources and whether their output varies."""
    code = [f"{varies(cell)}\0{cell.source}" for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def merged_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs in which texts that follow one another on one stream are one."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if output.output_type == "stream" and last and last.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def normalise(notebook: NotebookNode) -> None:
    """Take out what changes from run to run or from editor to editor."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.kernelspec = NotebookNode(_KERNEL)
    notebook.metadata.language_info = NotebookNode(_LANGUAGE)
    for name in ("widgets", "vscode", "toc"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        for name in ("execution", "collapsed", "scrolled", "jupyter", "ExecuteTime", "vscode", "editable"):
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = merged_streams(cell.outputs)


def name_cells(notebook: NotebookNode) -> None:
    """Give each cell without an id, or with one used before, an id by its place."""
    seen: set[str] = set()
    for number, cell in enumerate(notebook.cells):
        if not cell.get("id") or cell.id in seen:
            cell.id = f"cell-{number}"
        seen.add(cell.id)


def machine_paths(notebook: NotebookNode) -> list[str]:
    """Outputs that hold a path of this machine: cell and path."""
    paths = {str(ROOT), str(Path.home()), sys.base_prefix, tempfile.gettempdir() + "/"} - {"/", "/usr"}
    return [
        f"cell {cell.id}: {path}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for path in sorted(paths)
        if path in str(output)
    ]


def read(path: Path) -> NotebookNode:
    """The notebook, upgraded to the current format. Raises ValueError if it is not one."""
    notebook = nbformat.read(path, as_version=4)
    name_cells(notebook)
    return notebook


def execute(path: Path, *, fresh: bool) -> bool:
    """Execute one notebook and store it. Whether the file has changed.

    With ``fresh``, experiments are recorded and every output is stored; without, see the module's text.
    """
    before = path.read_text()
    notebook = read(path)
    stored = {cell.id: cell for cell in read(path).cells}
    digest = code_digest(notebook)
    about = notebook.metadata.setdefault("beyondlab", NotebookNode())
    keep = not fresh and about.get("measured") == digest
    run(notebook, path.parent.resolve(), **({"BEYONDLAB_RECORD": "1"} if fresh else {}))
    for cell in notebook.cells:
        if keep and cell.cell_type == "code" and varies(cell):
            cell.outputs = stored[cell.id].outputs
    about.measured = digest
    about.executed_with = NotebookNode(versions())
    normalise(notebook)
    if found := machine_paths(notebook):
        raise SystemExit(f"{path}: not stored, an output holds a path of this machine: {'; '.join(found)}")
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if text != before:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(text)
        temporary.replace(path)
    return text != before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["execute", "record"])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    arguments = parser.parse_args()
    failed = 0
    for path in find(arguments.paths):
        try:
            changed = execute(path, fresh=arguments.what == "record")
        except CellExecutionError as error:
            failed += 1
            print(f"{path}: not stored, a cell failed\n{error}", file=sys.stderr)
        else:
            print(f"{path}: {'stored' if changed else 'unchanged'}", flush=True)
    if arguments.what == "record":
        from beyondlab.kit import recordings

        for recording in recordings.every():
            for name, result in recording.results.items():
                print(f"{recording.lab}: {name}: {result.label}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
