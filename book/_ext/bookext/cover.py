"""The cover of the EPUB: drawn when the book is built, in the book's colours and faces."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

from beyondlab.kit.figures import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

FONTS = Path(__file__).parents[2] / "_static" / "fonts"
ACCENT = "#9c3b16"
"""The accent of the style sheet, in light."""
WIDTH, HEIGHT = 1600, 2400
"""Pixels: two to three, and at least 1,000 wide, as shops and shelves ask for."""


def _face(name: str, weight: int, text: str) -> bytes:
    """One weight of a variable face of the book, as TrueType with the letters of ``text`` only.

    Raises ImportError where no Brotli can unpack the book's file.
    """
    from fontTools.subset import Subsetter
    from fontTools.ttLib import TTFont
    from fontTools.varLib.instancer import instantiateVariableFont

    font = TTFont(FONTS / f"{name}-latin-wght-normal.woff2", recalcTimestamp=False)
    letters = Subsetter()
    letters.populate(text=text)
    letters.subset(font)
    instantiateVariableFont(font, {"wght": weight}, inplace=True)
    font.flavor = None
    buffer = io.BytesIO()
    font.save(buffer)
    return buffer.getvalue()


def _font(folder: Path, name: str, weight: int, text: str, fallback: str) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    try:
        data = _face(name, weight, text)
    except ImportError:
        return FontProperties(family=fallback, weight=weight)
    path = folder / f"{name}-{weight}.ttf"
    path.write_bytes(data)
    return FontProperties(fname=str(path))


def _mark(figure: Figure, left: float, bottom: float, size: float) -> None:
    """The mark of the book, a box and an arrow that leaves it, in a square of ``size`` pixels."""
    axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, size / WIDTH, size / HEIGHT))
    axes.set(xlim=(2.5, 21), ylim=(21.5, 3))
    axes.axis("off")
    width = 2 * size / 18.5 * 72 / figure.dpi
    box = [11, 3.5, 3.5, 16, 16], [8, 8, 20.5, 20.5, 13], LIGHT["ink"]
    lines = box, ([8, 20], [16, 4], ACCENT), ([13.5, 20, 20], [4, 4, 10.5], ACCENT)
    for x, y, colour in lines:
        axes.plot(x, y, color=colour, linewidth=width, solid_capstyle="butt", solid_joinstyle="miter", clip_on=False)


def draw(path: Path, title: str, subtitle: str) -> None:
    """Write the cover to ``path`` as PNG: ``title``, broken after its commas, ``subtitle``, and the mark."""
    from tempfile import TemporaryDirectory

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(WIDTH / 200, HEIGHT / 200), dpi=200, facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    with TemporaryDirectory() as made, catch_warnings():
        simplefilter("ignore")
        folder = Path(made)
        serif = _font(folder, "source-serif-4", 650, title, "DejaVu Serif")
        sans = _font(folder, "source-sans-3", 400, subtitle, "DejaVu Sans")
        left, rule = 130 / WIDTH, 1560 / HEIGHT
        lines = title.replace(", ", ",\n")
        figure.text(left, rule + 90 / HEIGHT, lines, font=serif, size=60, color=LIGHT["ink"], va="bottom", linespacing=0.95)
        figure.add_artist(Line2D([left, 1 - left], [rule, rule], color=LIGHT["ink"], linewidth=2.2))
        figure.text(left, rule - 60 / HEIGHT, subtitle, font=sans, size=22.5, color=LIGHT["muted"], va="top")
        _mark(figure, 700, 130, 770)
        figure.savefig(path, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
