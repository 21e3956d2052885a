"""One drawing style for the whole course, and figures that carry their words.

A figure is drawn once, in the light palette. The SVG keeps the role of every colour, so the book can
show the same drawing in dark mode (see :mod:`beyondlab.kit.book`).

The six series colours follow the idea of Okabe and Ito, "Color universal design" (2008): apart in hue and in
lightness. They differ by at least 15 units of CIELAB under normal vision and under the three dichromacies as
simulated with the matrices of Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of
color vision deficiency" (IEEE TVCG 15(6), 2009), and each has a contrast of at least 3:1 with the paper. A marker, a
dash pattern and a hatch repeat what the colour says.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as MplFigure

LIGHT: dict[str, str] = {
    "paper": "#fffdf8",
    "ink": "#1d1c1a",
    "muted": "#5d5850",
    "grid": "#ddd8cd",
    "series-1": "#1461b0",
    "series-2": "#96350c",
    "series-3": "#178a63",
    "series-4": "#d0489a",
    "series-5": "#b5831a",
    "series-6": "#3f4a55",
}
"""Role of a colour -> hex value on paper."""

DARK: dict[str, str] = {
    "paper": "#15171a",
    "ink": "#e8e4dc",
    "muted": "#aaa59b",
    "grid": "#34383d",
    "series-1": "#5ba4f0",
    "series-2": "#e8703a",
    "series-3": "#3fe0a0",
    "series-4": "#d964ad",
    "series-5": "#f2d24a",
    "series-6": "#c6d0da",
}
"""The same roles on a dark page."""

SERIES = 6
"""How many series can be told apart. A figure that needs more needs another form."""

SIZE = (5.2, 3.2)
"""Default size in inches: at 328 CSS pixels, a phone, its 10.5 pt text is still 9 CSS pixels high."""

ALT_LIMIT = 600
"""Longest alt text in characters. A longer description belongs in the chapter."""

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.6, 1.2, 1.6)), (0, (9, 2)), (0, (3, 1.2, 1, 1.2, 1, 1.2)))
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def colour(role: str) -> str:
    """The hex value of a role on paper: ``ink``, ``muted``, ``grid``, ``paper`` or ``series-1`` to ``series-6``.

    Raises ValueError when the role is unknown.
    """
    if role not in LIGHT:
        raise ValueError(f"role: {role!r} is not a colour role; allowed: {', '.join(LIGHT)}")
    return LIGHT[role]


def _index(i: int) -> int:
    if isinstance(i, bool) or not isinstance(i, int) or not 1 <= i <= SERIES:
        raise ValueError(f"i: {i!r} is not a series number; allowed: whole numbers from 1 to {SERIES}")
    return i - 1


def series(i: int) -> dict[str, Any]:
    """Keyword arguments for the line of series ``i`` (1 to 6): colour, marker and dash pattern.

    >>> axes.plot(x, y, **series(1), label="fixed time-out")  # doctest: +SKIP

    Raises ValueError when ``i`` is not a whole number from 1 to 6.
    """
    k = _index(i)
    return {"color": LIGHT[f"series-{i}"], "marker": _MARKERS[k], "linestyle": _DASHES[k]}


def bars(i: int) -> dict[str, Any]:
    """Keyword arguments for the bars or areas of series ``i`` (1 to 6): fill, edge and hatch.

    Raises ValueError when ``i`` is not a whole number from 1 to 6.
    """
    k = _index(i)
    return {"facecolor": LIGHT[f"series-{i}"], "edgecolor": LIGHT["paper"], "hatch": _HATCHES[k], "linewidth": 0.8}


def _rc() -> dict[str, Any]:
    ink, muted, grid, paper = (LIGHT[role] for role in ("ink", "muted", "grid", "paper"))
    return {
        "figure.figsize": SIZE,
        "figure.dpi": 120,
        "figure.facecolor": paper,
        "figure.constrained_layout.use": True,
        "savefig.facecolor": paper,
        "axes.facecolor": paper,
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.labelsize": 10.5,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": _cycle(),
        "grid.color": grid,
        "grid.linewidth": 0.7,
        "text.color": ink,
        "font.family": ["DejaVu Sans"],
        "font.size": 10.5,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "legend.handlelength": 2.6,
        "lines.linewidth": 1.9,
        "lines.markersize": 5.0,
        "lines.markeredgewidth": 0.0,
        "hatch.linewidth": 0.9,
        "patch.edgecolor": paper,
        "svg.fonttype": "none",
    }


def _cycle() -> Any:
    from cycler import cycler

    return cycler(color=[LIGHT[f"series-{i}"] for i in range(1, SERIES + 1)])


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib with the style of the course, inside the ``with`` block only."""
    import matplotlib

    with matplotlib.rc_context(_rc()):
        yield


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, written out."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_locator(NullLocator())


def _words(text: str, what: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{what}: {text!r} says nothing; allowed: a sentence for readers who cannot see the figure" if what == "alt"
                         else f"{what}: {text!r} says nothing; allowed: a sentence that says what the figure shows")
    return " ".join(text.split())


class Figure:
    """A finished drawing with its alt text and its caption.

    As the last expression of a cell it shows one output (``image/svg+xml``, ``image/png``, and the alt text as
    ``text/plain``; output metadata ``name``, ``alt``, ``caption``) and then its caption as an italic Markdown
    output (metadata ``caption_of``). The pyplot figure is closed, so it is not shown twice.

    Arguments: ``fig``, a matplotlib figure drawn inside :func:`style`; ``name``, unique on its page, lower-case
    words joined by hyphens, which also prefixes every id of the SVG; ``alt``, what the figure shows, in words and
    numbers, at most 600 characters; ``caption``, what to see in it. Both are plain text.

    The same drawing gives the same SVG: no date, ids numbered after ``name``, coordinates rounded to 0.01 pt.

    Raises ValueError when ``name`` has another form, or ``alt`` or ``caption`` is empty, or ``alt`` is too long or
    repeats the caption.
    """

    def __init__(self, fig: MplFigure, *, name: str, alt: str, caption: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"name: {name!r} cannot be part of an id; allowed: lower-case words and digits joined by hyphens")
        self.name = name
        self.alt = _words(alt, "alt")
        self.caption = _words(caption, "caption")
        if len(self.alt) > ALT_LIMIT:
            raise ValueError(f"alt: {len(self.alt)} characters ({self.alt[:40]!r}...); allowed: at most {ALT_LIMIT}")
        if self.alt.casefold().rstrip(".") == self.caption.casefold().rstrip("."):
            raise ValueError(f"alt: {self.alt!r} repeats the caption; allowed: what the figure shows, not what it means")
        self.svg = _svg(fig, name, self.alt)
        self.png = _png(fig)
        _close(fig)

    def bundle(self) -> tuple[dict[str, str], dict[str, str]]:
        """The MIME bundle of the drawing and its output metadata."""
        data = {"image/svg+xml": self.svg, "image/png": base64.b64encode(self.png).decode("ascii"), "text/plain": self.alt}
        return data, {"name": self.name, "alt": self.alt, "caption": self.caption}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data, metadata = self.bundle()
        display(data, raw=True, metadata=metadata)
        text = re.sub(r"([\\*_`<\[])", r"\\\1", self.caption)
        display({"text/markdown": f"*{text}*", "text/plain": self.caption}, raw=True, metadata={"caption_of": self.name})


def _close(fig: MplFigure) -> None:
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)


def _png(fig: MplFigure) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def _svg(fig: MplFigure, name: str, alt: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _tidy(buffer.getvalue(), name, alt)


_DECIMALS = re.compile(r"-?\d+\.\d{3,}")
_COORDINATES = re.compile(r'(?<=\s)(d|x|y|x1|y1|x2|y2|cx|cy|r|width|height|points)="([^"]*)"')


def _tidy(svg: str, name: str, alt: str) -> str:
    """Matplotlib's SVG without prologue and metadata, its ids prefixed, its coordinates short, with a name."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    used = dict.fromkeys(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    for number, old in enumerate(used, 1):
        svg = re.sub(rf'(\bid="|href="#|url\(#){re.escape(old)}(?=[")])', rf"\g<1>{name}-{number}", svg)
    svg = re.sub(rf'\s+id="(?!{name}-\d)[^"]*"', "", svg)
    svg = _COORDINATES.sub(lambda m: f'{m[1]}="{_DECIMALS.sub(_two, m[2])}"', svg)
    svg = svg.replace("'DejaVu Sans'", "'Source Sans 3', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif")
    svg = re.sub(r"\s*\n\s*(?=[LQCMz])", " ", svg)
    return re.sub("^<svg", f'<svg role="img" aria-label={quoteattr(alt)}', svg).strip() + "\n"


def _two(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
