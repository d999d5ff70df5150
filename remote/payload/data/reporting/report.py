"""The data report: statistics of a dataset as one HTML page that needs nothing beside it.

All text out of rows is escaped; the page has no script and no address of anything outside, and its
Content-Security-Policy allows none. The same statistics give the same page. Standard library only.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from remote.payload.data.reporting import svg
from remote.payload.data.reporting.style import STYLE
from remote.payload.data.reporting.svg import Bar
from remote.payload.data.reporting.text import escaped, short

SIDES = ("train", "val")
_BARS = 15
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""

Told = Mapping[str, Any]


def page(told: Told) -> str:
    """The page of what `statistics.json` holds: `Statistics.to_json`, and as far as they are there
    `title`, `about`, `steps`, `recipe_sources`, `dropped`, `estimate`, `findings`, `files`."""
    title = told.get("title") or "A dataset"
    parts = (
        _head(told, title),
        _findings(told),
        _steps(told),
        _sources(told),
        _lengths(told),
        _truncation(told),
        _turns(told),
        _names(told, "languages", "Languages"),
        _dropped(told),
        _split(told),
        _noise(told),
        _estimate(told),
        _files(told),
    )
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _PAGE.format(
        policy=policy,
        title=escaped(f"{short(title, 80)}: data report"),
        style=STYLE,
        body="\n".join(part for part in parts if part),
    )


def _head(told: Told, title: str) -> str:
    train, val = (told[name] for name in SIDES)
    groups = told.get("dropped") or ()
    bad = sum(each["rows"] for each in groups if each["is_bad"])
    needless = sum(each["rows"] for each in groups) - bad
    tokens = _scaled(train, train["tokens"]["total"]) + _scaled(val, val["tokens"]["total"])
    is_about = told["tokenizer"]["is_estimate"] or train["tokenized"] < train["rows"]
    tiles = (
        ("rows to train", _number(train["rows"])),
        ("rows to validate", _number(val["rows"])),
        ("groups", _number(train["groups"] + val["groups"])),
        ("tokens", f"{'about ' if is_about else ''}{_round(tokens) if is_about else tokens:,}"),
        ("unusable", _number(bad)),
        ("repeated or not needed", _number(needless)),
    )
    shown = "".join(
        f'<div class="tile"><b>{escaped(value)}</b>{escaped(name)}</div>' for name, value in tiles
    )
    about = f'<p class="soft">{escaped(told["about"])}</p>' if told.get("about") else ""
    return f'<h1>{escaped(short(title, 120))}</h1>{about}<div class="tiles">{shown}</div>'


def _findings(told: Told) -> str:
    if "findings" not in told:
        return ""
    found = told["findings"]
    if not found:
        return "<h2>What to look at</h2><p>Nothing stands out.</p>"
    items = "".join(
        f'<li class="{"bad" if each["level"] == "bad" else "note"}">{escaped(each["what"])}'
        + (f'<br><span class="soft">{escaped(each["remedy"])}</span>' if each["remedy"] else "")
        + "</li>"
        for each in found
    )
    return f'<h2>What to look at</h2><ul class="findings">{items}</ul>'


def _steps(told: Told) -> str:
    steps = told.get("steps")
    if not steps:
        return ""
    drawn = svg.bars(
        "Rows after each step",
        [Bar(each["step"], each["rows"], _number(each["rows"])) for each in steps],
    )
    rows = [
        (each["step"], each["rows"], ", ".join(_of_step(*item) for item in each["dropped"].items()))
        for each in steps
    ]
    return "<h2>From sources to rows</h2>" + drawn + _table(("step", "#rows", "set aside"), rows)


def _of_step(step: str, count: int) -> str:
    return f"{count:,} by {step}"


def _sources(told: Told) -> str:
    given = told.get("recipe_sources") or ()
    rows = [
        (each["type"], each["where"], each["units"], each["read"], each["kept"]) for each in given
    ]
    head = ("source", "where", "#units", "#rows read", "#rows kept")
    table = _table(head, rows) if rows else ""
    return _names(told, "sources", "Sources", table)


def _names(told: Told, what: str, title: str, more: str = "") -> str:
    """How often each name of a kind is in train and val."""
    sides = [told[name][what] or {"first": [], "names": 0, "rest": 0} for name in SIDES]
    counts = [dict(side["first"]) for side in sides]
    names = list(dict.fromkeys(name for each in counts for name in each))
    is_telling = any(names) or what != "sources"
    if not (names and is_telling):
        return f"<h2>{escaped(title)}</h2>{more}" if more else ""
    totals = {name: sum(each.get(name, 0) for each in counts) for name in names}
    first = sorted(names, key=lambda name: -totals[name])[:_BARS]
    whole = sum(totals.values()) + sum(side["rest"] for side in sides)
    drawn = svg.bars(
        title,
        [
            Bar(
                name or "without a name",
                totals[name],
                f"{totals[name]:,} ({_of(totals[name], whole)})",
            )
            for name in first
        ],
    )
    others = max(side["names"] for side in sides) - len(first)
    note = f'<p class="soft">and {others:,} more</p>' if others > 0 else ""
    note += '<p class="soft">of a sample of the rows</p>' if _is_sample(told, what, whole) else ""
    return f"<h2>{escaped(title)}</h2>{more}{drawn}{note}"


def _is_sample(told: Told, what: str, whole: int) -> bool:
    return what == "languages" and whole < sum(told[name]["rows"] for name in SIDES)


def _lengths(told: Told) -> str:
    marks = [each["max_length"] for each in told["train"]["truncation"]]
    sides = [name for name in SIDES if told[name]["rows"]]
    key = '<p><span class="key">train</span><span class="key two">val</span></p>'
    parts = ["<h2>Lengths</h2>", key if len(sides) > 1 else ""]
    titles = {
        "tokens": f"Tokens a sequence, {told['tokenizer']['how']}",
        "characters": "Characters a row",
    }
    for what, title in titles.items():
        series = [told[name][what]["histogram"] for name in sides]
        drawn = svg.histogram(title, series, marks if what == "tokens" else ())
        rows = [
            (name, *(told[name][what].get(key, "") for key in _COLUMNS))
            for name in SIDES
            if told[name][what]["count"]
        ]
        head = ("", *(f"#{_COLUMNS[key]}" for key in _COLUMNS))
        parts.append(f"<h3>{escaped(title)}</h3>{drawn}{_table(head, rows)}")
    return "".join(parts)


_COLUMNS = {
    "min": "shortest",
    "p25": "25 %",
    "p50": "median",
    "p75": "75 %",
    "p95": "95 %",
    "p99": "99 %",
    "max": "longest",
    "mean": "mean",
}


def _truncation(told: Told) -> str:
    rows, drawn = [], []
    for name in SIDES:
        side = told[name]
        sequences, tokens = side["tokens"]["count"], side["tokens"]["total"]
        for each in side["truncation"] if sequences else ():
            cut, lost = each["cut"], each["lost_tokens"]
            learnt = each["lost_learnt_tokens"]
            rows.append(
                (
                    name,
                    each["max_length"],
                    f"{cut:,} ({_of(cut, sequences)})",
                    f"{lost:,} ({_of(lost, tokens)})",
                    f"{learnt:,} ({_of(learnt, side['learnt_tokens'])})",
                    each["empty"],
                )
            )
            if name == "train":
                share = 100 * cut / sequences
                label = f"cut at {each['max_length']:,} tokens"
                drawn.append(Bar(label, share, _of(cut, sequences), "bad"))
    if not rows:
        return ""
    head = (
        "",
        "#max_length",
        "#sequences cut",
        "#tokens lost",
        "#of those to learn",
        "#nothing left to learn",
    )
    counted = told["train"]["tokenized"]
    sample = (
        f'<p class="soft">of a sample of {counted:,} rows</p>'
        if counted < told["train"]["rows"]
        else ""
    )
    chart = svg.bars("Share of the sequences that are cut", drawn) if drawn else ""
    return f"<h2>Truncation</h2>{chart}{_table(head, rows)}{sample}"


def _turns(told: Told) -> str:
    sides = [told[name] for name in SIDES]
    facts = (
        ("conversations", "conversations"),
        ("documents, learnt whole", "documents"),
        ("with a system message", "with_system"),
        ("repeat an earlier row", "repeated"),
        ("answer a question otherwise than an earlier row", "contradicted"),
        ("with a weight of their own", "unequal_weights"),
    )
    rows = [(name, *(side[key] for side in sides)) for name, key in facts]
    learnt = [_of(side["learnt_share"], 1) for side in sides]
    rows.append(("share of the text that is learnt", *learnt))
    turns = told["train"]["turns"]
    drawn = ""
    if len(turns) > 1:
        first = turns[:_BARS]
        drawn = "<h3>Messages a conversation</h3>" + svg.bars(
            "Messages a conversation",
            [Bar(f"{number} messages", count, _number(count)) for number, count in first],
        )
    return f"<h2>Rows</h2>{_table(('', '#train', '#val'), rows)}{drawn}{_answers(told)}"


def _answers(told: Told) -> str:
    """The most frequent short answers, where some are frequent."""
    side = told["train"]
    first = [each for each in side["answers"]["first"][:_BARS] if each[1] > 1]
    if not first or first[0][1] < 0.01 * side["conversations"]:
        return ""
    drawn = svg.bars(
        "The most frequent answers",
        [
            Bar(name, count, f"{count:,} ({_of(count, side['conversations'])})")
            for name, count in first
        ],
    )
    return f"<h3>The most frequent answers</h3>{drawn}"


def _dropped(told: Told) -> str:
    groups = told.get("dropped")
    if groups is None:
        return ""
    if not groups:
        return "<h2>What was set aside</h2><p>Nothing.</p>"
    drawn = svg.bars(
        "What was set aside",
        [
            Bar(
                f"{each['step']}: {each['reason']}",
                each["rows"],
                _number(each["rows"]),
                "bad" if each["is_bad"] else "soft",
            )
            for each in groups[:_BARS]
        ],
        label=330,
    )
    return "<h2>What was set aside</h2>" + drawn + "".join(map(_group, groups))


def _group(group: Told) -> str:
    samples = "".join(
        f'<p class="soft">{escaped(each["where"])}: {escaped(each["reason"])}</p>'
        + (f'<pre dir="auto">{escaped(each["sample"])}</pre>' if each["sample"] else "")
        for each in group["samples"]
    )
    what = "unusable" if group["is_bad"] else "not needed"
    return (
        f"<details><summary>{escaped(group['step'])}: {escaped(group['reason'])}"
        f' <span class="soft">({group["rows"]:,}, {what})</span></summary>{samples}</details>'
    )


def _split(told: Told) -> str:
    shared = told["shared"]
    if not told["val"]["rows"]:
        return ""
    rows = [
        ("the same row (but for case and white space)", shared["rows"]),
        ("the same question", shared["questions"]),
        ("the same group", shared["groups"]),
    ]
    samples = "".join(
        f'<p class="soft">train, line {each["line"]:,}</p><pre dir="auto">'
        f"{escaped(each['sample'])}</pre>"
        for each in shared["samples"]
    )
    head = ("rows to train that have in val", "#rows")
    return f"<h2>On both sides of the split</h2>{_table(head, rows)}{samples}"


def _noise(told: Told) -> str:
    pairs = told["label_noise"]
    if not pairs:
        return ""
    rows = [
        (
            " and ".join(each["sources"]),
            each["groups"],
            _maybe(each["pearson"], "{:.3f}"),
            _maybe(each["spearman"], "{:.3f}"),
            f"{each['mean_difference']:.3f}",
        )
        for each in pairs
    ]
    drawn = "".join(
        svg.scatter(f"Scores of {' and '.join(each['sources'])}", each["points"], each["sources"])
        for each in pairs[:3]
    )
    head = ("scored by both", "#groups", "#Pearson’s r", "#Spearman’s ρ", "#mean difference")
    note = "How far two teachers agree is the ceiling of any gate on a model that learns from them."
    return f"<h2>Label noise</h2><p>{note}</p>{_table(head, rows)}{drawn}"


def _estimate(told: Told) -> str:
    found = told.get("estimate")
    if not found:
        return ""
    rows = [
        ("sequences", found["sequences"]),
        ("optimizer steps", found["steps"]),
        ("tokens", found["tokens"]),
        ("hours", _maybe(found["hours"], "{:,.3g}", "no speed is known")),
        ("US dollars", _maybe(found["usd"], "{:,.2f}", "no speed or no price is known")),
    ]
    figures = ", ".join(
        f"{name} {found[name]}"
        for name in (
            "max_length",
            "batch",
            "accumulation",
            "epochs",
            "max_steps",
            "overlong",
            "tokens_per_second",
            "hourly_usd",
        )
        if found[name] is not None
    )
    assumed = [name for name in found["assumed"] if found[name] is not None]
    note = f"; of the golden recipe, as none was given: {', '.join(assumed)}" if assumed else ""
    return (
        f"<h2>Training on it</h2>{_table(('estimate', '#'), rows)}"
        f'<p class="soft">by {escaped(figures + note)}</p>'
    )


def _files(told: Told) -> str:
    files = told.get("files") or {}
    rows = [(name, each["bytes"], each["sha256"]) for name, each in files.items()]
    return f"<h2>Files</h2>{_table(('file', '#bytes', 'SHA-256'), rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; columns whose name begins with `#` are of numbers."""
    styles = [' class="n"' if name.startswith("#") else "" for name in head]
    names = "".join(
        f"<th{style}>{escaped(name.removeprefix('#'))}</th>"
        for name, style in zip(head, styles, strict=True)
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f"<td{style}>{escaped(_number(cell))}</td>"
            for cell, style in zip(row, styles, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _maybe(value: float | None, form: str, otherwise: str = "–") -> str:
    return otherwise if value is None else form.format(value)


def _of(part: float, whole: float) -> str:
    share = part / whole if whole else 0.0
    return f"{share:.1%}" if not part or share >= 0.001 else "< 0.1%"


def _scaled(side: Told, counted: int) -> int:
    return round(counted * side["rows"] / side["tokenized"]) if side["tokenized"] else 0


def _round(number: int) -> int:
    """To two digits."""
    digits = max(len(str(number)) - 2, 0)
    return round(number, -digits)
