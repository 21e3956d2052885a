"""The pages of the library: one for each package, written from its docstrings.

``{package} beyondlab.sim`` shows a package: its docstring, then a section for every public module with what is
documented there. ``{packages}`` lists all packages with the first sentence of each. Both read the package tree, so a new
module needs nothing, and a new package one page of a few lines under ``book/api/``.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.nodes import make_id
from myst_parser.mocking import MockRSTParser
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, new_document

import beyondlab

logger = logging.getLogger(__name__)

LIBRARY = Path(beyondlab.__file__).parent


def packages() -> list[str]:
    """The packages of the library, by name, the shared floors first."""
    found = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
    return sorted(found, key=lambda name: (name not in ("kit", "sim"), name))


def modules(package: str) -> list[str]:
    """The public modules of a package, by name: those that do not begin with an underscore."""
    return sorted(path.stem for path in (LIBRARY / package).glob("*.py") if not path.stem.startswith("_"))


def docstring(package: str) -> str:
    """What a package says of itself, read without importing it. Empty if it says nothing."""
    return ast.get_docstring(ast.parse((LIBRARY / package / "__init__.py").read_text("utf-8"))) or ""


def _restructured(self: SphinxDirective, text: str) -> list[nodes.Node]:
    """``text`` read as reStructuredText, the markup of docstrings, into nodes of the page that is read now."""
    held = new_document(self.state.document["source"], self.state.document.settings)
    held.reporter = self.state.document.reporter
    MockRSTParser().parse(text, held)
    for node in held.findall(nodes.Element):
        for name in node["names"]:
            self.state.document.nameids.setdefault(name, node["ids"][0] if node["ids"] else None)
    return held.children


class Package(SphinxDirective):
    """``{package} beyondlab.NAME``: the page of one package."""

    required_arguments = 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0].removeprefix("beyondlab.")
        try:
            shown = _restructured(self, docstring(name))
        except OSError as fault:
            logger.warning(str(fault), location=self.get_location(), type="library")
            return []
        for path in sorted((LIBRARY / name).glob("*.py")):
            self.env.note_dependency(str(path))
        return [*shown, *(self._module(name, module) for module in modules(name))]

    def _module(self, package: str, module: str) -> nodes.section:
        title = nodes.title("", "", nodes.literal("", module))
        section = nodes.section("", title, ids=[make_id(f"module-{module}")], names=[])
        section += _restructured(self, f".. automodule:: beyondlab.{package}.{module}\n   :members:\n")
        return section


class Packages(SphinxDirective):
    """``{packages}``: every package, linked to its page under ``api``, with its first sentence."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        lines = []
        for name in packages():
            first = docstring(name).split("\n\n")[0].replace("\n", " ")
            lines += [f"[`beyondlab.{name}`](api/{name}.md)", f": {first}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, returns: str | None) -> Any:
    """A signature as its author wrote it, not as Python resolves it: ``NDArray[np.float64]`` stays that."""
    if what not in ("function", "method", "class") or given is None:
        return None
    try:
        found = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    returned = found.return_annotation
    shown = found.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    if isinstance(returned, type):
        returned = returned.__name__
    return _words(shown), None if what == "class" or returned is inspect.Signature.empty else returned


def _words(shown: inspect.Signature) -> str:
    from sphinx.util.inspect import stringify_signature

    return stringify_signature(shown, unqualified_typehints=True)


def sections(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Sections as NumPy's docstrings have them, ``Parameters`` and the like, where a docstring has one."""
    if what in ("function", "method", "class") and any(line and set(line) == {"-"} for line in lines):
        lines[:] = NumpyDocstring(lines, Config(napoleon_use_rtype=False), app, what, name, obj, options).lines()


def annotations(app: Sphinx, doctree: nodes.document) -> None:
    """Link the types in signatures that are classes of this library, each by its full name; leave the others as words.

    What a docstring refers to by a role is not touched: that must resolve.
    """
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("refdomain") != "py" or not _in_signature(node):
            continue
        module = sys.modules.get(node.get("py:module") or "")
        try:
            found = reduce(getattr, node["reftarget"].split("."), module)
        except AttributeError:
            found = None
        ours = isinstance(found, type) and found.__module__.startswith("beyondlab.") and found.__doc__
        if ours and not any(part.startswith("_") for part in f"{found.__module__}.{found.__qualname__}".split(".")):
            node["reftarget"] = f"{found.__module__}.{found.__qualname__}"
            node["refspecific"] = False
        else:
            node.replace_self(nodes.inline("", node.astext()))


def _in_signature(node: nodes.Node) -> bool:
    while node is not None:
        if isinstance(node, addnodes.desc_signature):
            return True
        node = node.parent
    return False


def setup(app: Sphinx) -> None:
    app.add_directive("package", Package)
    app.add_directive("packages", Packages)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-process-docstring", sections)
    app.connect("doctree-read", annotations)
