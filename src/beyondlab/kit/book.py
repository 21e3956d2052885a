"""How the book shows the figures of the course: inline, with a name and a caption, in the colours of the page.

Used by the book build only. MyST-NB finds :class:`FigureRenderer` through the entry point group
``myst_nb.mime_renderers``.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, ClassVar

from beyondlab.kit.figures import DARK, LIGHT

_ROLE_OF = {value: role for role, value in LIGHT.items()}


def css_variables() -> str:
    """The figure palette as CSS: one custom property a role, light and dark in one value."""
    lines = (f"  --fig-{role}: light-dark({LIGHT[role]}, {DARK[role]});" for role in LIGHT)
    return ":root {\n" + "\n".join(lines) + "\n}\n"


def inline_svg(svg: str, *, prefix: str = "") -> str:
    """A stored SVG made fit to stand in an HTML page.

    Colours of the palette become ``var(--fig-role, #hex)``, sizes of text ``calc(... * var(--fig-text, 1))`` so that
    a small screen can enlarge it, the background goes, the style element (which would apply
    to the whole page) goes, and so do the fixed size, the name and the role: the ``figure`` around it has them.
    ``prefix`` is put before every id.
    """
    svg = re.sub(r"\s*<style\b[^>]*>.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"\s*<defs>\s*</defs>", "", svg)
    head, rest = re.match(r"(<svg\b[^>]*>)(.*)", svg, flags=re.S).groups()
    view = re.search(r'viewBox="([^"]+)"', head)[1]
    rest = re.sub(r'(<g>\s*<g>\s*<path\b[^>]*?style=")[^"]*"', r'\1fill: none"', rest, count=1)
    rest = re.sub(r'\b(fill|stroke)="(#[0-9a-fA-F]{6})"', r'style="\1: \2"', rest)
    rest = re.sub(r"font-size: ([\d.]+px)", r"font-size: calc(\1 * var(--fig-text, 1))", rest)
    rest = re.sub(r'style="([^"]*)"', lambda m: f'style="{_roles(m[1])}"', rest)
    if prefix:
        rest = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', rest)
        rest = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}\1"', rest)
        rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", rest)
    rest = rest.replace("xlink:href=", "href=")
    return f'<svg viewBox="{view}" aria-hidden="true" focusable="false">{rest}'.strip()


def _roles(css: str) -> str:
    return re.sub(r"#[0-9a-fA-F]{6}\b", lambda m: _variable(m[0].lower()), css)


def _variable(value: str) -> str:
    role = _ROLE_OF.get(value)
    return f"var(--fig-{role}, {value})" if role else value


def figure_html(svg: str, *, name: str, alt: str, caption: str) -> str:
    """The ``figure`` element of a drawing: one image with its alt text as name, and the caption under it."""
    return (
        f'<figure class="drawing" id="fig-{escape(name)}">\n'
        f'<div class="drawing-image" role="img" aria-label="{escape(alt)}">{inline_svg(svg)}</div>\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>\n"
    )


class FigureRenderer:
    """MyST-NB's plug-in for the outputs of :class:`beyondlab.kit.figures.Figure`.

    HTML gets the drawing inline and no second caption; every other builder gets the picture with its alt text and the
    caption as a paragraph. A picture that comes from elsewhere and has no alt text is a warning.
    """

    mime_priority_overrides: ClassVar[list[tuple[str, str, int | None]]] = []

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[Any] | None:
        """Render one MIME type of one output; None leaves it to MyST-NB."""
        from docutils import nodes

        words = data.output_metadata
        if data.mime_type == "text/markdown" and "caption_of" in words:
            return _not_in_html(renderer.render_markdown(data))
        if data.mime_type == "text/plain" and "caption_of" in words:
            return []
        if inline or not data.mime_type.startswith("image/"):
            return None
        if not words.get("alt") or not words.get("caption"):
            renderer.logger.warning("a picture without alt text and caption: show it with beyondlab.kit.figures.Figure",
                                    subtype="alt", line=data.line)
            return None
        if data.mime_type == "image/svg+xml":
            html = figure_html(data.string, name=words["name"], alt=words["alt"], caption=words["caption"])
            return [nodes.raw(text=html, format="html")]
        pictures = renderer.render_image(data)
        for picture in pictures:
            picture["alt"] = words["alt"]
        return pictures


def _not_in_html(children: list[Any]) -> list[Any]:
    from sphinx.addnodes import only

    return [only("", *children, expr="not html")]
