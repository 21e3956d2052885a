"""Renew the picture of the book in the README, ``book/picture.png``, from the built book: ``python tools/picture.py``."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
COVER = ROOT / "_build" / "html" / "book" / "index.html"
PICTURE = ROOT / "book" / "picture.png"
LIMIT = 250_000


def main() -> None:
    if not COVER.exists():
        raise SystemExit("picture: there is no built book; run `make book` first")
    names = (os.environ.get("CHROME"), "google-chrome", "google-chrome-stable", "chromium", "chromium-browser")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto(COVER.as_uri())
        page.evaluate("document.fonts.ready")
        shot = page.screenshot()
        browser.close()
    image = Image.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    image.save(PICTURE, optimize=True)
    size = PICTURE.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"picture: {size:,} bytes, more than {LIMIT:,}")
    print(f"picture: {PICTURE.relative_to(ROOT)}, {size:,} bytes")


if __name__ == "__main__":
    main()
