"""The figures of the course: their words, their colours, and that the same drawing gives the same file."""

from __future__ import annotations

import itertools
import re

import matplotlib
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from beyondlab.kit import figures  # noqa: E402
from beyondlab.kit.book import css_variables, figure_html, inline_svg  # noqa: E402

DICHROMACY = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB."""


def drawn(name="a-b", alt="A line that rises from 0 to 1.", caption="Up it goes."):
    with figures.style():
        fig, axes = plt.subplots()
        axes.plot([0, 1], [0, 1], **figures.series(1), label="one")
        axes.bar([0.5], [0.3], **figures.bars(2))
        axes.fill_between([0, 1], [0, 0.2], color=figures.colour("series-3"), alpha=0.3)
        axes.add_patch(plt.Circle((0.5, 0.5), 0.1, clip_path=axes.patch))
        axes.legend()
    return figures.Figure(fig, name=name, alt=alt, caption=caption)


def linear(value):
    parts = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def contrast(one, other):
    low, high = sorted(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(v))) for v in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(value, matrix):
    rgb = linear(value)
    r, g, b = (min(1, max(0, sum(w * c for w, c in zip(row, rgb)))) for row in matrix)
    xyz = ((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b, (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089)
    x, y, z = (c ** (1 / 3) if c > 0.008856 else 7.787 * c + 16 / 116 for c in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("palette", [figures.LIGHT, figures.DARK])
@pytest.mark.parametrize("vision", DICHROMACY)
def test_series_can_be_told_apart(palette, vision):
    colours = [lab(palette[f"series-{i}"], DICHROMACY[vision]) for i in range(1, 7)]
    assert min(sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5 for one, other in itertools.combinations(colours, 2)) >= 15


@pytest.mark.parametrize("palette", [figures.LIGHT, figures.DARK])
def test_contrast_with_the_paper(palette):
    assert all(contrast(palette[f"series-{i}"], palette["paper"]) >= 3 for i in range(1, 7))
    assert contrast(palette["ink"], palette["paper"]) >= 7 and contrast(palette["muted"], palette["paper"]) >= 4.5


def test_roles_have_different_colours_and_a_second_channel():
    assert len(set(figures.LIGHT.values())) == len(figures.LIGHT) == len(set(figures.DARK.values()))
    assert set(figures.LIGHT) == set(figures.DARK)
    lines = [figures.series(i) for i in range(1, 7)]
    for channel in ("color", "marker", "linestyle"):
        assert len({str(line[channel]) for line in lines}) == 6
    assert len({figures.bars(i)["hatch"] for i in range(1, 7)}) == 6


@pytest.mark.parametrize("number", [0, 7, 1.5, True, "1"])
def test_series_refuses_other_numbers(number):
    for function in (figures.series, figures.bars):
        with pytest.raises(ValueError, match="allowed: whole numbers from 1 to 6"):
            function(number)


@pytest.mark.parametrize(("words", "said"), [
    ({"alt": ""}, "alt"), ({"alt": "  "}, "alt"), ({"alt": "x" * 601}, "601 characters"), ({"alt": "Up it goes"}, "repeats the caption"),
    ({"caption": ""}, "caption"), ({"alt": None}, "alt"), ({"name": "A b"}, "name"), ({"name": ""}, "name"), ({"name": "1a"}, "name"),
])  # fmt: skip
def test_words_are_checked(words, said):
    with pytest.raises(ValueError, match=said):
        drawn(**words)
    plt.close("all")


def test_the_same_drawing_gives_the_same_svg():
    assert drawn().svg == drawn().svg
    assert "20" + "26" not in drawn().svg and "metadata" not in drawn().svg


def test_ids_of_two_figures_do_not_collide():
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(name=name).svg)) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]
    svg = drawn(name="one").svg
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == ids[0]


def test_the_pyplot_figure_is_closed_and_the_style_does_not_leak():
    before = dict(matplotlib.rcParams)
    drawn()
    assert not plt.get_fignums()
    assert dict(matplotlib.rcParams) == before


def test_the_outputs_of_a_cell(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    drawn(caption="Rates *rise*, λ < 1.")._ipython_display_()
    (data, metadata), (caption, mark) = shown
    assert set(data) == {"image/svg+xml", "image/png", "text/plain"} and data["text/plain"] == "A line that rises from 0 to 1."
    assert metadata == {"name": "a-b", "alt": "A line that rises from 0 to 1.", "caption": "Rates *rise*, λ < 1."}
    assert caption["text/markdown"] == r"*Rates \*rise\*, λ \< 1.*" and mark == {"caption_of": "a-b"}


def test_inline_drawings_take_the_colours_of_the_page():
    svg = inline_svg(drawn().svg)
    assert "<style" not in svg and "xlink" not in svg and "role=" not in svg
    assert re.findall(r"(?<!, )#[0-9a-f]{6}", svg) == []
    assert {"ink", "grid", "series-1", "series-2", "series-3"} <= set(re.findall(r"var\(--fig-([a-z0-9-]+),", svg))
    assert "fill: none" in svg.split("</g>")[0]


def test_a_prefix_keeps_references_whole():
    svg = inline_svg(drawn().svg, prefix="card-")
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) == set(re.findall(r'\bid="([^"]+)"', svg))


def test_the_figure_element_says_its_words():
    html = figure_html(drawn().svg, name="a-b", alt='A "line" < 2', caption="Up & away")
    assert 'id="fig-a-b"' in html and 'role="img" aria-label="A &quot;line&quot; &lt; 2"' in html
    assert "<figcaption>Up &amp; away</figcaption>" in html


def test_the_palette_of_the_page_has_every_role():
    css = css_variables()
    assert all(f"--fig-{role}: light-dark({figures.LIGHT[role]}, {figures.DARK[role]});" in css for role in figures.LIGHT)
