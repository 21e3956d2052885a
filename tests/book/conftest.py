"""The built book, served on this machine, and a real browser that has read every page of it.

The book is built once for all workers of a test run: the first that needs it builds, the others wait at a lock.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

OVERFLOW = """() => {
  const wide = innerWidth + 1, found = [];
  const hidden = (e) => { for (let p = e; p; p = p.parentElement) if (p !== document.body && p !== document.documentElement
      && getComputedStyle(p).overflowX !== "visible" && p.tagName.toLowerCase() !== "svg") return true; return false; };
  for (const e of document.body.querySelectorAll("*")) {
    const r = e.getBoundingClientRect();
    if (r.width && r.height && r.right > wide && !hidden(e)) found.push(e.tagName + "." + e.getAttribute("class") + " " + Math.round(r.right));
  }
  return [document.documentElement.scrollWidth, innerWidth, found.slice(0, 5)];
}"""

DRAWINGS = """() => [...document.querySelectorAll("figure.drawing")].map((f) => {
  const box = f.querySelector("svg").getBoundingClientRect();
  const texts = [...f.querySelectorAll("svg text")].filter((t) => t.textContent.trim()).map((t) => {
    const r = t.getBoundingClientRect();
    return {text: t.textContent.trim(), left: r.left, right: r.right, top: r.top, bottom: r.bottom,
            size: parseFloat(getComputedStyle(t).fontSize) * box.width / f.querySelector("svg").viewBox.baseVal.width};
  });
  return {name: f.id, left: box.left, right: box.right, texts};
})"""


def _once(folder: Path, name: str, make: Callable[[], str | None]) -> None:
    """Call ``make`` in the first of all workers that comes here; fail in each of them if it tells of a fault."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / f"{name}.done"
        if not done.exists():
            done.write_text(make() or "")
        if fault := done.read_text():
            pytest.fail(fault, pytrace=False)


def _build(out: Path, *more: str) -> str | None:
    """Build the book with warnings as errors outside the working tree; what went wrong."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--path-output", str(out), "-W", "-n", "--keep-going", *more]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    if not run.returncode:
        return None
    told = [line for line in (run.stdout + run.stderr).splitlines() if "WARNING" in line or "ERROR" in line or "Error" in line]
    return "the book does not build without warnings:\n" + "\n".join(told or run.stderr.splitlines()[-20:])


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "book"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def site(shared: Path) -> Path:
    """The HTML of the book."""
    _once(shared, "html", lambda: _build(shared))
    return shared / "_build" / "html"


@pytest.fixture(scope="session")
def epub(shared: Path, site: Path) -> Path:
    """The EPUB of the book, made from what the HTML's build has read."""
    _once(shared, "epub", lambda: _build(shared, "--builder", "custom", "--custom-builder", "epub"))
    return next((shared / "_build" / "epub").glob("*.epub"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the book is served: loopback, a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def browser_path() -> str | None:
    """An installed Chrome or Chromium, or None."""
    named = [os.environ.get("CHROME"), "google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "/usr/bin/chromium"]
    return next((path for name in named if name and (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser, else skip; with CI=true its absence is a failure.

    Of one file: while Playwright runs, so does its event loop, in which no test that has a loop of its own can run.
    """
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
        except api.Error as fault:
            reason = "no browser: run tools/browser.sh (" + str(fault).splitlines()[0] + ")"
            if os.environ.get("CI") == "true":
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
        yield started
        started.close()


@pytest.fixture(scope="session")
def pages(site: Path) -> list[str]:
    """Every page of the book, by its path."""
    return sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_static" not in path.parts)


@pytest.fixture(scope="session")
def chapters() -> list[str]:
    """The path of every chapter in the table of contents."""
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [f"{name}.html" for name in files if (ROOT / f"{name}.ipynb").exists()]


@dataclass
class Visit:
    """What happened while a page was open."""

    page: str
    hosts: set[str] = field(default_factory=set)
    trouble: list[str] = field(default_factory=list)
    weight: int = 0
    violations: list[str] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    overflow: list[Any] = field(default_factory=list)
    drawings: list[dict[str, Any]] = field(default_factory=list)
    cookies: list[Any] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def visits(browser: Any, address: str, pages: list[str]) -> list[Visit]:
    """Every page, opened once: in light at a desk, then in dark on a phone; what only a desk shows, in dark on two pages.

    Two browsers share the pages, the heaviest first, since axe computes in the page and a machine has two cores at least.
    """
    heaviest_first = sorted((page for page in pages if page != "index.html"), key=lambda name: "notebooks" not in name)
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in heaviest_first:
        waiting.put(name)
    found: list[Visit] = []
    faults: list[BaseException] = []

    def read() -> None:
        try:
            from playwright.sync_api import sync_playwright

            with sync_playwright() as playwright:
                own = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
                while not faults:
                    try:
                        name = waiting.get_nowait()
                    except queue.Empty:
                        break
                    found.append(_visit(own, address, name))
                own.close()
        except BaseException as fault:  # it is raised where the tests can see it
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    if faults:
        raise faults[0]
    assert len(found) == len(heaviest_first)
    return sorted(found, key=lambda visit: visit.page)


def _visit(browser: Any, address: str, name: str) -> Visit:
    from axe_playwright_python.sync_playwright import Axe

    axe, visit, responses = Axe(), Visit(name), []
    context = browser.new_context(viewport=DESK, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.on("request", lambda r: visit.hosts.add(urlsplit(r.url).hostname or "") if not r.url.startswith("data:") else None)
    page.on("requestfailed", lambda r: visit.trouble.append(f"failed: {r.url}"))
    page.on("console", lambda m: visit.trouble.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: visit.trouble.append(f"exception: {e}"))
    page.on("response", lambda r: responses.append(r))
    page.goto(address + name, wait_until="load")
    page.evaluate("document.fonts.ready")
    for response in list(responses):
        if response.status >= 400:
            visit.trouble.append(f"{response.status}: {response.url}")
        visit.weight += len(gzip.compress(response.body()))

    page.set_viewport_size(PHONE)
    visit.overflow = page.evaluate(OVERFLOW)
    visit.drawings = page.evaluate(DRAWINGS)
    page.set_viewport_size(DESK)
    visit.trouble += page.evaluate(EMPTY_DRAWINGS)
    page.evaluate(axe.axe_script)

    def look(where: str, only: str | None = None) -> None:
        visit.modes.append(f"{page.evaluate(PAPER)} {where}")
        visit.violations += [f"{told} ({where})" for told in _axe(page, only)]

    look("light, desk")
    page.emulate_media(color_scheme="dark")
    if name in ("book/setup.html", "notebooks/serverless/aws-lambda.html"):
        look("dark, desk", ".contents, .outline, .top")
    page.set_viewport_size(PHONE)
    look("dark, phone")
    visit.cookies, visit.stored = context.cookies(), page.evaluate("Object.keys({...localStorage, ...sessionStorage})")
    context.close()
    return visit


EMPTY_DRAWINGS = """() => {
  const drawings = [...document.querySelectorAll("svg[aria-hidden=true]")];
  const reached = drawings.filter((s) => s.querySelector("a, [tabindex], [focusable=true]")).map((s) => "a hidden drawing takes the focus");
  drawings.forEach((s) => s.replaceChildren());
  return reached;
}"""
"""Drawings are hidden from assistive techniques, and axe looks at nothing in them but what takes the focus. Their figures keep
name and caption; without thousands of paths axe is done in half the time."""

PAPER = "getComputedStyle(document.body).backgroundColor"


AXE = """async ([only, options]) => {
  const bare = {...options, rules: {"color-contrast": {enabled: false}}};
  const found = (await axe.run(only || document, bare)).violations;
  const groups = new Map(), seen = new Map();
  const papers = (e) => {
    if (!e) return "";
    if (!seen.has(e)) {
      const s = getComputedStyle(e);
      const own = s.backgroundColor === "rgba(0, 0, 0, 0)" && s.backgroundImage === "none" && s.opacity === "1" && s.position === "static"
        ? "" : [s.backgroundColor, s.backgroundImage, s.opacity, s.position].join();
      seen.set(e, papers(e.parentElement) + own);
    }
    return seen.get(e);
  };
  const root = only ? [...document.querySelectorAll(only)] : [document.body];
  for (const e of root.flatMap((r) => [r, ...r.querySelectorAll("*")])) {
    const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.matches("input, select, textarea");
    if (!words || e.closest("svg") || !e.getClientRects().length) continue;
    const s = getComputedStyle(e);
    const key = [s.color, s.fontSize, s.fontWeight, s.textShadow, papers(e)].join("|");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(e);
  }
  const chosen = [...groups.values()].flatMap((g) => [...new Set([g[0], g[g.length >> 1], g[g.length - 1]])]);
  const contrast = await axe.run({include: chosen}, {runOnly: {type: "rule", values: ["color-contrast"]}, resultTypes: ["violations"]});
  return {violations: [...found, ...contrast.violations], contrasts: groups.size};
}"""
"""Axe with all its rules; the contrast of text, which takes it four fifths of the time, is measured on three elements of each
combination of colour, size, weight and the papers below that the page has, instead of on thousands that are alike."""


def _axe(page: Any, only: str | None = None) -> list[str]:
    result = page.evaluate(AXE, [only, {"runOnly": AXE_TAGS, "resultTypes": ["violations"]}])
    assert result["contrasts"] > 2, "no text was found"
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node.get('failureSummary', '').splitlines()[-1:]}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]
