"""The local half of the book: maths, cards, recordings, and pages that need no repair in the browser."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from beyondlab.kit import book
from bookext import chapters, claims, mathml, numbers, pages, recordings, timeline, tracks


def setup(app: Sphinx) -> dict[str, Any]:
    for part in (mathml, chapters, claims, recordings, numbers, timeline, tracks, pages):
        part.setup(app)
    sources = [*sorted(Path(__file__).parent.glob("*.py")), Path(book.__file__)]
    version = zlib.crc32(b"".join(path.read_bytes() for path in sources)) or 1
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": version}
