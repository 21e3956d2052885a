"""Link the first use of each term of the glossary in a notebook's text: ``python tools/terms.py NOTEBOOK...``

Text is paragraphs and lists of the chapter. Not text are the head of the chapter (title, claim, question, answer),
headings, tables, quotations, code, formulas, links, roles, addresses, and the solutions of exercises. What shall stay
without a link stands in ``book/unlinked.toml``, with its reason. Run again, it changes nothing. ``--check`` only says
what is missing.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_ROLE = re.compile(r"\{term\}`([^`<]+?)(?:\s*<([^>`]+)>)?`")
_NOT_WORDS = re.compile(
    r"\{[\w:+-]+\}`[^`]*`|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|https?://\S+", flags=re.S
)
_HEAD = re.compile(r"\A# .*?(?=^## |\Z)", flags=re.M | re.S)
_BLOCK = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[ \t]*$|^[ \t]*(?:#{1,6} |\||>|:::|:\w+:)[^\n]*$|^\$\$.*?\$\$", flags=re.M | re.S)


@cache
def glossary() -> tuple[str, ...]:
    """The terms of the glossary, as it writes them."""
    text = (ROOT / "book" / "glossary.md").read_text("utf-8")
    body = re.search(r"^:::+\{glossary\}\n(.*?)^:::", text, flags=re.M | re.S)[1]
    return tuple(line.strip() for line in body.splitlines() if line and not line.startswith(" "))


@cache
def unlinked() -> tuple[dict[str, str], ...]:
    """Terms that a chapter does not link: ``chapter`` (or "*"), ``term``, ``reason``, and perhaps ``words``."""
    return tuple(tomllib.loads((ROOT / "book" / "unlinked.toml").read_text("utf-8")).get("unlinked", ()))


def forms(term: str) -> re.Pattern[str]:
    """What counts as a use of a term: its words, a capital at a sentence's beginning, the plural."""
    words = [re.escape(word) for word in term.split()]
    last = words[-1]
    if term[-1] == "y" and term[-2] not in "aeiou":
        words[-1] = f"(?:{last}|{last[:-1]}ies)"
    elif term[-1] in "sx":
        words[-1] = f"{last}(?:es)?"
    else:
        words[-1] = f"{last}s?"
    if term[0].islower():
        words[0] = f"[{term[0]}{term[0].upper()}]" + words[0][1:] if not words[0].startswith("(?:") else (
            "(?:" + "|".join(f"[{term[0]}{term[0].upper()}]{part[1:]}" for part in words[0][3:-1].split("|")) + ")")
    return re.compile(r"(?<![\w/.@-])" + r"[ \n]".join(words) + r"(?![\w/@]|-\w|\.\w|'s\b|’s\b)")


def blank(text: str, pattern: re.Pattern[str]) -> str:
    """``text`` with what ``pattern`` finds replaced by as many dots."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", "\0", match[0]), text)


def words_of(text: str, chapter: str) -> str:
    """The text of a cell as it is searched: everything that is no text is blanked, place for place."""
    for block in (_HEAD, _BLOCK, _NOT_WORDS):
        text = blank(text, block)
    for entry in unlinked():
        if entry["chapter"] in (chapter, "*") and "words" in entry:
            text = blank(text, re.compile(re.escape(entry["words"]).replace(r"\ ", r"\s")))
    return text


def left_out(chapter: str) -> set[str]:
    """The terms that ``chapter`` does not link at all."""
    return {entry["term"] for entry in unlinked() if entry["chapter"] in (chapter, "*") and "words" not in entry}


def readable(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The cells of text, without solutions."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and "solution" not in cell["metadata"].get("tags", ()):
            yield cell


def missing(notebook: dict[str, Any], chapter: str) -> list[tuple[str, dict[str, Any], re.Match[str]]]:
    """Each term whose first use is no link: the term, the cell, the place in its text."""
    found = []
    cells = [(cell, "".join(cell["source"])) for cell in readable(notebook)]
    skipped = left_out(chapter)
    taken: dict[int, list[tuple[int, int]]] = {}
    for term in sorted(glossary(), key=len, reverse=True):
        if term in skipped:
            continue
        pattern = forms(term)
        for number, (cell, text) in enumerate(cells):
            links = [match.start() for match in _ROLE.finditer(text) if (match[2] or match[1]).strip() == term]
            uses = [match for match in pattern.finditer(words_of(text, chapter))
                    if not any(start < match.end() and match.start() < end for start, end in taken.get(number, ()))]
            if uses and (not links or uses[0].start() < links[0]):
                found.append((term, cell, uses[0]))
                taken.setdefault(number, []).append(uses[0].span())
            if uses or links:
                break
    return found


def link(notebook: dict[str, Any], chapter: str) -> list[str]:
    """Link what is missing, in place. What was linked, with the words around it."""
    told = []
    while found := missing(notebook, chapter):
        last: dict[int, tuple[str, dict[str, Any], re.Match[str]]] = {}
        for term, cell, use in found:  # the last use of each cell first, so that places hold
            if id(cell) not in last or use.start() > last[id(cell)][2].start():
                last[id(cell)] = (term, cell, use)
        for term, cell, use in last.values():
            text = "".join(cell["source"])
            words = " ".join(text[use.start() : use.end()].split())
            role = f"{{term}}`{words}`" if words == term else f"{{term}}`{words} <{term}>`"
            around = " ".join(text[max(0, use.start() - 40) : use.end() + 30].split())
            cell["source"] = (text[: use.start()] + role + text[use.end() :]).splitlines(keepends=True)
            told.append(f"{term}: …{around}…")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    lacking = 0
    for path in arguments.paths:
        before = path.read_text("utf-8")
        notebook = json.loads(before)
        told = link(notebook, path.stem)
        lacking += len(told)
        after = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if not arguments.check and told:
            path.write_text(after, "utf-8")
        print(f"{path}: {len(told)} first uses {'without a link' if arguments.check else 'linked'}", *told, sep="\n  ")
    return 1 if arguments.check and lacking else 0


if __name__ == "__main__":
    sys.exit(main())
