"""The report page, and what hostile rows make of it. The expected page lies in `report/`; with
WINDLASS_UPDATE_GOLDENS it is written anew."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract.artifacts.rows import Row
from remote.contract.job.exits import Exit
from remote.payload.data import doctor
from remote.payload.data.reporting import examine, report
from remote.payload.data.reporting.dropped import Dropped
from remote.payload.data.reporting.statistics import Statistics
from remote.payload.data.reporting.text import escaped
from remote.payload.data.units import Origin, Reject

GOLDEN = Path(__file__).parent / "report"


class Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = set(), set(), [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "h3",
    "p",
    "div",
    "b",
    "span",
    "ul",
    "li",
    "br",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "details",
    "summary",
    "pre",
    "svg",
    "g",
    "text",
    "rect",
    "line",
    "circle",
}


def check(page):
    """That nothing is on the page but what is ours."""
    found = Page(page.replace("<br>", "<br/>"))
    assert found.open == []
    assert found.tags <= TAGS
    assert not {name for name in found.attributes if name.startswith("on")}
    assert not found.attributes & {"src", "href", "style", "xlink:href", "action", "srcdoc"}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    return found


def page_of(train, val=(), rejects=(), **more):
    found, dropped = Statistics(), Dropped()
    for name, rows in (("val", val), ("train", train)):
        for row in rows:
            found.add(name, row)
    for reject in rejects:
        dropped.note(reject)
    told = {**found.to_json(), "dropped": dropped.to_json(), **more}
    return report.page(examine.concluded(told, {}))


def test_the_page_of_the_golden_rows(tmp_path):
    made = tmp_path / "report.html"
    doctor.main(
        [
            str(GOLDEN / "train.jsonl"),
            "--val",
            str(GOLDEN / "val.jsonl"),
            "--html",
            str(made),
            "--max-length",
            "64",
            "--tokens-per-second",
            "800",
            "--hourly-usd",
            "1.2",
        ]
    )
    page = made.read_text()
    if os.environ.get("WINDLASS_UPDATE_GOLDENS"):
        (GOLDEN / "report.html").write_text(page)
    assert page == (GOLDEN / "report.html").read_text()
    check(page)


def test_every_section_is_there():
    rows = [
        Row.of(f"q {number}", f"0.{number:02}", group=str(number), source=source)
        for number in range(20)
        for source in ("one", "two")
    ]
    page = page_of(
        rows,
        rows[:2],
        [Reject("not JSON", Origin("a.jsonl", 3), "read", "{")],
        steps=[{"step": "read", "rows": 43, "dropped": {"read": 1}}],
        recipe_sources=[{"type": "corpus", "where": "a", "units": 1, "read": 43, "kept": 42}],
        files={"train.jsonl": {"bytes": 5, "sha256": "0" * 64}},
        about="42 rows",
        title="golden",
    )
    found = check(page)
    for title in (
        "What to look at",
        "From sources to rows",
        "Sources",
        "Lengths",
        "Truncation",
        "Rows",
        "What was set aside",
        "On both sides of the split",
        "Label noise",
        "Training on it",
        "Files",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "a.jsonl:3: not JSON" in found.text


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></pre><svg onload=alert(1)>",
    "'--><!--",
    "]]>",
    "{policy} {0} {body} %s $x",
    "\x00\x1b[31m\u202eevil\u2066",
    "\ud800",
    "&lt;&amp;",
]


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_is_only_text(evil):
    rows = [Row.of(evil, f"0.5 {evil}", group=f"{evil}{number}", source=evil) for number in "abc"]
    rows += [
        Row.of(evil, evil[:30], group=f"{evil}{number}", source=f"{evil}2") for number in "abc"
    ]
    reject = Reject(evil, Origin(evil, 1), evil, evil)
    page = page_of(
        [*rows, Row(text=evil * 3, source=evil)],
        rows[:1],
        [reject],
        title=evil,
        about=evil,
        steps=[{"step": evil, "rows": 1, "dropped": {evil: 1}}],
        recipe_sources=[{"type": evil, "where": evil, "units": 1, "read": 1, "kept": 1}],
        files={evil: {"bytes": 1, "sha256": evil}},
    )
    check(page)
    page.encode()


@given(st.text())
def test_any_text_is_escaped(text):
    found = escaped(text)
    assert not set(found) & set("<>\"'")
    found.encode()


def test_the_policy_allows_the_one_style_sheet_alone():
    page = page_of([Row.of("q", "a")])
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def write(path, *rows):
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def test_doctor_tells_what_is_wrong(tmp_path, capsys):
    rows = [{"question": f"q {number}", "answer": f"a {number}"} for number in range(9)]
    file = write(tmp_path / "rows.jsonl", *rows, "{broken")
    assert doctor.main([str(file), "--json"]) == Exit.DATA
    assert json.loads(capsys.readouterr().out)["train"]["rows"] == 0
    columns = "instruction=question,output=answer"
    assert doctor.main([str(file), "--json", "--columns", columns]) == Exit.DATA
    told = json.loads(capsys.readouterr().out)
    assert told["train"]["rows"] == 9
    assert [(each["rows"], each["is_bad"]) for each in told["dropped"]] == [(1, True)]
    assert told["findings"][0]["what"].startswith("1 of 10 (10.0%) could not be used")


def test_doctor_of_a_good_file_a_folder_and_none(tmp_path, capsys):
    rows = [{"instruction": f"q {number}", "output": f"a {number}"} for number in range(9)]
    write(tmp_path / "rows.jsonl", *rows)
    assert doctor.main([str(tmp_path / "rows.jsonl")]) == Exit.OK
    assert doctor.main([str(tmp_path)]) == Exit.OK
    assert capsys.readouterr().out.startswith("9 rows, 0 set aside")
    assert doctor.main([str(tmp_path / "none.jsonl")]) == Exit.DATA
    (tmp_path / "empty").mkdir()
    assert doctor.main([str(tmp_path / "empty")]) == Exit.DATA
    assert "no file with rows" in capsys.readouterr().err
    assert doctor.main([str(tmp_path / "rows.jsonl"), "--columns", "nothing"]) == Exit.DATA


def test_doctor_prints_nothing_that_a_terminal_obeys(tmp_path, capsys):
    rows = [{"instruction": f"q {number}", "output": "\x1b[2Jyes"} for number in range(30)]
    doctor.main([str(write(tmp_path / "rows.jsonl", *rows))])
    out = capsys.readouterr().out
    assert "yes" in out and "\x1b" not in out


def test_a_file_of_another_kind_is_set_aside_and_the_rest_goes_on(tmp_path, capsys):
    write(tmp_path / "rows.jsonl", {"instruction": "q", "output": "a"})
    (tmp_path / "a.csv").write_bytes(b"%PDF-1.7 \x00\x01")
    doctor.main([str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["train"]["rows"] == 1
    assert [each["reason"] for each in told["dropped"]] == ["is a PDF"]
