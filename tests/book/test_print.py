"""A chapter on paper: clean, light, A4, with solutions only if asked for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))

import printed  # noqa: E402

CHAPTER = "notebooks/serverless/aws-lambda.html"

TEXT = {"width": 658, "height": 972}
"""The text of an A4 sheet, 174 mm by 257 mm, at 96 pixels an inch."""

LOOK = """() => {
  const shown = (e) => { const r = e.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const wide = document.documentElement.clientWidth + 1;
  return {
    navigation: [...document.querySelectorAll("nav, button, form, header, footer, .headerlink")].filter(shown).length,
    solutions: [...document.querySelectorAll("details")].filter(shown).length,
    codeInSolutions: [...document.querySelectorAll("details.solution pre")].filter(shown).length,
    figures: [...document.querySelectorAll("figure.drawing")].filter((e) => shown(e) && getComputedStyle(e).breakInside === "avoid").length,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    label: getComputedStyle(document.querySelector("figure svg text") || document.body).fill,
    cut: [...document.querySelectorAll("pre, table, figure, p")].filter((e) => shown(e) && e.getBoundingClientRect().right > wide)
      .map((e) => e.tagName + " " + e.textContent.trim().slice(0, 40)),
    tall: [...document.querySelectorAll("figure")].filter((e) => e.getBoundingClientRect().height > %d).map((e) => e.id),
  };
}""" % TEXT["height"]


@pytest.fixture(scope="module")
def paper(browser):
    """A page of the size of the text of an A4 sheet."""
    context = browser.new_context(viewport=TEXT, color_scheme="dark")
    yield context.new_page()
    context.close()


def pdf_pages(path: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def test_a_printed_chapter_is_clean_light_and_folded(paper, address):
    printed.show(paper, address + CHAPTER, solutions=False)
    seen = paper.evaluate(LOOK)
    assert seen["navigation"] == seen["solutions"] == 0
    assert seen["paper"] == "rgb(255, 255, 255)" and seen["ink"] == "rgb(29, 28, 26)"
    assert seen["figures"] == paper.locator("figure.drawing").count() > 1
    assert seen["cut"] == []


def test_the_browsers_own_print_is_light_too_where_the_screen_is_dark(paper, address):
    paper.emulate_media(media="screen", color_scheme="dark")
    paper.goto(address + CHAPTER)
    paper.evaluate("document.documentElement.dataset.theme = 'dark'")
    dark = paper.evaluate(LOOK)
    paper.emulate_media(media="print", color_scheme="dark")
    light = paper.evaluate(LOOK)
    assert dark["paper"] != light["paper"] == "rgb(255, 255, 255)"
    assert light["ink"] == "rgb(29, 28, 26)" and light["label"] != dark["label"]
    assert dark["navigation"] > 0 == light["navigation"] == light["codeInSolutions"]


def test_solutions_are_unfolded_if_asked_for(paper, address):
    printed.show(paper, address + CHAPTER, solutions=True)
    seen = paper.evaluate(LOOK)
    assert seen["solutions"] == paper.locator("details:not(.drawer)").count() > 4
    assert seen["codeInSolutions"] >= 4 and seen["cut"] == []


def test_the_file_is_a4_and_longer_with_solutions(paper, address, tmp_path):
    counts = []
    for solutions in (False, True):
        printed.show(paper, address + CHAPTER, solutions=solutions)
        printed.write(paper, tmp_path / "a.pdf")
        size = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", (tmp_path / "a.pdf").read_bytes())
        assert [round(float(size[i])) for i in (1, 2)] == [595, 842]
        counts.append(pdf_pages(tmp_path / "a.pdf"))
    assert 5 < counts[0] < counts[1] < 60


def test_nothing_is_cut_off_in_any_chapter_and_figures_fit_a_sheet(paper, address, chapters):
    for name in [*chapters, "book/timeline.html", "book/claims.html", "book/recordings.html"]:
        printed.show(paper, address + name, solutions=True)
        seen = paper.evaluate(LOOK)
        assert seen["cut"] == seen["tall"] == [], name


def test_a_short_table_is_as_wide_as_its_words_and_stays_whole(paper, address):
    printed.show(paper, address + CHAPTER, solutions=False)
    tables = paper.evaluate("""() => [...document.querySelectorAll("table")].map((e) =>
      [e.querySelectorAll("tbody tr").length, e.getBoundingClientRect().width, getComputedStyle(e).breakInside])""")
    assert len(tables) > 5 and min(width for _, width, _ in tables) < TEXT["width"] / 2
    assert {inside for rows, _, inside in tables if rows <= 12} == {"avoid"}


def test_the_pages_to_print_are_chapters_and_text(site, chapters):
    found = [str(path.relative_to(site)) for path in printed.pages(site)]
    assert set(chapters) <= set(found) and "book/glossary.html" in found
    assert not any("api" in path or path in ("index.html", "search.html") for path in found)
