"""The book as EPUB 3: the same pages as XHTML, figures in light colours, solutions at the end of their chapter.

``jupyter-book build . --builder custom --custom-builder epub`` (``make epub``). An e-reader has no room beside the text,
may not open a closed box, and need not know CSS variables; what the web page leaves to the browser is settled here.
"""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag
from sphinx.application import Sphinx
from sphinx.builders.epub3 import Epub3Builder
from sphinx.config import Config

from bookext import cover

NAME = "beyond-docker-beyond-lambda"
HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "_static"
COVER = "_static/cover.png"
SUBTITLE = "An executable course on containers and serverless"

MANY = 6
"""A table of so many columns is set smaller: an e-reader cuts off what does not fit its page."""

ACCESS = """    <meta property="schema:accessMode">textual</meta>
    <meta property="schema:accessMode">visual</meta>
    <meta property="schema:accessModeSufficient">textual</meta>
    <meta property="schema:accessibilityFeature">alternativeText</meta>
    <meta property="schema:accessibilityFeature">MathML</meta>
    <meta property="schema:accessibilityFeature">structuralNavigation</meta>
    <meta property="schema:accessibilityFeature">tableOfContents</meta>
    <meta property="schema:accessibilityHazard">none</meta>
"""
"""What the package document says on accessibility: pictures have words, formulas are MathML."""


def settle(soup: BeautifulSoup) -> None:
    """Make a page's tree fit for e-readers, in place."""
    for link in soup.select("a.headerlink"):
        link.decompose()
    for box in soup.select("div.scroll"):
        box.unwrap()
    for element in soup.select("pre[role], [tabindex]"):
        for name in ("role", "aria-label", "tabindex"):
            element.attrs.pop(name, None)
    for table in soup.select("table[border]"):
        del table["border"]
    for table in soup.select("table"):
        if max((len(row.find_all(["th", "td"])) for row in table.select("tr")), default=0) >= MANY:
            table["class"] = [*table.get("class", []), "many"]
    for style in soup.select("style, script, iframe"):
        style.decompose()
    _fold(soup)


def _fold(soup: BeautifulSoup) -> None:
    """Move what is folded away in the book, answer and solutions, to the end of its page, with links there and back."""
    folded = soup.select("details")
    if not folded:
        return
    end = soup.new_tag("section", attrs={"id": "solutions", "class": "solutions"})
    title = soup.new_tag("h2")
    title.string = "Answer and solutions"
    end.append(title)
    for number, details in enumerate(folded, 1):
        heading = details.find_previous(["h1", "h2", "h3"])
        solution = "solution" in details.get("class", ())
        name = " ".join(heading.get_text().split()) if solution and heading else "The answer"
        there, back = f"folded-{number}", f"unfold-{number}"
        link = _link(soup, f"#{there}", f"To the {'solution' if solution else 'answer'}")
        place = soup.new_tag("p", attrs={"class": "to-solution", "id": back})
        place.append(link)
        details.insert_before(place)
        part = soup.new_tag("section", attrs={"id": there})
        head = soup.new_tag("h3")
        head.string = name
        part.append(head)
        summary = details.find("summary")
        if summary:
            summary.decompose()
        for child in list(details.children):
            part.append(child.extract())
        foot = soup.new_tag("p", attrs={"class": "to-solution"})
        foot.append(_link(soup, f"#{back}", "Back to the text"))
        part.append(foot)
        details.decompose()
        end.append(part)
    outer = soup.find("section") or soup
    outer.append(end)


def _link(soup: BeautifulSoup, target: str, words: str) -> Tag:
    link = soup.new_tag("a", attrs={"href": target})
    link.string = words
    return link


def drawing(svg: str) -> str:
    """A drawing of the book in its light colours, as XML on its own."""
    svg = re.sub(r"var\(--fig-[a-z0-9-]+, (#[0-9a-fA-F]{6})\)", r"\1", svg)
    svg = re.sub(r"calc\(([\d.]+px) \* var\(--fig-text, 1\)\)", r"\1", svg)
    svg = re.sub(r'\s(?:focusable|data-[\w-]+)="[^"]*"', "", svg)
    if "xmlns=" not in svg[: svg.index(">")]:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return svg


class BookEpub(Epub3Builder):
    """Sphinx's builder with this book's style sheet only, and a manifest that says what each page holds."""

    media_types = {**Epub3Builder.media_types, ".woff2": "font/woff2"}

    def get_toc(self) -> None:
        """The order of the pages, from the table of contents: Sphinx's own asks for a root page in the root folder."""
        site = self.config.external_site_map
        self.refnodes: list[dict[str, Any]] = []

        def add(name: str, level: int) -> None:
            if name in self.env.titles:
                title = self.env.titles[name].astext()
                self.refnodes.append({"level": level, "refuri": self.get_target_uri(name), "text": title})
                for tree in site[name].subtrees if name in site and name != site.root.docname else ():
                    for item in tree.items:
                        below = [item] if str(item) in self.env.titles else []
                        if type(item).__name__ == "GlobItem":
                            below = sorted(doc for doc in self.env.titles if fnmatch(doc, str(item)))
                        for inner in below:
                            add(str(inner), level + 1)

        add(site.root.docname, 1)
        for tree in site.root.subtrees:
            for name in tree.files():
                add(name, 1)

    def toc_metadata(self, level: int, navpoints: list[Any]) -> dict[str, Any]:
        """The older table of contents must name the book as the package document does."""
        return super().toc_metadata(level, navpoints) | {"uid": self.config.epub_identifier}

    def copy_static_files(self) -> None:
        static = Path(self.outdir, "_static")
        shutil.rmtree(static, ignore_errors=True)
        (static / "fonts").mkdir(parents=True)
        for font in sorted((STATIC / "fonts").iterdir()):
            if font.suffix == ".woff2":
                shutil.copyfile(font, static / "fonts" / font.name)
        shutil.copyfile(HERE / "epub.css", static / "epub.css")
        cover.draw(Path(self.outdir, COVER), self.config.epub_title, SUBTITLE)

    def build_content(self) -> None:
        Path(self.outdir, self.coverpage_name).unlink(missing_ok=True)  # from an earlier build, it would be listed twice
        super().build_content()
        package = Path(self.outdir, "content.opf")
        text = package.read_text("utf-8")
        text = re.sub(r'<item id="[^"]*" href="([^"]+\.xhtml)" media-type="application/xhtml\+xml" />', self._item, text)
        text = re.sub(rf'(<item id="[^"]*" href="{COVER}" media-type="image/png") />', r'\1 properties="cover-image" />', text)
        text = re.sub(r"\s*<dc:(?:contributor|description)>(?:unknown)?</dc:(?:contributor|description)>", "", text)
        text = re.sub(r'\s*<meta property="ibooks:[^<]*</meta>', "", text)
        package.write_text(text.replace("  </metadata>", ACCESS + "  </metadata>"), "utf-8")

    def _item(self, match: re.Match[str]) -> str:
        page = Path(self.outdir, match[1]).read_text("utf-8")
        held = [name for name, mark in (("mathml", "<math"), ("svg", "<svg")) if mark in page]
        return match[0].replace(" />", f' properties="{" ".join(held)}" />') if held else match[0]


def configure(app: Sphinx, config: Config) -> None:
    """What the package document says, from what the book says of itself."""
    title = str(config.html_title or config.project)
    values: dict[str, Any] = {
        "epub_basename": NAME, "epub_title": title, "epub_author": config.author, "epub_publisher": config.author,
        "epub_copyright": config.copyright, "epub_identifier": f"urn:beyondlab:{NAME}", "epub_uid": "book-id", "epub_language": config.language,
        "epub_show_urls": "no", "epub_use_index": False, "epub_tocdepth": 2, "epub_tocdup": False, "epub_tocscope": "includehidden",
        "epub_description": f"{SUBTITLE}.", "epub_cover": (COVER, "epub-cover.html"), "version": config.version or "1",
        "epub_css_files": [], "epub_exclude_files": ["index.html"], "epub_max_image_width": 0,
    }  # fmt: skip
    for name, value in values.items():
        setattr(config, name, value)


def setup(app: Sphinx) -> None:
    app.add_builder(BookEpub, override=True)
    app.connect("config-inited", configure)
