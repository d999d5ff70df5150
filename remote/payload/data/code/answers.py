"""What there is to say about a module: questions, and answers that name `file:line` throughout."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from remote.payload.data.code.facts import TOP, Facts, Use
from remote.payload.data.code.llm_calls import LlmCall, calls_of

_NAMES = 12
"""So many names are listed; of more, how many there are."""


@dataclass(frozen=True)
class Answer:
    """A question about a module and its answer, with the line that it is about (0: the module)."""

    asked: str
    answer: str
    line: int = 1


def call_answers(facts: Facts) -> list[Answer]:
    """Which language models it asks: all in one answer, then each call by itself."""
    calls = calls_of(facts)
    if not calls:
        return []
    name, file = facts.module.name, facts.module.file
    lines = [
        f"- {file}:{call.line}: {_place(call.within)} calls {_briefly(call)}" for call in calls
    ]
    listed = Answer(
        f"Which calls of language models does the module `{name}` make, and where?",
        f"`{name}` makes {_counted(len(calls), 'such call')}:\n" + "\n".join(lines),
        calls[0].line,
    )
    return [listed, *(_one_call(facts, call) for call in calls)]


def interaction_answers(facts: Facts, near: Sequence[Facts]) -> list[Answer]:
    """What it imports, who imports it, and who uses each name of it, with what for."""
    abouts = {
        (other.module.name, each.name): each.about for other in near for each in other.definitions
    }
    abouts |= {(other.module.name, ""): other.about for other in near}
    found = [_what_for(facts), _imports(facts, abouts), _importers(facts, near)]
    return [answer for answer in found if answer] + _names(facts, near)


def _one_call(facts: Facts, call: LlmCall) -> Answer:
    file, name = facts.module.file, facts.module.name
    about = facts.places[call.within].about if call.within in facts.places else ""
    parameters = "\n".join(f"- {each}: {text}" for each, text in call.parameters)
    parts = [
        f"{_place(call.within)} calls `{call.callee}` at {file}:{call.line}.",
        f"What it does: {about}" if about else "",
        f"Model: {call.model}" if call.model else "The call itself names no model.",
        f"Prompt:\n{call.prompt}" if call.prompt else "The call itself holds no prompt.",
        f"Parameters:\n{parameters}" if parameters else "It sets no parameters.",
    ]
    return Answer(
        f"In the module `{name}`, what does {_place(call.within)} ask a language model at line"
        f" {call.line}: which model, with which prompt and parameters?",
        "\n".join(part for part in parts if part),
        call.line,
    )


def _what_for(facts: Facts) -> Answer | None:
    """What the module is for, where it says so itself."""
    name, file = facts.module.name, facts.module.file
    if not facts.about:
        return None
    public = [
        f"- {each.kind} `{each.name}` ({file}:{each.line})"
        + (f": {each.about}" if each.about else "")
        for each in facts.definitions
        if not any(part.startswith("_") for part in each.name.split(".")) and "." not in each.name
    ]
    listed = "\nIt defines:\n" + _listed(public) if public else ""
    return Answer(
        f"What is the module `{name}` for, and what does it define?",
        f"{facts.about} ({file}:1){listed}",
    )


def _imports(facts: Facts, abouts: "dict[tuple[str, str], str]") -> Answer | None:
    """Which modules it imports and what for."""
    ours = [each for each in facts.imports if each.is_ours]
    others = sorted({each.module for each in facts.imports if not each.is_ours})
    if not ours:
        return None
    lines = []
    for module in sorted({each.module for each in ours}):
        line = min(each.line for each in ours if each.module == module)
        uses = [use for use in facts.uses if use.module == module]
        about = abouts.get((module, ""), "")
        told = f" ({about})" if about else ""
        lines.append(f"- `{module}`{told}, imported at {facts.module.file}:{line}{_used(uses)}")
    also = f"\nFrom outside it imports {_joined(others)}." if others else ""
    return Answer(
        f"Which modules of the code base does `{facts.module.name}` import, and what for?",
        f"`{facts.module.name}` imports:\n" + _listed(lines) + also,
        min(each.line for each in ours),
    )


def _importers(facts: Facts, near: Iterable[Facts]) -> Answer | None:
    """Which modules import it and what for."""
    name = facts.module.name
    lines = []
    for other in near:
        imports = [each for each in other.imports if each.is_ours and each.module == name]
        if imports:
            uses = [use for use in other.uses if use.module == name]
            line = imports[0].line
            lines.append(f"- `{other.module.name}`, at {other.module.file}:{line}{_used(uses)}")
    if not lines:
        return None
    return Answer(
        f"Which modules of the code base import `{name}`, and what for?",
        f"`{name}` is imported by:\n" + _listed(lines),
    )


def _names(facts: Facts, near: Iterable[Facts]) -> list[Answer]:
    """Who uses each function or class of the module."""
    found: dict[str, list[str]] = {}
    for other in near:
        for use in other.uses:
            if use.module == facts.module.name and use.name.partition(".")[0] in facts.places:
                who = f"`{other.module.name}` in {_place(use.within)}"
                about = _about(other, use.within)
                told = f": {about}" if about else ""
                found.setdefault(use.name, []).append(
                    f"- {who} {use.how} it at {other.module.file}:{use.line}{told}"
                )
    answers = []
    for name, lines in sorted(found.items()):
        place = facts.places.get(name) or facts.places[name.partition(".")[0]]
        about = f" It is there to: {place.about}" if place.about else ""
        answers.append(
            Answer(
                f"Who uses `{name}` of the module `{facts.module.name}`, and what for?",
                f"`{name}`, defined at {facts.module.file}:{place.line}, is used by:\n"
                + _listed(lines)
                + (f"\n{about.strip()}" if about else ""),
                place.line,
            )
        )
    return answers


def _about(facts: Facts, within: str) -> str:
    return facts.places[within].about if within in facts.places else ""


def _used(uses: Sequence[Use]) -> str:
    """`: f calls `load` (line 12)`, and so on."""
    told = []
    for within, each in groupby(
        sorted(uses, key=lambda use: (use.within, use.line, use.name)), key=lambda use: use.within
    ):
        several = [f"{use.how} `{use.name}` (line {use.line})" for use in each]
        told.append(f"{_place(within)} {_joined(several)}")
    return f": {'; '.join(told[:_NAMES])}" if told else ""


def _briefly(call: LlmCall) -> str:
    model = f" with the model {call.model}" if call.model else ""
    return f"`{call.callee}`{model}"


def _place(within: str) -> str:
    return "the module itself" if within == TOP else f"`{within}`"


def _listed(lines: Sequence[str]) -> str:
    more = len(lines) - 4 * _NAMES
    return "\n".join([*lines[: 4 * _NAMES], *([f"- and {more} more"] if more > 0 else [])])


def _joined(names: Sequence[str]) -> str:
    more = len(names) - _NAMES
    return ", ".join([*names[:_NAMES], *([f"and {more} more"] if more > 0 else [])])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
