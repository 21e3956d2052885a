"""The built book, served on this machine, and a real browser that has read every page of it."""

from __future__ import annotations

import functools
import gzip
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of the book, built with warnings as errors outside the working tree."""
    out = tmp_path_factory.mktemp("book")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--path-output", str(out), "-W", "-n", "--keep-going"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if run.returncode:
        told = [line for line in (run.stdout + run.stderr).splitlines() if "WARNING" in line or "ERROR" in line or "Error" in line]
        pytest.fail("the book does not build without warnings:\n" + "\n".join(told or run.stderr.splitlines()[-20:]), pytrace=False)
    return out / "_build" / "html"


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless browser, else skip; with CI=true its absence is a failure."""
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
    mode: str
    hosts: set[str] = field(default_factory=set)
    trouble: list[str] = field(default_factory=list)
    weight: int = 0
    violations: list[str] = field(default_factory=list)
    overflow: list[Any] = field(default_factory=list)
    drawings: list[dict[str, Any]] = field(default_factory=list)
    cookies: list[Any] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def visits(browser: Any, address: str, pages: list[str]) -> list[Visit]:
    """Every page, opened in light and in dark, at a desk and on a phone."""
    from axe_playwright_python.sync_playwright import Axe

    axe, found = Axe(), []
    for mode in ("light", "dark"):
        for name in (page for page in pages if page != "index.html"):
            context = browser.new_context(viewport=DESK, color_scheme=mode)
            page, visit, responses = context.new_page(), Visit(name, mode), []
            page.on("request", lambda r, v=visit: v.hosts.add(urlsplit(r.url).hostname or "") if not r.url.startswith("data:") else None)
            page.on("requestfailed", lambda r, v=visit: v.trouble.append(f"failed: {r.url}"))
            page.on("console", lambda m, v=visit: v.trouble.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda e, v=visit: v.trouble.append(f"exception: {e}"))
            page.on("response", lambda r, seen=responses: seen.append(r))
            page.goto(address + name, wait_until="load")
            page.evaluate("document.fonts.ready")
            for response in list(responses):
                if response.status >= 400:
                    visit.trouble.append(f"{response.status}: {response.url}")
                visit.weight += len(gzip.compress(response.body()))
            visit.violations = _axe(axe, page)
            page.set_viewport_size(PHONE)
            if mode == "light":
                visit.overflow = page.evaluate(OVERFLOW)
                visit.drawings = page.evaluate(DRAWINGS)
            else:
                visit.violations += [f"{told} (phone)" for told in _axe(axe, page)]
            visit.cookies, visit.stored = context.cookies(), page.evaluate("Object.keys({...localStorage, ...sessionStorage})")
            context.close()
            found.append(visit)
    return found


def _axe(axe: Any, page: Any) -> list[str]:
    result = axe.run(page, options={"runOnly": AXE_TAGS, "resultTypes": ["violations"]}).response
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node.get('failureSummary', '').splitlines()[-1:]}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]
