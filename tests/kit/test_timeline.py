import datetime
import re
import tomllib
from pathlib import Path

import harness
import pytest

from beyondlab.kit import timeline

ROOT = Path(__file__).parents[2]
GOOD = {
    "date": "2026-11-27", "event": "Something happens", "source": "https://example.org/page", "by": "somebody", "strand": "rules",
    "topics": ["knative"],
}  # fmt: skip


def test_every_event_has_date_event_source_and_topic():
    events = [*timeline.every(), *timeline.ahead()]
    assert 40 <= len(timeline.every()) <= 70
    for event in events:
        assert re.fullmatch(r"20\d\d(-\d\d(-\d\d)?)?", event.date) and event.source.startswith("https://") and event.by and event.topics


def test_the_past_is_past_and_the_announced_is_not():
    assert timeline.as_of() <= datetime.date.today()
    assert all(event.first_day <= timeline.as_of() for event in timeline.every())
    assert timeline.ahead() and all(event.first_day > timeline.as_of() for event in timeline.ahead())


def test_it_begins_in_2013_and_leaves_out_no_year():
    assert {int(event.date[:4]) for event in timeline.every()} == set(range(timeline.BEGIN, timeline.as_of().year + 1))


def test_nothing_of_the_file_is_lost_and_all_is_in_order():
    raw = tomllib.loads(Path(timeline.__file__).with_name("timeline.toml").read_text("utf-8"))["event"]
    assert sorted(entry["event"] for entry in raw) == sorted(event.event for event in [*timeline.every(), *timeline.ahead()])
    days = [event.first_day for event in timeline.every()]
    assert all(one <= other for one, other in zip(days, days[1:]))


@pytest.mark.parametrize("lacking", ["date", "event", "source", "by", "strand", "topics"])
def test_an_entry_that_lacks_something_is_refused(lacking):
    for entry in ({name: value for name, value in GOOD.items() if name != lacking}, GOOD | {lacking: type(GOOD[lacking])()}):
        with pytest.raises(ValueError, match=f"lacks {lacking}"):
            timeline.read([entry])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"date": "2012-01-01"}, "from 2013 on"), ({"date": "2026-13"}, "date='2026-13'"), ({"date": "2026-02-30"}, "date="),
        ({"date": "27 November 2026"}, "date="), ({"date": datetime.date(2026, 1, 1)}, "date="), ({"source": "http://example.org"}, "https"),
        ({"source": "https://"}, "https"), ({"strand": "clouds"}, "strand='clouds'"), ({"topics": ["docker"]}, "topics="),
        ({"event": "Ends in a stop."}, "full stop"), ({"event": "x" * 111}, "110"), ({"colour": "red"}, "unknown colour"),
    ],
)  # fmt: skip
def test_an_entry_with_something_not_allowed_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        timeline.read([GOOD | change])


def test_an_event_stands_there_once():
    with pytest.raises(ValueError, match="twice"):
        timeline.read([GOOD, GOOD | {"date": "2025"}])


def test_entries_are_sorted_a_year_before_its_days():
    dates = ["2026-01-02", "2026", "2025-12", "2026-01"]
    events = timeline.read([GOOD | {"date": date, "event": f"On {date}"} for date in dates])
    assert [event.date for event in events] == ["2025-12", "2026", "2026-01", "2026-01-02"]
    assert [event.when for event in events] == ["Dec 2025", "2026", "Jan 2026", "2 Jan 2026"]


def test_every_chapter_has_its_topic_and_every_topic_enough():
    assert {path.stem for path in harness.PATHS} <= set(timeline.TOPICS)
    for topic in timeline.TOPICS:
        assert 4 <= len(timeline.of(topic)) <= 20, topic


def test_a_chapter_shows_dates_events_and_sources():
    shown = timeline.show("knative")
    assert shown.header == ("When", "What", "Source")
    assert [row[1] for row in shown.rows] == [event.event for event in timeline.of("knative")]
    assert all(re.fullmatch(r"\[[^\]]+\]\(https://\S+\)", row[2]) for row in shown.rows)
    assert repr(timeline.show("knative")) == repr(shown)


def test_an_unknown_topic_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="topic='docker'.*knative"):
        timeline.show("docker")


def test_keys_of_references_exist_and_have_the_same_address():
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    entries = dict(re.findall(r"^@\w+\{([^,\s]+),(.*?)^\}", text, flags=re.M | re.S))
    for event in [*timeline.every(), *timeline.ahead()]:
        if event.cite:
            entry = entries[event.cite]
            url = re.search(r"^\s*url\s*=\s*\{([^}]*)\}", entry, flags=re.M)
            doi = re.search(r"^\s*doi\s*=\s*\{([^}]*)\}", entry, flags=re.M)
            assert event.source == (url[1] if url else f"https://doi.org/{doi[1]}"), event.cite


def test_the_picture_has_a_dot_for_each_event_and_its_words():
    drawn = timeline.figure()
    assert f"{len(timeline.every())} dots" in drawn.alt and "2013 Docker" in drawn.alt
    for event in timeline.every():
        if event.label:
            assert event.label.replace("&", "&amp;") in drawn.svg and event.label in drawn.alt
    assert drawn.svg == timeline.figure().svg


def test_what_the_caption_says_holds():
    begins = {strand: min(event.date[:4] for event in timeline.every() if event.strand == strand) for strand in timeline.STRANDS}
    assert max(begins[strand] for strand in ("containers", "clusters", "functions")) < "2017"
    assert "2017" == min(begins[strand] for strand in ("state", "isolation", "rules"))


@pytest.mark.parametrize("places", [[1.0, 1.0, 1.0, 5.0], [0.0, 0.1, 9.9, 10.0], [5.0] * 10, [10.0] * 4, [0.0] * 4])
def test_labels_stand_apart_and_inside(places):
    found = timeline._apart(places, 1.0, 0.0, 10.0)
    assert all(b - a > 1 - 1e-6 for a, b in zip(found, found[1:]))
    assert found[0] >= -1e-6 and found[-1] <= 10 + 1e-6


def test_too_many_labels_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        timeline._apart([1.0] * 12, 1.0, 0.0, 10.0)
