"""The page of claims shows every chapter's claim table, and nothing that no notebook shows."""

import json
import sys
from pathlib import Path

import harness
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from bookext import claims  # noqa: E402

NOTEBOOKS = harness.PATHS
TABLE = "| Claim | Published | Ours | Ratio |\n|:--|--:|--:|--:|\n| fast | 1 ms | 2 ms | 2 |\n"


def notebook(path, *cells):
    path.write_text(json.dumps({"cells": list(cells)}))
    return path


def markdown(text):
    return {"cell_type": "markdown", "source": [text]}


def shown(text):
    return {"cell_type": "code", "source": ["table"], "outputs": [{"data": {"text/markdown": [text]}}]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_chapter_has_a_claim_table_and_its_sources_below(path):
    found = claims.read(path)
    assert len(found.table.splitlines()) >= 4
    assert "{cite" in found.below


def test_the_last_table_counts_and_the_text_ends_at_the_next_heading(tmp_path):
    other = shown("| Claim | Ours |\n|--|--|\n")
    path = notebook(tmp_path / "a.ipynb", shown(TABLE), other, shown(TABLE + "| last | 1 | 1 | 1 |\n"),
                    {"cell_type": "code", "source": ["assert"], "outputs": []}, markdown("Sources."), markdown("Why.\n\n## Decide\n\nnot this"))  # fmt: skip
    found = claims.read(path)
    assert "| last |" in found.table
    assert found.below == "Sources.\n\nWhy."


def test_a_chapter_without_such_a_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="b.ipynb.*claim, published, ours, ratio"):
        claims.read(notebook(tmp_path / "b.ipynb", shown("| Claim | Ours |\n|--|--|\n")))


def test_the_page_has_every_row(site):
    from bs4 import BeautifulSoup

    page = BeautifulSoup((site / "book" / "claims.html").read_text("utf-8"), "html.parser")
    rows = sum(len(table.select("tbody tr")) for table in page.select("table"))
    assert rows == sum(len(claims.read(path).table.strip().splitlines()) - 2 for path in NOTEBOOKS)
