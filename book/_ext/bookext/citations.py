"""References with their titles as their authors write them: gVisor, Step Functions, 1M requests.

Pybtex's own styles put a title into small letters unless each name in it is fenced with braces.
"""

from __future__ import annotations

from typing import Any

from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.template import field, sentence
from sphinx.application import Sphinx


class AsWritten(Style):
    """BibTeX's plain style, but for the titles."""

    def format_title(self, e: Any, which_field: str, as_sentence: bool = True) -> Any:
        title = field(which_field)
        return sentence[title] if as_sentence else title


def setup(app: Sphinx) -> None:
    register_plugin("pybtex.style.formatting", "as_written", AsWritten)
