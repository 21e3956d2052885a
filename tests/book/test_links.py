"""The built pages as files: every link inside the book resolves, every picture says what it shows."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

DRAWING = re.compile(r"(<svg\b[^>]*>)(.*?)(</svg>)", flags=re.S)


@cache
def soup(path: Path) -> BeautifulSoup:
    """A page without what is inside its drawings, which is half of it."""
    return BeautifulSoup(DRAWING.sub(r"\1\3", path.read_text("utf-8")), "html.parser")


@cache
def ids(path: Path) -> tuple[str, ...]:
    inside = [match for drawing in DRAWING.finditer(path.read_text("utf-8")) for match in re.findall(r'\bid="([^"]+)"', drawing[2])]
    return (*(tag["id"] for tag in soup(path).find_all(id=True)), *inside)


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(ids(path))


def test_every_internal_link_and_anchor_resolves(site, pages):
    broken = []
    for page in pages:
        here = site / page
        for tag in soup(here).find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
            link = tag.get("href") or tag.get("src") or ""
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if parts.scheme not in ("http", "https", "mailto") or not (parts.netloc or parts.path):
                    broken.append((page, link))
                continue
            target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
            if not target.is_file():
                broken.append((page, link))
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target):
                broken.append((page, link))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for page in pages:
        for tag in soup(site / page).select("script[src], link[href], img[src], iframe[src], source[src]"):
            if tag.get("rel") != ["canonical"]:
                assert not urlsplit(tag.get("src") or tag["href"]).netloc, (page, str(tag))
    for sheet in (site / "_static").rglob("*.css"):
        assert "http" not in sheet.read_text().replace("http://www.w3.org", ""), sheet.name


def test_ids_are_unique_on_every_page(site, pages):
    for page in pages:
        assert sorted(ids(site / page)) == sorted(anchors(site / page)), page


def test_every_picture_has_a_name_and_every_figure_a_caption(site, pages, chapters):
    for page in pages:
        for picture in soup(site / page).select("img"):
            assert (picture.get("alt") or "").strip(), (page, str(picture)[:120])
        for drawing in soup(site / page).select("svg"):
            named = drawing.get("aria-hidden") == "true" or drawing.get("aria-label")
            assert named, (page, str(drawing)[:120])
        for figure in soup(site / page).select("figure"):
            assert figure.find("figcaption").get_text(strip=True)
            image = figure.select_one("[role=img]")
            assert len(image["aria-label"].split()) > 3
    for chapter in chapters:
        assert soup(site / chapter).select("figure.drawing"), chapter


def test_tables_have_scoped_headers(site, pages):
    for page in pages:
        for cell in soup(site / page).select("th"):
            assert cell.get_text(strip=True) and cell.get("scope") in ("col", "row"), (page, str(cell))


def test_no_mathematics_needs_a_script(site, pages, chapters):
    for page in pages:
        text = (site / page).read_text("utf-8")
        assert "mathjax" not in text.lower(), page
    assert any(soup(site / chapter).select("math") for chapter in chapters)


def test_pages_point_to_no_unset_address(site, pages):
    for page in pages:
        for link in soup(site / page).select("a[href]"):
            assert "executablebooks" not in link["href"] and "mybinder" not in link["href"], (page, link["href"])
