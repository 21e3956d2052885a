"""What the local extension makes of formulas and of the markup that Sphinx writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "book" / "_ext"))
from bookext.chapters import length  # noqa: E402
from bookext.mathml import to_mathml  # noqa: E402
from bookext.pages import outline, repair  # noqa: E402


@pytest.mark.parametrize("latex", [r"\lambda K", r"\frac{1}{\mu}", r"a &= b \\ c &= d", r"\begin{cases} 1 & x < 2 \\ 0 & x \ge 2 \end{cases}"])
def test_formulas_become_mathml(latex):
    result = to_mathml(latex, block=True)
    assert result.startswith("<math") and 'display="block"' in result and "\\" not in result


def test_lines_are_aligned():
    assert to_mathml(r"a &= b \\ c &= d", block=True).count("<mtr>") == 2
    assert to_mathml(r"\begin{aligned}a &= b \\ c &= d\end{aligned}", block=True).count("<mtr>") == 2


@pytest.mark.parametrize(("latex", "said"), [
    (r"\nosuch x", r"unknown command \\nosuch"), (r"\frac{1}", "lacks an argument"), ("{a", "braces"), ("x^", "cannot be read"),
    ("a & b", "cannot be read"), (r"\left( a", "cannot be read"),
])  # fmt: skip
def test_bad_latex_is_named(latex, said):
    with pytest.raises(ValueError, match=said):
        to_mathml(latex, block=False)


def test_table_headers_are_scoped_and_empty_ones_become_cells():
    html = repair("<table><thead><tr><th></th><th>ours</th></tr></thead><tbody><tr><th>a</th><td>1</td></tr></tbody></table>")
    assert '<th class="short" scope="col">ours</th>' in html
    assert '<th class="short" scope="row">a</th>' in html
    assert html.count("<th ") == 2
    assert html.startswith('<div aria-label="Table: ours" class="scroll" role="group" tabindex="0">')


def test_solutions_are_plain_details():
    html = repair('<details class="admonition hide above-input"><summary aria-label="Toggle hidden content"><p class="collapsed">Show</p>'
                  '<p class="expanded">Hide</p></summary><pre>x</pre></details>')  # fmt: skip
    assert html == '<details class="solution"><summary>Show</summary><pre>x</pre></details>'


def test_code_keeps_its_spaces():
    block = '<div class="highlight"><pre><span></span><span class="k">from</span><span class="w"> </span>math</pre></div>'
    assert '<span class="k">from</span> math' in repair(block)


def test_marks_without_a_colour_go_and_their_words_stay():
    line = '<div class="highlight"><pre><span class="n">a</span><span class="o">=</span><span class="mi">1</span></pre></div>'
    assert 'a=<span class="mi">1</span></pre>' in repair(line)
    sig = '<dt class="sig">f(<dl><dd><em class="sig-param"><span class="n"><span class="pre">x</span></span></em>,</dd></dl>)</dt>'
    assert repair(sig) == '<dt class="sig">f(<span class="sig-lines"><span class="sig-line"><em class="sig-param">x</em>,</span></span>)</dt>'


def test_repair_keeps_what_is_right():
    html = repair('<section id="a"><h2>A<a class="headerlink" href="#a" title="Link">¶</a></h2><p>Text &amp; more</p></section>')
    assert "<p>Text &amp; more</p>" in html and 'aria-label="Link to A"' in html
    assert repair(html) == html
    assert outline(html) == [{"id": "a", "title": "A"}]


@pytest.mark.parametrize(("minutes", "words"), [(45, "45 minutes"), (60, "1 hour"), (75, "1 hour 15"), (120, "2 hours")])
def test_length(minutes, words):
    assert length(minutes) == words
