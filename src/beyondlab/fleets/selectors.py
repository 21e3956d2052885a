"""Label and field selectors, in the syntax of the Kubernetes API.

Grammar: kubernetes.io "Labels and Selectors" and "Field Selectors". A selector is compiled once into a predicate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!]*)$")
_EXISTS = re.compile(r"^(?P<no>!\s*)?(?P<key>[A-Za-z0-9][\w./-]*)$")


class BadSelector(ValueError):
    """The text is not a selector."""


def labels(text: str) -> Predicate:
    """Compile a label selector: ``a=b``, ``a!=b``, ``a in (b, c)``, ``a notin (b)``, ``a``, ``!a``, joined by commas.

    ``!=`` and ``notin`` are also true where the label is missing. The empty text selects everything.
    """
    terms = [_label_term(term) for term in _split(text)]
    return lambda found: all(term(found) for term in terms)


def _split(text: str) -> list[str]:
    """At the commas that stand outside brackets."""
    return [term.strip() for term in re.split(r",(?![^()]*\))", text or "") if term.strip()]


def _label_term(term: str) -> Predicate:
    if match := _SET.match(term):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["op"] == "in":
            return lambda found: found.get(key) in values
        return lambda found: found.get(key) not in values
    if match := _EQUAL.match(term):
        key, value = match["key"], match["value"]
        if match["op"] == "!=":
            return lambda found: found.get(key) != value
        return lambda found: found.get(key) == value
    if match := _EXISTS.match(term):
        key = match["key"]
        return (lambda found: key not in found) if match["no"] else (lambda found: key in found)
    raise BadSelector(f"labelSelector={term!r}: must look like a=b, a!=b, a in (b,c), a notin (b,c), a or !a")


def fields(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Compile a field selector: ``metadata.name=web``, ``status.phase!=Running``, joined by commas.

    A field that is missing counts as the empty text, as in Kubernetes.
    """
    terms = []
    for term in _split(text):
        if not (match := _EQUAL.match(term)):
            raise BadSelector(f"fieldSelector={term!r}: must look like metadata.name=web or status.phase!=Running")
        terms.append((match["key"].split("."), match["op"] != "!=", match["value"]))
    return lambda found: all((_at(found, path) == value) == wanted for path, wanted, value in terms)


def _at(found: Any, path: list[str]) -> str:
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return "" if found is None else str(found)


def matches(selector: Mapping[str, Any] | None, found: Labels) -> bool:
    """A ``LabelSelector`` object (``matchLabels``, ``matchExpressions``). None selects nothing, an empty one everything."""
    if selector is None:
        return False
    if any(found.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    tests = {
        "In": lambda key, values: found.get(key) in values,
        "NotIn": lambda key, values: found.get(key) not in values,
        "Exists": lambda key, values: key in found,
        "DoesNotExist": lambda key, values: key not in found,
    }
    return all(
        tests[each["operator"]](each["key"], each.get("values", ())) for each in selector.get("matchExpressions") or ()
    )
