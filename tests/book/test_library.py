"""The pages of the library: one for each package, made from docstrings, linked from the chapters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import harness
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from bookext import library  # noqa: E402

NOTEBOOKS = harness.PATHS

IMPORT = """
import importlib, os, sys, threading
import psutil
sys.path.insert(0, sys.argv[1])
from bookext import library
before = {thread.ident for thread in threading.enumerate()}
for package in library.packages():
    for module in library.modules(package):
        importlib.import_module(f"beyondlab.{package}.{module}")
me = psutil.Process()
assert not me.children(recursive=True), me.children(recursive=True)
assert not [c for c in me.net_connections(kind="inet")], me.net_connections(kind="inet")
assert {t.ident for t in threading.enumerate() if not t.daemon} <= before, threading.enumerate()
"""


def test_there_are_packages():
    assert library.packages()[:2] == ["kit", "sim"] and len(library.packages()) >= 12
    assert "processes" in library.modules("kit") and not any(name.startswith("_") for name in library.modules("kit"))


@pytest.mark.parametrize("package", library.packages())
def test_each_package_has_a_page(package):
    page = ROOT / "book" / "api" / f"{package}.md"
    stub = f"# beyondlab.{package}\n\nWhat it is.\n\n```{{package}} beyondlab.{package}\n```\n"
    assert page.exists() and f"{{package}} beyondlab.{package}\n" in page.read_text("utf-8"), f"write book/api/{package}.md:\n{stub}"
    assert library.docstring(package), f"src/beyondlab/{package}/__init__.py says what the package is"


def test_each_page_is_that_of_a_package():
    assert {path.stem for path in (ROOT / "book" / "api").glob("*.md")} == set(library.packages())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_chapter_links_its_package(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    linked = re.findall(r"\[`beyondlab\.(\w+)`\]\(\.\./\.\./book/api/(\w+)\.md\)", text)
    assert linked and all(one == other for one, other in linked)
    imported = set(re.findall(r"(?:from|import) beyondlab\.(\w+)", code))
    assert {one for one, _ in linked} <= imported | set(re.findall(r"\w+", " ".join(re.findall(r"from beyondlab import (.+)", code))))


@pytest.mark.parametrize("package", library.packages())
def test_a_page_shows_every_module_and_what_it_documents(package, site):
    page = BeautifulSoup((site / "book" / "api" / f"{package}.html").read_text("utf-8"), "html.parser")
    headings = [" ".join(heading.get_text().split()).rstrip(" #") for heading in page.select("main h2")]
    assert headings == library.modules(package)
    assert len(page.select("dt.sig[id]")) > 5
    for sig in page.select("dt.sig"):
        assert "0x7" not in sig.get_text() and not sig.find("dl"), sig.get_text()


def test_importing_the_library_starts_nothing():
    command = [sys.executable, "-c", IMPORT, str(ROOT / "book" / "_ext")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]


def test_types_of_the_library_are_linked_and_others_are_words(site):
    page = BeautifulSoup((site / "book" / "api" / "sim.html").read_text("utf-8"), "html.parser")
    simulate = page.find(id="beyondlab.sim.keep_alive.simulate")
    assert "beyondlab.sim.keep_alive.KeepAliveResult" in [link.get("title") for link in simulate.select("a[href]")]
    assert "ArrayLike" in simulate.get_text() and not simulate.find("a", string="ArrayLike")
