"""The first use of each term of the glossary in a chapter is a link to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import terms  # noqa: E402

NOTEBOOKS = harness.PATHS


def notebook(*texts, tags=()):
    cells = [{"cell_type": "markdown", "metadata": {"tags": list(tags)}, "source": [text]} for text in texts]
    return {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# A title\n\nA cold start?"]}, *cells]}


def lacking(*texts, chapter="some", **more):
    return [term for term, _, _ in terms.missing(notebook(*texts, **more), chapter)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_first_use_is_linked(path):
    found = terms.missing(json.loads(path.read_text("utf-8")), path.stem)
    told = [f"{term}: {' '.join(''.join(cell['source'])[max(0, use.start() - 40) : use.end() + 30].split())}" for term, cell, use in found]
    assert told == [], "run tools/terms.py, or give a reason in book/unlinked.toml"


def test_the_glossary_is_read():
    assert {"cold start", "microVM", "token bucket"} <= set(terms.glossary()) and len(terms.glossary()) > 60


@pytest.mark.parametrize("text", [
    "It is a cold start.", "Cold starts cost.", "A **cold start** here.", "- a cold\n  start", "It starts. Cold start, then {term}`cold start`.",
])  # fmt: skip
def test_a_use_without_a_link_is_found(text):
    assert lacking(text.replace("\n  ", "\n")) == ["cold start"]


@pytest.mark.parametrize("text", [
    "## A cold start", "`cold start`", "[a cold start](x.md)", "> a cold start", "| cold start |", "```\ncold start\n```", "$cold start$",
    "{term}`cold start`, then a cold start", "{term}`Cold starts <cold start>`", "cold-start", "cold starter",
])  # fmt: skip
def test_what_is_no_text_or_linked_is_left(text):
    assert [term for term in lacking(text) if term == "cold start"] == []


def test_a_solution_and_the_head_of_a_chapter_are_left():
    assert lacking("A cold start.", tags=["solution"]) == lacking() == []


def test_linking_keeps_words_and_is_done_once():
    held = notebook("MicroVMs and operators: a microVM.", "Namespaces.")
    assert len(terms.link(held, "some")) == 3
    assert "".join(held["cells"][1]["source"]) == "{term}`MicroVMs <microVM>` and {term}`operators <operator>`: a microVM."
    assert terms.link(held, "some") == []


def test_exemptions_are_used_and_have_a_reason():
    by_name = {path.stem: json.loads(path.read_text("utf-8")) for path in NOTEBOOKS}
    for entry in terms.unlinked():
        assert len(entry["reason"].split()) > 3 and entry["term"] in terms.glossary(), entry
        books = by_name.values() if entry["chapter"] == "*" else [by_name[entry["chapter"]]]
        pattern = terms.forms(entry["term"])
        assert any(pattern.search("".join(cell["source"])) for book in books for cell in terms.readable(book)), f"not needed: {entry}"
