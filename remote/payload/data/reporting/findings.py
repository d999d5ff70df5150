"""What one should look at in a dataset before a model is trained on it, out of its statistics."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from remote.payload.data.reporting import dropped

BAD_SHARE = 0.02
CUT_SHARE = 0.05
_FEW_VALIDATION = 50
_ONE_ANSWER = 0.5
_FEWEST_ANSWERS = 20
_ONE_SOURCE = 0.9
_LITTLE_LEARNT = 0.02
_GOOD_CORRELATION = 0.85


@dataclass(frozen=True)
class Finding:
    """`bad`: training on it would teach or measure something wrong. `note`: worth knowing."""

    level: Literal["bad", "note"]
    what: str
    remedy: str = ""


def of(statistics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The findings, the bad ones first."""
    found = [
        *_of_rejects(statistics),
        *_of_split(statistics),
        *_of_truncation(statistics),
        *_of_content(statistics),
        *_of_noise(statistics),
    ]
    return [asdict(each) for each in sorted(found, key=lambda each: each.level != "bad")]


def _of_rejects(told: Mapping[str, Any]) -> Iterator[Finding]:
    groups = told.get("dropped") or ()
    bad = dropped.total(groups, is_bad=True)
    rows = told["train"]["rows"] + told["val"]["rows"]
    if not rows:
        yield Finding("bad", "no row can be used", "see what was set aside, and why")
    if bad:
        share = bad / (bad + rows)
        remedy = "see what was set aside, and correct or remove it at its source"
        what = f"{bad:,} of {bad + rows:,} ({share:.1%}) could not be used"
        yield Finding("bad" if share > BAD_SHARE else "note", what, remedy)


def _of_split(told: Mapping[str, Any]) -> Iterator[Finding]:
    shared, val = told["shared"], told["val"]
    if told["train"]["repeated"]:
        repeated = _count(told["train"]["repeated"], "row")
        yield Finding("note", f"{repeated} to train repeat an earlier one", "`deduplicate`")
    if shared["rows"]:
        rows = _count(shared["rows"], "row")
        yield Finding(
            "bad",
            f"{rows} to train stand in the validation set too: its loss says nothing about them",
            "`deduplicate` before the split",
        )
    if shared["groups"]:
        rows = _count(shared["groups"], "row")
        yield Finding(
            "bad", f"{rows} to train are of a group that validates", "let `prepare` split by group"
        )
    if shared["questions"] > shared["rows"]:
        rows = _count(shared["questions"] - shared["rows"], "row")
        yield Finding("note", f"{rows} to train ask what the validation set asks")
    if val["rows"] and val["rows"] < _FEW_VALIDATION:
        yield Finding("note", f"{_count(val['rows'], 'row')} to validate: any score is a rough one")


def _of_truncation(told: Mapping[str, Any]) -> Iterator[Finding]:
    estimate = told.get("estimate") or {}
    limit, side = estimate.get("max_length"), told["train"]
    cut = next((each for each in side["truncation"] if each["max_length"] == limit), None)
    sequences = side["tokens"]["count"]
    if not cut or not sequences:
        return
    if cut["cut"] > CUT_SHARE * sequences:
        yield Finding(
            "note",
            f"{cut['cut'] / sequences:.0%} are longer than {limit} tokens, and lose their end",
            "`chunk` documents; raise `max_length`, or shorten the rows",
        )
    if cut["empty"]:
        share = cut["empty"] / sequences
        yield Finding(
            "bad" if share > CUT_SHARE else "note",
            f"{share:.1%} have nothing left to learn within {limit} tokens",
            "raise `max_length`, or shorten what is asked",
        )


def _of_content(told: Mapping[str, Any]) -> Iterator[Finding]:
    side = told["train"]
    if side["contradicted"]:
        rows = _count(side["contradicted"], "row")
        yield Finding("note", f"{rows} answer a question otherwise than an earlier row does")
    if side["documents"] and side["conversations"]:
        what = f"{_count(side['documents'], 'document')} beside"
        yield Finding("note", f"{what} {_count(side['conversations'], 'conversation')}")
    if side["rows"] and side["learnt_share"] < _LITTLE_LEARNT:
        yield Finding("note", f"only {side['learnt_share']:.1%} of the text is learnt")
    answers = side["answers"]["first"]
    if side["conversations"] >= _FEWEST_ANSWERS and answers:
        share = answers[0][1] / side["conversations"]
        if share > _ONE_ANSWER:
            what = f"{share:.0%} of the answers are “{answers[0][0]}”"
            yield Finding("note", what, "`balance`, or a model learns to say it always")
    sources = side["sources"]
    if sources["names"] > 1 and sources["first"][0][1] > _ONE_SOURCE * side["rows"]:
        what = f"{sources['first'][0][1] / side['rows']:.0%} of the rows are of one source"
        yield Finding("note", f"{what}: {sources['first'][0][0] or 'without a name'}", "`balance`")


def _of_noise(told: Mapping[str, Any]) -> Iterator[Finding]:
    for pair in told["label_noise"]:
        pearson = pair["pearson"]
        if pearson is not None and pearson < _GOOD_CORRELATION:
            yield Finding(
                "note",
                f"{' and '.join(pair['sources'])} agree by r = {pearson:.2f} on"
                f" {pair['groups']:,} they both scored: no gate above that can be passed honestly",
            )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
