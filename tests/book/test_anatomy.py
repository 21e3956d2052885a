"""Every chapter has the eleven parts, the sizes, the exercises and the sources that CONTRIBUTING.md asks for."""

from __future__ import annotations

import io
import json
import re
import statistics
import tokenize
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import harness
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = harness.PATHS
PARTS = [
    "At a glance", "Predict", "Build it", "Run the real thing", "Model it at scale", "Decide", "State of the field",
    "Exercises", "Reflect and summary", "References",
]  # fmt: skip
EXERCISE = {"exercise", "solution", "check"}
VERBS = set(
    "analyse apply argue assess build calculate check choose compare compute configure connect decide deploy derive describe design "
    "detect diagnose distinguish drive estimate evaluate explain expose find fit follow identify implement judge make map measure "
    "model name observe operate plan predict price prove put read reason recognise record replay reproduce route run say scale "
    "secure set show simulate size state survive tell test time trace tune use verify weigh write".split()
)


def cells(path: Path) -> list[dict[str, Any]]:
    return load(path)["cells"]


@cache
def load(path: Path) -> dict[str, Any]:
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        cell["text"] = "".join(cell["source"])
        cell["tags"] = set(cell["metadata"].get("tags", ()))
    return notebook


def outside_fences(text: str) -> str:
    return re.sub(r"^(`{3,}|:{3,})[^\n]*\n.*?^\1[ \t]*$", lambda m: m[0] if m[1][0] == ":" else "", text, flags=re.M | re.S)


def headings(path: Path) -> list[tuple[int, str]]:
    found = []
    for cell in cells(path):
        if cell["cell_type"] == "markdown":
            found += [(len(marks), title.strip()) for marks, title in re.findall(r"^(#{1,6}) (.+)$", outside_fences(cell["text"]), flags=re.M)]
    return found


def parts(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Part -> its cells. A Markdown cell that holds several parts is split."""
    found: dict[str, list[dict[str, Any]]] = {"": []}
    part = ""
    for cell in cells(path):
        if cell["cell_type"] != "markdown":
            found[part].append(cell)
            continue
        for piece in re.split(r"(?m)^(?=## )", cell["text"]):
            if title := re.match(r"## (.+)", piece):
                part = title[1].strip()
                found.setdefault(part, [])
            found[part].append({**cell, "text": piece})
    return found


def prose(text: str) -> str:
    """Markdown without what is not words: fences of code, formulas, citations, addresses, marks."""
    text = re.sub(r"^```(?!\{(?:note|tip|admonition|warning|important))[^\n]*\n.*?^```", " ", text, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$", " ", text, flags=re.S)
    text = re.sub(r"\{cite(?::\w+)?\}`[^`]*`|`[^`\n]*`|\]\([^)]*\)|<[^>\n]+>|https?://\S+", " ", text)
    return re.sub(r"^:::+.*$|^:\w+:.*$", " ", text, flags=re.M)


def words(text: str) -> int:
    return len(re.findall(r"[A-Za-zÀ-ÿ0-9][\w’'.,-]*", prose(text)))


def code(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def own(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in code(path) if not cell["tags"] & EXERCISE]


def lines(cell: dict[str, Any]) -> int:
    return sum(bool(line.strip()) for line in cell["text"].splitlines())


def shown(cell: dict[str, Any]) -> str:
    return "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in cell.get("outputs", ()))


def table_rows(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.strip().strip("|").split("|")] for line in text.splitlines() if line.strip().startswith("|")]


@cache
def bibliography() -> dict[str, str]:
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    return {key: entry for key, entry in re.findall(r"^@\w+\{([^,\s]+),(.*?)^\}", text, flags=re.M | re.S)}


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_is_a_chapter_and_each_one_of_the_contents_exists():
    import yaml

    assert NOTEBOOKS
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    for name in [toc["root"], *(entry["file"] for part in toc["parts"] for entry in part["chapters"])]:
        assert any((ROOT / f"{name}{suffix}").is_file() for suffix in (".md", ".ipynb")), name


@each
def test_the_eleven_parts_in_order(path):
    found = headings(path)
    assert [level for level, _ in found].count(1) == 1 and found[0][0] == 1
    assert [title for level, title in found if level == 2] == PARTS


@each
def test_no_level_of_heading_is_skipped(path):
    levels = [level for level, _ in headings(path)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


@each
def test_the_claim_comes_first(path):
    first = cells(path)[0]["text"]
    assert re.search(r"^# .+\n+(?:> \*\*Claim\.\*\*|:::\{admonition\} Claim)", first), "the title is followed by the claim"
    assert "?" in parts(path)[""][0]["text"], "the claim raises a question"


@each
def test_at_a_glance_says_time_needs_and_objectives(path):
    text = parts(path)["At a glance"][0]["text"]
    for what in ("Time to learn", "Prerequisites", "Needs"):
        assert re.search(rf"\*\*{what}\W", text), what
    assert re.search(r"\b\d+ (?:minutes|hours?)", text)
    bullets = re.findall(r"^\s*[-*] (?!\*\*)(.+)$", text, flags=re.M)
    assert 3 <= len(bullets) <= 5, bullets
    assert [b for b in bullets if re.match(r"\w+", b)[0].lower() not in VERBS] == [], "an objective starts with a verb"


@each
def test_the_cover_finds_what_it_needs(path):
    chapter = load(path)["metadata"]["beyondlab"]["chapter"]
    for key in ("part", "claim", "question", "answer", "needs"):
        assert isinstance(chapter[key], str) and chapter[key].strip(), key
    assert isinstance(chapter["minutes"], int) and 20 <= chapter["minutes"] <= 180
    assert chapter["question"].endswith("?") and re.search(r"\d", chapter["answer"]), "the answer has a number"
    assert len(chapter["answer"]) <= 260
    assert str(chapter["minutes"]) in parts(path)["At a glance"][0]["text"], "cover and chapter give the same time"


@each
def test_sizes_of_code(path):
    own_cells = own(path)
    assert 15 <= len(own_cells) <= 30, f"{len(own_cells)} code cells without exercises"
    assert len(code(path)) <= 60
    assert statistics.median(map(lines, own_cells)) < 8
    assert [cell["text"][:60] for cell in code(path) if lines(cell) > 30] == []


@each
def test_sizes_of_text(path):
    pieces = parts(path)
    counts = {part: sum(words(cell["text"]) for cell in held if cell["cell_type"] == "markdown") for part, held in pieces.items()}
    core = sum(count for part, count in counts.items() if part not in ("Exercises", "References"))
    assert 1_300 <= core <= 3_200, f"{core} words without exercises and references"
    assert sum(counts.values()) <= 4_000


@each
def test_every_cell_was_executed_without_an_error(path):
    for cell in code(path):
        assert cell["text"].strip()
        assert cell["execution_count"] is not None, cell["text"][:60]
        for output in cell["outputs"]:
            assert output["output_type"] != "error", cell["text"][:60]
            assert output.get("name") != "stderr", (cell["text"][:60], "".join(output["text"])[:200])


@each
def test_what_varies_is_asserted_at_once(path):
    found = code(path)
    for cell, after in zip(found, [*found[1:], None]):
        if "nbval-ignore-output" in cell["tags"]:
            own_words = re.search(r"^\s*assert ", cell["text"], flags=re.M)
            next_words = after and "nbval-ignore-output" not in after["tags"] and re.search(r"^\s*assert ", after["text"], flags=re.M)
            assert own_words or next_words, cell["text"][:60]


@each
def test_every_lab_varies(path):
    assert any("lab" in cell["tags"] for cell in code(path))
    assert [cell["text"][:60] for cell in code(path) if "lab" in cell["tags"] and "nbval-ignore-output" not in cell["tags"]] == []


@each
def test_exercises_have_starter_check_and_solution(path):
    held = [cell for cell in parts(path)["Exercises"] if cell["cell_type"] == "code"]
    groups: list[list[dict[str, Any]]] = []
    for cell in held:
        if "exercise" in cell["tags"] and (not groups or "solution" in groups[-1][-1]["tags"]):
            groups.append([])
        assert groups, "a solution without a starter cell"
        groups[-1].append(cell)
    assert len(groups) >= 4
    titles = [line for cell in parts(path)["Exercises"] for line in re.findall(r"^### .+$", cell["text"], flags=re.M)]
    assert len(titles) == len(groups) == len(set(titles))
    for group in groups:
        *before, solution = group
        assert before and solution["tags"] >= {"solution", "hide-cell"}, group[0]["text"][:60]
        assert any("check" in cell["text"] for cell in before), group[0]["text"][:60]
        assert "check" in solution["text"] and "assert" in solution["text"], "a solution passes its own check"
        said = "".join("".join(o.get("text", "")) for cell in before for o in cell["outputs"])
        assert said.strip(), "the check tells a learner what is missing"
    for cell in code(path):
        if cell["tags"] & EXERCISE:
            assert any(cell["text"] == other["text"] for other in held), "exercises stand under Exercises"


@each
def test_the_claims_are_held_against_what_is_published(path):
    rows = [row for cell in parts(path)["Model it at scale"] for row in table_rows(cell["text"] + "\n" + shown(cell))]
    heads = [[cell.lower() for cell in row] for row in rows]
    places = [i for i, row in enumerate(heads)
              if len(row) >= 4 and all(any(name in cell for cell in row) for name in ("claim", "published", "ours", "ratio"))]
    assert places, "a table with the columns claim, published, ours, ratio"
    ratio = next(i for i, cell in enumerate(heads[places[-1]]) if "ratio" in cell)
    below = [row for row in rows[places[-1] + 2 :] if len(row) == len(rows[places[-1]])]
    assert len(below) >= 2 and all(re.match(r"[~≈]?\d|[–—-]", row[ratio]) for row in below), below


@each
def test_citations_resolve(path):
    cited = {key.strip() for cell in cells(path) if cell["cell_type"] == "markdown"
             for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", cell["text"]) for key in keys.split(",")}
    assert len(cited) >= 3
    assert cited - bibliography().keys() == set()
    text = "".join(cell["text"] for cell in parts(path)["References"])
    assert "{bibliography}" in text and "docname in docnames" in text
    assert re.search(r"\{cite", "".join(cell["text"] for cell in parts(path)["State of the field"]))


@each
def test_pictures_say_what_they_show(path):
    found = 0
    for cell in code(path):
        for output in cell["outputs"]:
            if any(kind.startswith("image/") for kind in output.get("data", {})):
                found += 1
                assert output["metadata"].get("alt") and output["metadata"].get("caption"), cell["text"][:60]
                assert "".join(output["data"]["text/plain"]) == output["metadata"]["alt"]
    assert found >= 2


@each
def test_figures_are_accompanied_by_an_asserted_number(path):
    found = code(path)
    for cell, after in zip(found, [*found[1:], None]):
        if any("image/svg+xml" in output.get("data", {}) for output in cell["outputs"]):
            near = cell["text"] + "\n" + (after["text"] if after else "")
            assert re.search(r"^\s*assert ", near, flags=re.M), cell["text"][:60]


@each
def test_explanation_stands_in_markdown_not_in_comments(path):
    comments = total = 0
    for cell in own(path):
        total += lines(cell)
        tokens = tokenize.generate_tokens(io.StringIO(cell["text"]).readline)
        here = sum(token.type == tokenize.COMMENT for token in tokens)
        comments += here
        assert here <= max(2, lines(cell) // 4), cell["text"][:60]
    assert comments <= total / 10


@each
def test_cells_have_short_ids_and_no_timing(path):
    for cell in cells(path):
        assert cell.get("id"), "nbformat 4.5 has ids"
        assert "execution" not in cell["metadata"]


def test_every_reference_has_an_address():
    assert bibliography()
    for key, entry in bibliography().items():
        assert re.search(r"^\s*(?:url|doi)\s*=\s*[{\"]\S", entry, flags=re.M | re.I), key
        assert re.search(r"^\s*year\s*=", entry, flags=re.M | re.I), key


def texts() -> list[tuple[str, str]]:
    pages = [path for path in (*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md")) if not path.name.startswith(".")]
    found = [(str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in pages]
    for path in NOTEBOOKS:
        text = "\n\n".join(cell["text"] for cell in cells(path) if cell["cell_type"] == "markdown")
        found.append((str(path.relative_to(ROOT)), text))
    return found


def test_terms_are_spelled_as_the_field_spells_them():
    terms = tomllib.loads((Path(__file__).parent / "terms.toml").read_text("utf-8"))["term"]
    faults = []
    for name, text in texts():
        text = prose(re.sub(r"^```.*?^```", " ", text, flags=re.M | re.S))
        for term in terms:
            here = text
            for fine in term.get("allow", ()):
                here = here.replace(fine, " ")
            for match in re.finditer(term["wrong"], here):
                faults.append(f"{name}: …{here[max(0, match.start() - 25) : match.end() + 15]!r}… write: {term['right']}")
    assert faults == []


@pytest.mark.parametrize(("wrong", "fine"), [
    ("a micro-VM boots", "a microVM boots"), ("on kubernetes", "on Kubernetes"), ("a cold-start costs", "a cold start costs"),
    ("an auto-scaler", "an autoscaler"), ("server-less", "serverless"), ("takes 5ms", "takes 5 ms"), ("behavior", "behaviour"),
    ("Snapstart", "SnapStart"), ("KNative", "Knative"), ("cloud events", "CloudEvents"),
])  # fmt: skip
def test_the_table_of_terms_can_fail(wrong, fine):
    terms = tomllib.loads((Path(__file__).parent / "terms.toml").read_text("utf-8"))["term"]
    assert any(re.search(term["wrong"], wrong) for term in terms)
    assert not any(re.search(term["wrong"], fine) for term in terms)
