"""The pages around the chapters: their numbers come from the chapters, their times from the notebooks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import harness
import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from beyondlab.kit import recordings, timeline  # noqa: E402
from bookext import numbers, tracks  # noqa: E402
from bookext.recordings import tables  # noqa: E402

PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = {path.stem: path for path in harness.PATHS}
INTRODUCTIONS = ["foundations", "containers", "serverless", "together"]
ROLE = re.compile(r"\{(%s)\}`([^`]+)`" % "|".join(numbers.ROLES))


def roles(page: Path) -> list[tuple[str, str]]:
    return ROLE.findall(re.sub(r"\s+", " ", page.read_text("utf-8")))


def minutes() -> dict[str, int]:
    return {name: json.loads(path.read_text("utf-8"))["metadata"]["beyondlab"]["chapter"]["minutes"] for name, path in NOTEBOOKS.items()}


@pytest.mark.parametrize("name", [*INTRODUCTIONS, "conclusion"])
def test_the_numbers_of_a_page_stand_in_the_chapters(name):
    found = roles(ROOT / "book" / f"{name}.md")
    assert len(found) >= (20 if name == "conclusion" else 7)
    for role, text in found:
        assert re.search(r"\d", numbers.ROLES[role](ROOT, text)), text


@pytest.mark.parametrize("name", [*INTRODUCTIONS, "conclusion"])
def test_no_measured_number_is_written_by_hand(name):
    """A number with a unit of time or memory comes from a role, unless the sentence is about a setting (a limit, a size)."""
    text = ROLE.sub(" ", (ROOT / "book" / f"{name}.md").read_text("utf-8"))
    assert re.findall(r"\d[\d.,]* (?:ms|µs|ns|s|KiB|MiB)\b", text) == []


def test_what_the_sentences_say_of_the_numbers_holds():
    def value(text: str) -> float:
        return float(numbers.measured(text))

    assert value("microvms/gvisor: call") > 20 * value("microvms/process: call")
    assert value("microvms/gvisor: allowed") < value("microvms/process: allowed") == value("microvms/namespace: allowed")
    assert value("what-is-a-container/start_up: container") > 1.5 * value("what-is-a-container/start_up: plain process")
    assert value("aws-lambda/init_by_import: scipy.stats") > 3 * value("aws-lambda/init_by_import: nothing")
    assert value("knative/from_zero: first request, cold") > 5 * value("knative/from_zero: next request, warm")
    assert value("machine-learning/cold_start: Lambda: imports") > value("machine-learning/cold_start: Lambda: session")
    assert value("machine-learning/large_model: mapped") < value("machine-learning/large_model: read whole")
    assert value("stateful/one_operation: read, from the store") > 100 * value("stateful/one_operation: read, from memory")
    assert value("stateful/every_point: orders killed") == value("stateful/every_point: finished as they should")
    twice = [value(f"stateful/{lab}: an effect twice, without a key") for lab in ("every_point", "dbos_every_point", "objects_every_point")]
    assert len(set(twice)) == 1 and twice[0] > 0 == value("stateful/every_point: an effect twice, with a key")
    once = "event-driven/deliveries: at least once"
    assert value("event-driven/deliveries: at most once: lost") > 0 == value(f"{once}: lost") and value(f"{once}: too many") > 0
    assert value("service-mesh/retry: attempts a request, no budget") == 4 and value("service-mesh/retry: attempts a request, budget of 20 %") < 2
    assert value("service-mesh/identities: failed of 150 while TLS was switched on") == 0
    for one, other in [("ours", "published")]:
        assert numbers.ROLES[one](ROOT, "knative: Decisions in Knative") == numbers.ROLES[other](ROOT, "knative: Decisions in Knative")
        assert numbers.ROLES[one](ROOT, "knative: Strategies in KEDA") == numbers.ROLES[other](ROOT, "knative: Strategies in KEDA")


@pytest.mark.parametrize(("value", "unit", "said"), [
    (3645.2, "ms", "3.6 s"), (0.06876, "µs", "0.069 µs"), (8.0, "KiB", "8 KiB"), (17980.0, "KiB", "18 MiB"), (37440.0, "ns", "37 µs"),
    (8.66, "ms", "8.7 ms"), (272.9, "ms", "270 ms"), (1.948, "s", "1.9 s"), (231.8, "", "230"), (1.23, "", "1.2"), (7, "", "7"), (12000, "", "12,000"),
])  # fmt: skip
def test_rounding(value, unit, said):
    assert numbers.rounded(value, unit) == said


@pytest.mark.parametrize(("role", "text", "complaint"), [
    ("ours", "docker: Anything", "no notebook"), ("ours", "knative: Nothing begins so", "0 claims"), ("ours", "knative:", "claims begin"),
    ("ours", "service-mesh: Fails fast", "2 claims"), ("recorded", "knative/from_zero: nothing", "not recorded"),
    ("recorded", "nothing/at_all: x", "not recorded"), ("recorded", "stateful/every_point: every effect once, with a key", "no number"),
    ("times", "knative/from_zero: lost", "two recorded values"),
])  # fmt: skip
def test_a_number_that_no_chapter_has_is_refused(role, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        numbers.ROLES[role](ROOT, text)


def track_blocks(name: str) -> list[tuple[int, list[str]]]:
    text = (ROOT / "book" / f"{name}.md").read_text("utf-8")
    found = re.findall(r"^```\{track\}\n:limit: (\d+)\n(.*?)^```", text, flags=re.M | re.S)
    return [(int(limit), [line for line in body.splitlines() if line.strip()]) for limit, body in found]


def test_tracks_fit_into_their_hours():
    (hour, tour), (day, operator), (other, developer) = track_blocks("tracks")
    assert (hour, day, other) == (60, 420, 420)
    for limit, lines in (*track_blocks("tracks"), *track_blocks("instructors")):
        assert 0 < sum(tracks.timed(tracks.steps(lines), minutes(), limit)) <= limit
    assert {step.name for step in tracks.steps(tour)} >= {step.name for lines in (operator, developer) for step in tracks.steps(lines)}
    for lines in (operator, developer):  # "from nine o'clock [...] towards half past five": an hour and two breaks of 15 minutes
        assert 16 * 60 + 55 <= 9 * 60 + sum(tracks.timed(tracks.steps(lines), minutes(), 420)) + 90 <= 17 * 60 + 30
    assert not {step.name for step in tracks.steps(operator)} & {step.name for step in tracks.steps(developer)}


@pytest.mark.parametrize(("lines", "limit", "complaint"), [
    (["a | all"], 60, "must be"), (["a | some | what"], 60, "must be"), (["b | all | what"], 60, "no chapter"), (["b | 5 | what"], 60, "no chapter"),
    (["a | 50 | what"], 60, "a chapter of 40"), (["a | all | what", "a | 30 | what"], 60, "over the limit"),
])  # fmt: skip
def test_a_track_that_does_not_fit_is_refused(lines, limit, complaint):
    with pytest.raises(ValueError, match=complaint):
        tracks.timed(tracks.steps(lines), {"a": 40}, limit)


def test_the_built_tracks_show_the_notebooks_minutes(site: Path):
    page = BeautifulSoup((site / "book" / "tracks.html").read_text("utf-8"), "html.parser")
    tables = page.select("table")
    sums = [int(table.select("tbody tr")[-1].select("td")[-1].get_text()) for table in tables[:3]]
    parts = [[int(row.select("td")[-1].get_text()) for row in table.select("tbody tr")[:-1]] for table in tables[:3]]
    assert [sum(part) for part in parts] == sums and sums[0] <= 60
    rows = {row.select("td")[0].get_text(): row.select("td")[1].get_text() for row in tables[3].select("tbody tr")[:-1]}
    assert sorted(map(int, rows.values())) == sorted(minutes()[Path(name).stem] for name in chapters_of_the_contents())


def chapters_of_the_contents() -> list[str]:
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    return [entry["file"] for part in toc["parts"] for entry in part["chapters"] if entry["file"].startswith("notebooks/")]


def test_each_part_begins_with_its_introduction():
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    begins = [part["chapters"][0]["file"] for part in toc["parts"] if any(entry["file"].startswith("notebooks/") for entry in part["chapters"])]
    assert begins == [f"book/{name}" for name in INTRODUCTIONS]


@pytest.mark.parametrize("name", INTRODUCTIONS)
def test_an_introduction_shows_the_cards_of_its_part(name, site: Path):
    page = BeautifulSoup((site / "book" / f"{name}.html").read_text("utf-8"), "html.parser")
    part = re.search(r"\{part\} (.+)", (ROOT / "book" / f"{name}.md").read_text("utf-8"))[1].strip()
    assert {label.get_text() for label in page.select("article.card .label")} == {part}
    said = [json.loads((ROOT / f"{file}.ipynb").read_text("utf-8"))["metadata"]["beyondlab"]["chapter"]["part"] for file in chapters_of_the_contents()]
    assert len(page.select("article.card")) == said.count(part)


def test_the_timeline_is_a_picture_and_a_list(site: Path):
    page = BeautifulSoup((site / "book" / "timeline.html").read_text("utf-8"), "html.parser")
    picture = page.select_one("figure.drawing [role=img]")
    assert picture["aria-label"] == timeline.figure().alt and page.select_one("figure.drawing figcaption").get_text(strip=True)
    listed = [item.get_text() for item in page.select("main li") if item.find("strong")]
    assert len(listed) == len(timeline.every()) + len(timeline.ahead())
    linked = {link["href"] for link in page.select("main a[href^=https]")}
    assert linked == {event.source for event in (*timeline.every(), *timeline.ahead())}


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_each_chapter_shows_its_part_of_the_timeline(name):
    cells = json.loads(NOTEBOOKS[name].read_text("utf-8"))["cells"]
    place = next(i for i, cell in enumerate(cells) if cell["cell_type"] == "markdown" and "## State of the field" in "".join(cell["source"]))
    after = cells[place + 1]
    assert after["cell_type"] == "code" and f'timeline.show("{name}")' in "".join(after["source"]) and not after["metadata"].get("tags")
    shown = "".join(after["outputs"][0]["data"]["text/markdown"])
    assert shown == timeline.show(name)._repr_markdown_()


def test_no_page_points_to_an_address_that_is_not_set():
    for page in PAGES:
        assert not re.search(r"mybinder\.org|github\.com/(?:your|OWNER|example)|TODO|REPOSITORY", page.read_text("utf-8")), page.name


def test_a_recording_shows_its_single_figures_and_its_mappings():
    result = recordings.Result("two_shops", {"calls": 3, "a": {"lost": 1, "how": "K_*"}, "b": {"lost": 2, "how": "no"}, "series": [1, 2]},
                               live=False, label="")  # fmt: skip
    single, mappings = tables(result)
    assert single.rows == (("calls", "3"),)
    assert mappings.header == ("two shops", "lost", "how") and mappings.rows == (("a", "1", "K_*"), ("b", "2", "no"))
    only = tables(recordings.Result("said", {"text": {"ls": "many\nlines"}}, live=False, label=""))
    assert [shown.rows for shown in only] == [(("no single figures: the chapter shows what it found",),)]


def test_no_table_of_the_recordings_is_empty(site: Path):
    page = BeautifulSoup((site / "book" / "recordings.html").read_text("utf-8"), "html.parser")
    assert len(page.select("table")) > 40
    assert [table.get_text(" ", strip=True) for table in page.select("table") if not table.select("tbody tr")] == []


def test_references_keep_the_names_in_titles(site: Path):
    said = " ".join(BeautifulSoup((site / "book" / "references.html").read_text("utf-8"), "html.parser").get_text(" ").split())
    for name in ("gVisor: performance guide", "Choosing workflow type in Step Functions", "How do I handle Spot", "L = λW"):
        assert name in said, name
    assert not re.search(r"[$\\{}]", said)
