"""Print chapters of the built book to PDF: ``python tools/printed.py [--solutions] [--to FOLDER] [--book FOLDER] [PAGE...]``

One A4 file a page, by headless Chromium, with the book's own print style (``@media print`` in ``book/_static/book.css``),
which the browser's Print uses as well. Answers and solutions are left out unless ``--solutions`` asks for them. Without
a PAGE every page of text is printed: chapters and the pages around them, not those of the library.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def pages(book: Path) -> Iterator[Path]:
    """The pages of text of the built book: the chapters, then the pages around them."""
    for folder in ("notebooks", "book"):
        yield from sorted(path for path in (book / folder).rglob("*.html") if "api" not in path.parts)


def unfold(page: Any) -> int:
    """Open every answer and solution of the page. How many."""
    return page.evaluate("""() => { const all = document.querySelectorAll("details:not(.drawer)");
        all.forEach((details) => { details.open = true; }); return all.length; }""")


def show(page: Any, address: str, *, solutions: bool) -> None:
    """Open a page as it is printed: light, with its fonts, folded or not."""
    page.emulate_media(media="print", color_scheme="light")
    page.goto(address, wait_until="load")
    page.evaluate("document.fonts.ready")
    if solutions:
        unfold(page)


def write(page: Any, target: Path) -> None:
    """Write the page that is shown to ``target``. Size, margins and page numbers are the style sheet's."""
    target.parent.mkdir(parents=True, exist_ok=True)
    page.pdf(path=str(target), prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="HTML files of the built book")
    parser.add_argument("--book", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--to", type=Path, default=ROOT / "_build" / "print")
    parser.add_argument("--solutions", action="store_true", help="unfold answers and solutions")
    arguments = parser.parse_args()
    wanted = [path.resolve() for path in arguments.pages] or list(pages(arguments.book.resolve()))
    if not wanted or not all(path.is_file() for path in wanted):
        raise SystemExit("printed: there is no such page in the built book; run `make book` first")
    from playwright.sync_api import sync_playwright

    found = next((path for name in (os.environ.get("CHROME"), *NAMES) if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page()
        for path in wanted:
            show(page, path.as_uri(), solutions=arguments.solutions)
            target = arguments.to / f"{path.stem}.pdf"
            write(page, target)
            print(f"printed: {target}, {target.stat().st_size:,} bytes", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
