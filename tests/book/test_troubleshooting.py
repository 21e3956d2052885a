"""The page of troubleshooting quotes what the code says, and has a section for every chapter."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "troubleshooting.md").read_text("utf-8")
NOTEBOOKS = harness.PATHS
GAP = "…"
SHORTEST = 7
"""Letters of a message that must stand in one text of the source, else it would fit anything."""


def quoted() -> list[str]:
    """The messages: what stands before each definition."""
    return re.findall(r"^`([^`\n]+)`\n: ", PAGE, flags=re.M)


def template(node: ast.expr) -> str | None:
    """The text that an expression makes, "…" for what is filled in; None if it makes none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return None


@cache
def templates() -> tuple[str, ...]:
    """Every text in the code of the library and its tools, without docstrings."""
    found = []
    for path in sorted([*(ROOT / "src" / "beyondlab").rglob("*.py"), *(ROOT / "tools").glob("*.py")]):
        tree = ast.parse(path.read_text("utf-8"))
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
        texts = [text for node in ast.walk(tree) if isinstance(node, ast.expr) and id(node) not in prose and (text := template(node))]
        found += [re.sub(r"\s+", " ", re.sub(r"\{[^{}]*\}", GAP, text)) for text in texts]
    return tuple(dict.fromkeys(found))


def occurs(message: str) -> bool:
    """Whether all fixed parts of ``message`` stand in one text of the source, in order.

    "waited … s for X" may be put together from the two texts "waited … s for …" and X.
    """
    parts = [part.strip() for part in message.split(GAP) if part.strip(" :.")]
    if sum(map(len, parts)) < SHORTEST:
        return False
    pattern = ".*?".join(map(re.escape, parts))
    if any(re.search(pattern, text) for text in templates()):
        return True
    waited = re.fullmatch(r"waited … s for (.*[a-z]{3}.*)", message)
    return bool(waited) and occurs(waited[1])


def test_each_message_is_one_that_the_code_writes():
    assert len(quoted()) > 60
    assert [message for message in quoted() if not occurs(message)] == []


@pytest.mark.parametrize("message", ["the moon is not installed at all", "waited … s for the moon to rise", "…", "… s for …", "kopf was installed"])
def test_a_message_that_nobody_writes_is_found(message):
    assert not occurs(message)


def test_each_message_has_a_cause_or_a_remedy():
    items = re.findall(r"^`[^`\n]+`\n: (.+?)(?=^`|^#|\Z)", PAGE, flags=re.M | re.S)
    assert len(items) == len(quoted())
    assert [text for text in items if len(text.split()) < 2] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_chapter_with_a_lab_has_a_section(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    title = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ").strip()
    if any("lab" in cell["metadata"].get("tags", ()) for cell in cells):
        section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
        assert section, f"no section ## {title}"
        assert len(re.findall(r"^: ", section[1], flags=re.M)) >= 1


def test_no_message_stands_twice_in_a_section():
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        found = re.findall(r"^`([^`\n]+)`\n: ", section, flags=re.M)
        assert len(found) == len(set(found)), section.splitlines()[0]
