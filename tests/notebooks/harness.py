"""What the tests of the notebooks share: finding, running and comparing them as nbval does."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbval.plugin import coalesce_streams, get_sanitize_patterns

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"
CELL_LIMIT = 300
VARIES = {"nbval-ignore-output", "raises-exception"}

PATHS = sorted(path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def name(path: Path) -> str:
    return str(path.relative_to(NOTEBOOKS).with_suffix(""))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def starts_a_lab(notebook: NotebookNode) -> bool:
    return any("lab" in tags(cell) for cell in code(notebook))


def copy_of_folder(path: Path, target: Path) -> Path:
    """The notebook's folder, copied to ``target``: where it runs without touching the tree."""
    shutil.copytree(path.parent, target, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__"))
    return target


def client(notebook: NotebookNode, folder: Path) -> NotebookClient:
    return NotebookClient(
        notebook, timeout=CELL_LIMIT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )


def run(*notebooks: NotebookNode, folder: Path, **environment: str) -> None:
    """Execute the notebooks, all at once, each in a kernel of its own, all in ``folder``."""
    env = {key: value for key, value in os.environ.items() if key != "BEYONDLAB_RECORD"} | environment

    async def all_of_them() -> None:
        await asyncio.gather(*(client(notebook, folder).async_execute(env=env) for notebook in notebooks))

    asyncio.run(all_of_them())


def comparable(outputs: list[NotebookNode]) -> dict[str, list[str]]:
    """The outputs as nbval compares them: by kind, streams joined, pictures and what is sanitised left out."""
    patterns = get_sanitize_patterns(SANITIZE.read_text())
    found: dict[str, list[str]] = {}
    for output in coalesce_streams([nbformat.from_dict(dict(output)) for output in outputs]):
        if output.output_type == "stream":
            parts = {output.name: output.text}
        elif output.output_type == "error":
            parts = {"error": f"{output.ename}: {output.evalue}"}
        else:
            parts = {kind: value for kind, value in output.data.items() if kind not in ("image/png", "image/jpeg")}
        for kind, value in parts.items():
            text = str(value)
            for pattern, replacement in patterns:
                text = re.sub(pattern, replacement, text)
            found.setdefault(kind, []).append(text)
    return found


def assert_same_outputs(stored: NotebookNode, executed: NotebookNode, which: str) -> None:
    """Every cell whose output does not vary gave what is stored."""
    pairs = list(zip(code(stored), code(executed), strict=True))
    for number, (before, after) in enumerate(pairs):
        if not tags(before) & VARIES:
            assert comparable(after.outputs) == comparable(before.outputs), f"{which}, code cell {number}:\n{before.source}"


def visible_text(notebook: NotebookNode) -> str:
    return "\n".join(text for cell in code(notebook) for texts in comparable(cell.outputs).values() for text in texts)
