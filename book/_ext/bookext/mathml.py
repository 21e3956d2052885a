"""Mathematics as MathML, made when the book is built: no script, no font service, readable by screen readers."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

_CHILDREN = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "mroot": 2, "msubsup": 3, "munderover": 3}
"""Elements of MathML Core with a fixed number of children; the converter lets a missing one pass."""

_ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|split|align\*?|gathered|eqnarray\*?)\}")


def to_mathml(latex: str, *, block: bool) -> str:
    r"""LaTeX to one ``math`` element.

    Several lines (``\\``) outside an environment are aligned. Raises ValueError when the LaTeX cannot be read, holds a
    command that is not known, or lacks an argument.
    """
    source = _ALIGNED.sub(r"\\\1{align*}", latex.strip())
    if block and r"\\" in source and r"\begin" not in source:
        source = rf"\begin{{align*}}{source}\end{{align*}}"
    _braces(latex)
    try:
        result = convert(source, display="block" if block else "inline")
        tree = ElementTree.fromstring(result)
    except Exception as fault:  # the converter raises a dozen unrelated classes
        raise ValueError(f"LaTeX {latex!r} cannot be read: {type(fault).__name__} {fault}".rstrip()) from fault
    for element in tree.iter():
        tag = element.tag.rpartition("}")[2]
        if "\\" in (element.text or ""):
            raise ValueError(f"LaTeX {latex!r} has the unknown command {element.text.strip()}")
        if len(element) != _CHILDREN.get(tag, len(element)):
            raise ValueError(f"LaTeX {latex!r} lacks an argument of a fraction, a root, an index or an accent")
    return result


def _braces(latex: str) -> None:
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", latex):
        depth += 1 if mark == "{" else -1
        if depth < 0:
            break
    if depth:
        raise ValueError(f"LaTeX {latex!r} has braces that do not match")


def _markup(node: nodes.Element, *, block: bool) -> str:
    try:
        return to_mathml(node.astext(), block=block)
    except ValueError as fault:
        logger.error(str(fault), location=node, type="math")
        return f"<code>{escape(node.astext())}</code>"


def visit_inline(self, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{_markup(node, block=False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    ids = "".join(f' id="{escape(i)}"' for i in node["ids"][:1])
    number = f'<span class="equation-number">({node["number"]})</span>' if node.get("number") else ""
    self.body.append(f'<div class="math-block"{ids}><div class="scroll" role="group" aria-label="Equation" tabindex="0">'
                     f"{_markup(node, block=True)}</div>{number}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
