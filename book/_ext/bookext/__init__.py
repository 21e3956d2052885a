"""The local half of the book: maths, cards, recordings, and pages that need no repair in the browser."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from bookext import chapters, mathml, pages, recordings


def setup(app: Sphinx) -> dict[str, Any]:
    for part in (mathml, chapters, recordings, pages):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
