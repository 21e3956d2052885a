"""Every page of the book: its navigation, and repairs of the markup that Sphinx and MyST-NB write.

What the theme and the extensions leave wrong for keyboards and screen readers is put right here, once, when the book is
built, rather than by a script on each visit.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx

from beyondlab.kit.book import css_variables
from bookext import chapters, epub

UNUSED = (
    "*.png", "basic.css", "mystnb*.css", "pygments.css", "sphinx_highlight.js", "images", "locales", "scripts", "styles", "vendor",
    "webpack-macros.html", "sbt-webpack-macros.html", ".gitignore",
)
"""What the theme and the extensions copy to ``_static`` and no page of this book loads."""

SHORT = 14
"""A table cell of so many characters stays on one line."""

REDIRECT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={target}">
</head>
<body><main><h1>{title}</h1><p><a href="{target}">Open the book</a></p></main></body>
</html>
"""


_SPAN = re.compile(r'<(span|em) class="([\w -]+)">([^<]*)</\1>')
_COLOURED = set("k kn kc kd kp kr kt ow nf fm nc nd ne s s1 s2 sa sb sc sd se sh si sr ss sx dl".split()) | set(
    "m mi mf mh mb mo il c c1 ch cm cp cs nt na gp".split()
)
"""What the style sheet gives a colour to. Every other mark that Pygments and Sphinx put around a word has no effect."""
_PLAIN = {"pre", "sig-paren", "default_value", "sig-param"}


def lighten(html: str) -> str:
    """The markup without marks around words that nothing uses: they are most elements of a page with much code."""

    def keep(match: re.Match[str]) -> str:
        mark = match[2]
        plain = mark in _PLAIN or (mark not in _COLOURED and len(mark) <= 2)
        return match[3] if plain else match[0]

    return _SPAN.sub(keep, _SPAN.sub(keep, html))


def parse(html: str) -> tuple[BeautifulSoup, list[str]]:
    """The markup as a tree, and its drawings, whose places it holds: a chapter's drawings are half of its elements."""
    drawings: list[str] = []

    def keep(match: re.Match[str]) -> str:
        drawings.append(match[0])
        return f'<svg data-drawing="{len(drawings) - 1}"></svg>'

    return BeautifulSoup(re.sub(r"<svg\b.*?</svg>", keep, lighten(html), flags=re.S), "html.parser"), drawings


def write(soup: BeautifulSoup, drawings: list[str]) -> str:
    """What :func:`parse` read, as markup again."""
    return re.sub(r'<svg data-drawing="(\d+)"></svg>', lambda match: drawings[int(match[1])], str(soup))


def repair(html: str) -> str:
    """The body of a page with its markup put right. The same body gives the same result."""
    soup, drawings = parse(html)
    put_right(soup)
    return write(soup, drawings)


def put_right(soup: BeautifulSoup) -> None:
    """Repair a page's tree in place."""
    _tables(soup)
    _citations(soup)
    _solutions(soup)
    _signatures(soup)
    _code(soup)
    for link in soup.select("a.headerlink"):
        title = link.find_parent(["h1", "h2", "h3", "h4", "dt", "figcaption", "caption"])
        name = " ".join(title.get_text(" ").replace("#", " ").replace("¶", " ").split()) if title else "this"
        link.attrs.pop("title", None)
        link["aria-label"] = f"Link to {name}"
        link.string = "#"
    for section in soup.select("section.tex2jax_ignore"):
        del section["class"]


def _scroll(soup: BeautifulSoup, element: Tag, label: str) -> None:
    box = soup.new_tag("div", attrs={"class": "scroll", "role": "group", "aria-label": label, "tabindex": "0"})
    element.wrap(box)


def _tables(soup: BeautifulSoup) -> None:
    for number, table in enumerate(soup.select("table"), 1):
        outer = table.parent
        if outer.name == "div" and "pst-scrollable-table-container" in outer.get("class", ()):
            outer.unwrap()
        for cell in table.select("th"):
            if not cell.get_text(strip=True) and not cell.find("img"):
                cell.name = "td"
            else:
                cell["scope"] = "col" if cell.find_parent("thead") else "row"
        for cell in table.select("th, td"):
            if len(cell.get_text(strip=True)) <= SHORT:
                cell["class"] = [*cell.get("class", []), "short"]
        heads = [" ".join(cell.get_text(" ").split()) for cell in table.select("thead th")]
        name = "Table: " + ", ".join(heads) if heads else f"Table {number}"
        _scroll(soup, table, name)


def _citations(soup: BeautifulSoup) -> None:
    for entry in soup.select("div.citation, div[role='doc-biblioentry']"):
        entry.attrs.pop("role", None)
        entry["role"] = "listitem"
        for part in entry.select("span.label, span.backrefs"):
            part.decompose()
    for group in soup.select("div.citation-list"):
        group["role"] = "list"
    for entry in soup.select("[role='listitem']"):
        if entry.find_parent(attrs={"role": "list"}) is None:
            entry.attrs.pop("role")


def _solutions(soup: BeautifulSoup) -> None:
    for details in soup.select("details.hide"):
        details["class"] = ["solution"]
        summary = details.find("summary")
        text = summary.find("p").get_text(strip=True)
        summary.clear()
        summary.attrs.clear()
        summary.string = text


def _signatures(soup: BeautifulSoup) -> None:
    """A long signature's parameters, one a line, are no list of definitions."""
    for listed in soup.select("dt.sig dl"):
        for part in listed.find_all(["dd"]):
            part.name = "span"
            part["class"] = ["sig-line"]
        listed.name = "span"
        listed["class"] = ["sig-lines"]


def _code(soup: BeautifulSoup) -> None:
    for block in soup.select("div.highlight > pre"):
        box = block.find_parent("div", class_=["output", "cell_output"])
        block["role"] = "group"
        block["aria-label"] = "Output" if box else "Code"
        block["class"] = [*block.get("class", []), "scroll"]
        for empty in [span for span in block.select("span") if not span.contents]:
            empty.decompose()


def outline(html: str) -> list[dict[str, str]]:
    """The second-level headings of a page: ``id`` and ``title``."""
    return headings(parse(html)[0])


def headings(soup: BeautifulSoup) -> list[dict[str, str]]:
    """The second-level headings of a page's tree."""
    found = []
    for section in soup.find_all("section", id=True):
        heading = section.find("h2", recursive=False)
        if heading:
            words = [text for text in heading.find_all(string=True) if not text.find_parent("a", class_="headerlink")]
            found.append({"id": section["id"], "title": " ".join("".join(words).split())})
    return found


def _navigation(app: Sphinx, pagename: str) -> list[dict[str, Any]]:
    parts = []
    for tree in app.config.external_site_map.root.subtrees:
        pages = [
            {
                "title": app.env.titles[name].astext(),
                "link": app.builder.get_relative_uri(pagename, name),
                "current": name == pagename,
            }
            for name in tree.files()
            if name in app.env.titles
        ]
        if pages:
            parts.append({"caption": tree.caption or "", "pages": pages})
    return parts


def prepare(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the templates what they show, and repair the body."""
    if app.builder.format != "html":
        return
    if context.get("body"):
        soup, drawings = parse(context["body"])
        put_right(soup)
        if app.builder.name == "epub":
            epub.settle(soup)
            drawings = [epub.drawing(svg) for svg in drawings]
            context["frame"] = "epub.html"
        context["outline"] = headings(soup)
        context["body"] = write(soup, drawings)
    context["parts"] = _navigation(app, pagename)
    context["is_cover"] = pagename == app.config.root_doc
    path = Path(app.srcdir, pagename + ".ipynb")
    if path.is_file() and pagename in app.env.titles:
        try:
            chapter = chapters.read(path, pagename)
        except ValueError:
            return
        context["chapter"] = chapter
        context["chapter_length"] = chapters.length(chapter.minutes)


def finish(app: Sphinx, failure: Exception | None) -> None:
    """Write the palette and the start page; remove what no page loads."""
    if failure or app.builder.format != "html" or app.builder.name == "epub":
        return
    out = Path(app.outdir)
    static = out / "_static"
    (static / "palette.css").write_text(css_variables(), "utf-8")
    for pattern in UNUSED:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    target = app.builder.get_target_uri(app.config.root_doc)
    if target != "index.html":
        (out / "index.html").write_text(REDIRECT.format(title=app.config.html_title, target=target), "utf-8")


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", prepare, priority=900)
    app.connect("build-finished", finish, priority=900)
