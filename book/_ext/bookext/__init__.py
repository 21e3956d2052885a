"""The local half of the book: maths, cards, recordings, and pages that need no repair in the browser."""

from __future__ import annotations

import functools
import os
import zlib
from pathlib import Path
from typing import Any

import pybtex.plugin
from sphinx.application import Sphinx

from beyondlab.kit import book
from bookext import chapters, citations, claims, epub, library, mathml, numbers, pages, recordings, timeline, tracks


def hasten(app: Sphinx) -> None:
    """Build on two cores, and look each plug-in of pybtex up once rather than once a citation."""
    if app.parallel < 2:
        app.parallel = min(2, os.cpu_count() or 1)
    if not hasattr(pybtex.plugin.find_plugin, "cache_info"):
        pybtex.plugin.find_plugin = functools.cache(pybtex.plugin.find_plugin)


def allow(app: Sphinx, *_: Any) -> None:
    """Jupyter Book loads an extension that numbers chapters and does not say that it is safe. Nothing is numbered here."""
    if extension := app.extensions.get("sphinx_multitoc_numbering"):
        extension.parallel_read_safe = extension.parallel_write_safe = True


def setup(app: Sphinx) -> dict[str, Any]:
    hasten(app)
    app.connect("env-before-read-docs", allow)
    for part in (mathml, chapters, citations, claims, library, recordings, numbers, timeline, tracks, pages, epub):
        part.setup(app)
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(book.__file__)]
    version = zlib.crc32(b"".join(path.read_bytes() for path in sources)) or 1
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": version}
