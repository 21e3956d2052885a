"""Every page of the built book in a real browser: accessible, self-contained, light, and usable on a phone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

BUDGET = 1_200_000
"""Bytes of a chapter page with all it loads, each response gzip-compressed."""

SMALLEST = 9.0
"""CSS pixels that the text in a figure has at least on a 360-pixel screen."""


def told(visits: list[Any], what: str) -> str:
    return "\n".join(f"{v.page}: {line}" for v in visits for line in getattr(v, what))


def test_axe_finds_nothing_in_light_and_dark(visits):
    assert visits
    assert not told(visits, "violations")
    for visit in visits:
        papers = [mode.partition(") ")[0] for mode in visit.modes]
        assert len(papers) in (2, 3) and luminance(papers[0] + ")") > 0.8 and all(luminance(p + ")") < 0.05 for p in papers[1:]), visit.modes


def test_no_request_leaves_this_machine(visits):
    assert {host for visit in visits for host in visit.hosts} == {"127.0.0.1"}


def test_no_error_and_no_failed_request(visits):
    assert not told(visits, "trouble")


def test_nothing_is_kept_about_a_visitor(visits):
    assert [visit.page for visit in visits if visit.cookies or visit.stored] == []


def test_nothing_sticks_out_on_a_phone(visits):
    wide = [(v.page, *v.overflow) for v in visits if (v.overflow[0] > v.overflow[1] or v.overflow[2])]
    assert wide == []


def test_chapter_pages_keep_their_budget(visits, chapters):
    heavy = {v.page: v.weight for v in visits if v.page in chapters}
    assert set(heavy) == set(chapters)
    assert {page: weight for page, weight in heavy.items() if weight > BUDGET} == {}


def test_text_of_figures_is_legible_and_apart_on_a_phone(visits):
    faults = []
    for visit in visits:
        for drawing in visit.drawings:
            where = f"{visit.page}#{drawing['name']}"
            faults += [f"{where}: {t['text']!r} is {t['size']:.1f} px" for t in drawing["texts"] if t["size"] < SMALLEST and "<" not in t["text"]
                       and len(t["text"]) > 3]
            faults += [f"{where}: {t['text']!r} leaves the drawing" for t in drawing["texts"]
                       if t["left"] < drawing["left"] - 2 or t["right"] > drawing["right"] + 2]
            for a, b in itertools.combinations(drawing["texts"], 2):
                across = min(a["right"], b["right"]) - max(a["left"], b["left"])
                down = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
                if across > 1 and down > 0.35 * min(a["bottom"] - a["top"], b["bottom"] - b["top"]):
                    faults.append(f"{where}: {a['text']!r} lies over {b['text']!r}")
    assert faults == []


def luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    lin = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


COLOURS = """() => [getComputedStyle(document.body).backgroundColor,
  ...[...document.querySelectorAll("figure.drawing svg")].map((s) => getComputedStyle(s.querySelector("text")).fill)]"""


def test_figures_follow_the_mode_and_the_switch_is_remembered(browser, address, chapters):
    for chapter in chapters:
        context = browser.new_context(color_scheme="light")
        page = context.new_page()
        page.goto(address + chapter)
        light = page.evaluate(COLOURS)
        page.get_by_role("button", name="Dark mode").click()
        dark = page.evaluate(COLOURS)
        assert len(light) > 1, f"{chapter} has no drawing"
        assert all(a != b for a, b in zip(light, dark))
        for paper, *inks in (light, dark):
            assert min(contrast(paper, ink) for ink in inks) >= 3
        page.reload()
        assert page.evaluate(COLOURS) == dark
        assert page.evaluate("Object.keys(localStorage)") == ["mode"]
        context.close()


def test_dark_is_honoured_without_script_at_the_first_visit(browser, address):
    context = browser.new_context(color_scheme="dark", java_script_enabled=True)
    page = context.new_page()
    page.route("**/*.js", lambda route: route.abort())
    page.goto(address + "book/index.html")
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.05
    context.close()


def test_a_solution_opens_with_the_keyboard(browser, address, chapters):
    page = browser.new_page()
    for chapter in chapters:
        page.goto(address + chapter)
        solutions = page.locator("details.solution")
        assert solutions.count() >= 4
        first = solutions.first
        assert first.get_attribute("open") is None
        assert first.locator("summary").inner_text() == "Show the solution"
        assert not first.locator("pre").first.is_visible()
        first.locator("summary").focus()
        page.keyboard.press("Enter")
        assert first.locator("pre").first.is_visible()
    page.close()


def test_the_first_tab_stop_skips_to_the_text(browser, address):
    page = browser.new_page()
    page.goto(address + "book/setup.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.close()


def test_search_finds_a_page_over_http_and_from_the_disk(browser, address, site: Path):
    for start in (address, site.as_uri() + "/"):
        context = browser.new_context()
        context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(start) else route.abort())
        page = context.new_page()
        page.goto(start + "book/setup.html")
        field = page.get_by_role("searchbox", name="Search the book")
        field.fill("JupyterLab")
        field.press("Enter")
        page.locator("#search-results a", has_text="Run it yourself").wait_for(timeout=5_000)
        if start == address:
            page.locator("#search-results .context").first.wait_for(timeout=5_000)
        assert page.evaluate("localStorage.length") == 0
        context.close()


def test_the_cover_answers_in_one_glance(browser, address, chapters):
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    page.wait_for_url("**/book/index.html")
    assert page.locator("article.card").count() == len(chapters)
    answer = page.locator(".card-answer").first.bounding_box()
    assert answer["y"] + answer["height"] < 800
    assert [door.inner_text().split("\n")[0].lower() for door in page.locator(".door").all()] == ["reader", "learner", "instructor"]
    assert all(door.locator("a").count() == 1 for door in page.locator(".door").all())
    for screen in ({"width": 1280, "height": 800}, {"width": 360, "height": 740}):
        page.set_viewport_size(screen)
        links = [door.locator("a").bounding_box() for door in page.locator(".door").all()]
        assert all(link["y"] + link["height"] < screen["height"] for link in links), "where to begin is on the first screen"
    page.close()


def test_a_box_that_scrolls_fades_at_the_edge_where_it_goes_on(browser, address):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(address + "notebooks/serverless/aws-lambda.html")
    wide = page.locator(".scroll.more")
    wide.first.wait_for()
    page.evaluate("document.querySelectorAll('details:not(.drawer)').forEach((e) => { e.open = true; })")
    page.wait_for_function("""() => [...document.querySelectorAll("main .scroll")]
      .every((e) => e.classList.contains("more") === (e.scrollWidth > e.clientWidth + 2))""", timeout=5_000)
    assert 0 < wide.count() < page.locator(".scroll").count()
    assert "gradient" in wide.first.evaluate("(e) => getComputedStyle(e).maskImage")
    box = wide.first.element_handle()
    box.evaluate("(e) => { e.scrollLeft = e.scrollWidth; }")
    page.wait_for_function("(e) => !e.classList.contains('more')", arg=box, timeout=5_000)
    page.close()
