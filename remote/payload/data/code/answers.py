"""What there is to say about a module: questions, and answers that name `file:line` throughout."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from remote.payload.data.code.facts import TOP, Facts, Use, owner_of
from remote.payload.data.code.llm_calls import LlmCall

_NAMES = 12
"""So many names are listed; of more, how many there are."""


@dataclass(frozen=True)
class Answer:
    """A question about a module and its answer, with the line that it is about (0: the module)."""

    asked: str
    answer: str
    line: int = 1


@dataclass(frozen=True)
class Around:
    """A module among those that import it, or that it imports. `known` are the names of all that
    they import."""

    facts: Facts
    near: Sequence[Facts]
    known: Collection[str]

    @property
    def name(self) -> str:
        """The module's."""
        return self.facts.module.name

    def used(self, facts: Facts, module: str) -> "list[tuple[str, Use]]":
        """What `facts` uses of a module: the name within it, and where."""
        owned = ((owner_of(use.name, self.known), use) for use in facts.uses)
        return [(rest, use) for (owner, rest), use in owned if owner == module and rest]

    def imported(self, facts: Facts) -> dict[str, int]:
        """The modules of ours that `facts` imports, with the first line that does."""
        found: dict[str, int] = {}
        for each in facts.imports:
            owner = owner_of(each.name, self.known)[0]
            if owner and owner != facts.module.name:
                found[owner] = min(each.line, found.get(owner, each.line))
        return found


def call_answers(facts: Facts, calls: Sequence[LlmCall]) -> list[Answer]:
    """Which language models it asks: all in one answer, then each call by itself."""
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


def interaction_answers(around: Around) -> list[Answer]:
    """What it is for, what it imports, who imports it, and who uses each name of it."""
    found = [_what_for(around.facts), _imports(around), _importers(around)]
    return [answer for answer in found if answer] + _names(around)


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


def _imports(around: Around) -> Answer | None:
    """Which modules it imports and what for."""
    facts, ours = around.facts, around.imported(around.facts)
    if not ours:
        return None
    abouts = {other.module.name: other.about for other in around.near}
    others = sorted(
        name for name in facts.libraries if name and not any(_is_in(each, name) for each in ours)
    )
    lines = [
        f"- `{module}`{_in_brackets(abouts.get(module, ''))}, imported at"
        f" {facts.module.file}:{line}{_used(around.used(facts, module))}"
        for module, line in sorted(ours.items())
    ]
    also = f"\nFrom outside it imports {_joined(others)}." if others else ""
    return Answer(
        f"Which modules of the code base does `{around.name}` import, and what for?",
        f"`{around.name}` imports:\n" + _listed(lines) + also,
        min(ours.values()),
    )


def _importers(around: Around) -> Answer | None:
    """Which modules import it and what for."""
    lines = [
        f"- `{other.module.name}`, at {other.module.file}:{line}"
        f"{_used(around.used(other, around.name))}"
        for other in around.near
        if (line := around.imported(other).get(around.name))
    ]
    if not lines:
        return None
    return Answer(
        f"Which modules of the code base import `{around.name}`, and what for?",
        f"`{around.name}` is imported by:\n" + _listed(lines),
    )


def _names(around: Around) -> list[Answer]:
    """Who uses each function or class of the module."""
    facts, found = around.facts, dict[str, list[str]]()
    for other in around.near:
        for name, use in around.used(other, around.name):
            if name.partition(".")[0] in facts.places:
                about = _about(other, use.within)
                told = f": {about}" if about else ""
                found.setdefault(name, []).append(
                    f"- `{other.module.name}` in {_place(use.within)} {use.how} it at"
                    f" {other.module.file}:{use.line}{told}"
                )
    return [_one_name(facts, name, lines) for name, lines in sorted(found.items())]


def _one_name(facts: Facts, name: str, lines: Sequence[str]) -> Answer:
    place = facts.places.get(name) or facts.places[name.partition(".")[0]]
    about = f"\nIt is there to: {place.about}" if place.about else ""
    return Answer(
        f"Who uses `{name}` of the module `{facts.module.name}`, and what for?",
        f"`{name}`, defined at {facts.module.file}:{place.line}, is used by:\n"
        f"{_listed(lines)}{about}",
        place.line,
    )


def _about(facts: Facts, within: str) -> str:
    return facts.places[within].about if within in facts.places else ""


def _used(uses: "Sequence[tuple[str, Use]]") -> str:
    """`: f calls `load` (line 12)`, and so on."""
    told = []
    by_place = sorted(uses, key=lambda each: (each[1].within, each[1].line, each[0]))
    for within, each in groupby(by_place, key=lambda each: each[1].within):
        several = [f"{use.how} `{name}` (line {use.line})" for name, use in each]
        told.append(f"{_place(within)} {_joined(several)}")
    return f": {_joined(told, '; ')}" if told else ""


def _briefly(call: LlmCall) -> str:
    model = f" with the model {call.model}" if call.model else ""
    return f"`{call.callee}`{model}"


def _place(within: str) -> str:
    return "the module itself" if within == TOP else f"`{within}`"


def _listed(lines: Sequence[str]) -> str:
    more = len(lines) - 4 * _NAMES
    return "\n".join([*lines[: 4 * _NAMES], *([f"- and {more} more"] if more > 0 else [])])


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _is_in(module: str, first: str) -> bool:
    return module.partition(".")[0] == first


def _joined(names: Sequence[str], by: str = ", ") -> str:
    more = len(names) - _NAMES
    return by.join([*names[:_NAMES], *([f"and {more} more"] if more > 0 else [])])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
