"""The EPUB: a sound container, well-formed pages, links that resolve, nothing loaded from elsewhere, every picture named."""

from __future__ import annotations

import io
import posixpath
import re
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from PIL import Image, ImageChops, ImageColor

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "book" / "_ext"))

from beyondlab.kit.figures import LIGHT  # noqa: E402
from bookext import cover  # noqa: E402
from bookext.epub import SUBTITLE, drawing, settle  # noqa: E402

OPF = "{http://www.idpf.org/2007/opf}"
XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
MATHML = "{http://www.w3.org/1998/Math/MathML}"


@pytest.fixture(scope="module")
def book(epub):
    with zipfile.ZipFile(epub) as held:
        yield held


@pytest.fixture(scope="module")
def package(book):
    return ElementTree.fromstring(book.read("content.opf"))


@pytest.fixture(scope="module")
def trees(book):
    return {name: ElementTree.fromstring(book.read(name)) for name in book.namelist() if name.endswith(".xhtml")}


def test_the_container_is_one(book):
    first = book.infolist()[0]
    assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED and not first.extra
    assert book.read("mimetype") == b"application/epub+zip"
    assert b'full-path="content.opf"' in book.read("META-INF/container.xml")
    assert book.testzip() is None


def test_the_manifest_is_the_files(book, package):
    listed = [unquote(item.get("href")) for item in package.iter(f"{OPF}item")]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(book.namelist()) - {"mimetype", "META-INF/container.xml", "content.opf"}
    ids = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    spine = [ref.get("idref") for ref in package.iter(f"{OPF}itemref")]
    assert len(spine) == len(set(spine)) and set(spine) <= set(ids)
    pages = {name for name, item in ids.items() if item.get("media-type") == "application/xhtml+xml"} - {"nav"}
    assert set(spine) == pages and not any(ref.get("linear") for ref in package.iter(f"{OPF}itemref"))


def test_the_manifest_says_what_pages_hold(package, trees):
    for item in package.iter(f"{OPF}item"):
        if item.get("media-type") == "application/xhtml+xml":
            tree = trees[unquote(item.get("href"))]
            held = {name for name, tag in (("svg", f"{SVG}svg"), ("mathml", f"{MATHML}math")) if tree.find(f".//{tag}") is not None}
            assert held == set((item.get("properties") or "").split()) - {"nav"}, item.get("href")


def test_title_language_and_identifier(book, package):
    dc = "{http://purl.org/dc/elements/1.1/}"
    assert package.find(f".//{dc}title").text == "Beyond Docker, Beyond Lambda" and package.find(f".//{dc}language").text == "en"
    identifier = package.find(f".//{dc}identifier")
    assert identifier.get("id") == package.get("unique-identifier")
    assert f'content="{identifier.text}"' in book.read("toc.ncx").decode()


def test_every_chapter_stands_in_the_contents_in_order(trees, chapters, package):
    wanted = [name.replace(".html", ".xhtml") for name in chapters]
    links = [link.get("href") for link in trees["nav.xhtml"].iter(f"{XHTML}a")]
    assert [link for link in links if link in wanted] == wanted
    ids = {item.get("id"): item.get("href") for item in package.iter(f"{OPF}item")}
    spine = [ids[ref.get("idref")] for ref in package.iter(f"{OPF}itemref")]
    assert [name for name in spine if name in wanted] == wanted and spine[:2] == ["epub-cover.xhtml", "book/index.xhtml"]


def test_the_cover_is_the_first_page_and_a_picture_of_the_book_alone(book, package, trees):
    covers = [item for item in package.iter(f"{OPF}item") if "cover-image" in (item.get("properties") or "").split()]
    assert [(item.get("href"), item.get("media-type")) for item in covers] == [("_static/cover.png", "image/png")]
    named = [meta.get("content") for meta in package.iter(f"{OPF}meta") if meta.get("name") == "cover"]
    assert named == [covers[0].get("id")], "older readers find the cover by this"
    shown = list(trees["epub-cover.xhtml"].iter(f"{XHTML}img"))
    assert [(image.get("src"), image.get("alt")) for image in shown] == [("_static/cover.png", "Beyond Docker, Beyond Lambda")]
    picture = Image.open(io.BytesIO(book.read("_static/cover.png"))).convert("RGB")
    assert picture.size == (cover.WIDTH, cover.HEIGHT)
    painted = {count[1]: count[0] for count in picture.getcolors(1 << 20)}
    paper, ink, accent = (ImageColor.getrgb(name) for name in (LIGHT["paper"], LIGHT["ink"], cover.ACCENT))
    assert max(painted, key=painted.get) == paper and min(painted[ink], painted[accent]) > 50_000


def test_the_covers_words_stay_on_it_and_the_same_words_give_the_same_picture(tmp_path):
    first, second, without = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    cover.draw(first, "Beyond Docker, Beyond Lambda", SUBTITLE)
    cover.draw(second, "Beyond Docker, Beyond Lambda", SUBTITLE)
    assert first.read_bytes() == second.read_bytes()
    cover.draw(without, " ", " ")
    words = ImageChops.difference(Image.open(first).convert("RGB"), Image.open(without).convert("RGB")).getbbox()
    assert words and words[0] >= 120 and words[2] <= cover.WIDTH - 120, "as far from both edges as the rule"


def test_the_cover_has_the_accent_of_the_style_sheet():
    sheet = (ROOT / "book" / "_static" / "book.css").read_text("utf-8")
    assert f"--accent: light-dark({cover.ACCENT}," in sheet and f"--paper: light-dark({LIGHT['paper']}," in sheet


def test_every_page_is_xhtml_of_the_book(trees):
    assert len(trees) > 20
    for name, tree in trees.items():
        assert tree.tag == f"{XHTML}html" and tree.get("lang", "en") == "en", name
        if name != "nav.xhtml":
            assert len(tree.findall(f".//{XHTML}h1")) == 1 and tree.findtext(f".//{XHTML}title"), name
            assert not [e.tag for e in tree.iter() if e.tag in (f"{XHTML}script", f"{XHTML}details", f"{XHTML}style", f"{XHTML}iframe")], name


def test_every_link_inside_resolves_and_ids_are_unique(book, trees):
    files = set(book.namelist())
    anchors = {}
    for name, tree in trees.items():
        ids = [element.get("id") for element in tree.iter() if element.get("id")]
        assert sorted(ids) == sorted(set(ids)), name
        anchors[name] = set(ids)
    broken = []
    for name, tree in trees.items():
        for element in tree.iter():
            link = element.get("href") or element.get("src")
            if not link or urlsplit(link).scheme:
                continue
            parts = urlsplit(link)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path))) if parts.path else name
            if target not in files or (parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]):
                broken.append((name, link))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(book, trees):
    for name, tree in trees.items():
        for element in tree.iter():
            loaded = element.get("src") or (element.get("href") if element.tag in (f"{XHTML}link", f"{SVG}image", f"{SVG}use") else None)
            assert not loaded or not urlsplit(loaded).scheme, (name, loaded)
    sheet = book.read("_static/epub.css").decode()
    assert "http" not in sheet
    for face in re.findall(r"url\(([^)]+)\)", sheet):
        assert f"_static/{face}" in book.namelist()


def test_pictures_are_named_and_light(trees, chapters):
    for name, tree in trees.items():
        for image in tree.iter(f"{XHTML}img"):
            assert (image.get("alt") or "").strip(), name
        for svg in tree.iter(f"{SVG}svg"):
            assert svg.get("viewBox") and "var(--" not in ElementTree.tostring(svg, "unicode"), name
    for chapter in chapters:
        tree = trees[chapter.replace(".html", ".xhtml")]
        named = [e for e in tree.iter() if e.get("role") == "img" and len((e.get("aria-label") or "").split()) > 3]
        assert len(named) == len(list(tree.iter(f"{SVG}svg"))) > 0, chapter


def test_solutions_stand_at_the_end_with_links_there_and_back(trees, chapters):
    for chapter in chapters:
        tree = trees[chapter.replace(".html", ".xhtml")]
        end = next(e for e in tree.iter(f"{XHTML}section") if e.get("id") == "solutions")
        held = [e for e in end if e.tag == f"{XHTML}section"]
        assert len(held) >= 5, "the answer and four solutions at least"
        links = {e.get("href") for e in tree.iter(f"{XHTML}a")}
        for part in held:
            number = part.get("id").rpartition("-")[2]
            assert {f"#folded-{number}", f"#unfold-{number}"} <= links, chapter


def test_folded_text_moves_with_its_words():
    soup = BeautifulSoup('<section><h3>1. Why?</h3><details class="solution"><summary>Show</summary><pre>x</pre></details><p>after</p></section>',
                         "html.parser")  # fmt: skip
    settle(soup)
    assert soup.select_one("#folded-1 h3").text == "1. Why?" and soup.select_one("#folded-1 pre").text == "x"
    assert not soup.select("details, summary") and soup.select_one("#unfold-1 a")["href"] == "#folded-1"


def test_a_drawing_keeps_its_light_colours():
    svg = drawing('<svg viewBox="0 0 1 1" focusable="false"><path style="fill: var(--fig-ink, #1d1c1a)"/>'
                  '<text style="font-size: calc(10px * var(--fig-text, 1))"/></svg>')  # fmt: skip
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"
    assert "fill: #1d1c1a" in svg and "font-size: 10px" in svg and "focusable" not in svg


def test_a_table_of_many_columns_is_marked_and_others_are_not():
    rows = "".join(f"<tr>{'<td>x</td>' * count}</tr>" for count in (2, 6))
    soup = BeautifulSoup(f"<table id='a'>{rows}</table><table id='b'><tr>{'<td>x</td>' * 5}</tr></table>", "html.parser")
    settle(soup)
    assert [table.get("class") for table in soup.select("table")] == [["many"], None]


def test_no_page_is_wider_than_a_small_reader(epub, browser, tmp_path):
    with zipfile.ZipFile(epub) as held:
        held.extractall(tmp_path)
    page = browser.new_page(viewport={"width": 400, "height": 700})
    wide = {}
    for path in sorted(tmp_path.rglob("*.xhtml")):
        page.goto(path.as_uri())
        wide[path.name] = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert len(wide) > 20 and {name: width for name, width in wide.items() if width > 400} == {}
