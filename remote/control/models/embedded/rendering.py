"""Turns a chat into the prompt that the model reads.

By default with the GGUF's own Jinja template, as Ollama does from 0.30 on. A Modelfile's TEMPLATE is written in Go's template
language; the part of it that Modelfiles use is translated to Jinja: fields, `if`/`else if`/`else`/`end`, `range .Messages`,
`eq`, `ne`, `and`, `or`, `not`. Anything else is refused by name rather than rendered wrong.
"""

import re
from collections.abc import Sequence

from jinja2 import Environment, TemplateError

from remote.control.models.embedded.engine import Runner
from remote.control.models.embedded.wire import Refusal

Message = dict[str, str]

PLAIN = "{{ .Prompt }}"
"""Ollama's template for a model that brings none."""

_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|\$?\.\w+|\(|\)|\w+|\S)')
_FIELD = re.compile(r"(\$?)\.(Messages|System|Prompt|Response|Role|Content)")
# Delimiters that no prompt holds: Go's text may hold Jinja's.
_JINJA = Environment(
    block_start_string="\x01%", block_end_string="%\x01", variable_start_string="\x01{", variable_end_string="}\x01",
    comment_start_string="\x01#", comment_end_string="#\x01", keep_trailing_newline=True, autoescape=False,  # noqa: S701  (no HTML)
)  # fmt: skip
_ANSWER = "\x00"


async def prompt_of(runner: Runner, messages: Sequence[Message], template: str) -> str:
    """The prompt of a chat by `template` (Go's language), or by the GGUF's own when that is empty."""
    if template or not runner.stored.gguf.chat_template:
        return render(template or PLAIN, messages)
    reply = await runner.ask("/apply-template", {"messages": list(messages)})
    return str(reply["prompt"])


def render(template: str, messages: Sequence[Message]) -> str:
    """A chat by a Modelfile's TEMPLATE, up to where the answer begins. Raises Refusal 400 for what is not understood."""
    source = _jinja(template)
    try:
        compiled = _JINJA.from_string(source)
        if ".Messages" in template:
            listed = [{"Role": message["role"], "Content": message["content"]} for message in messages]
            system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
            return compiled.render(root={"Messages": listed, "System": system, "Response": ""})
        turns = [compiled.render(root={"Response": _ANSWER, **turn}) for turn in _turns(messages)]
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
    except TemplateError as error:
        raise Refusal(400, f"template error: {error}") from error
    return _joined(turns, answers, ".Response" in template)


def check(template: str) -> None:
    """Refuse a template that could not be rendered later."""
    render(template, [{"role": "user", "content": "x"}])


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """System and user text up to each answer, and after the last one."""
    turns = [{"System": "", "Prompt": ""}]
    for message in messages:
        field = {"system": "System", "user": "Prompt"}.get(message["role"])
        if field:
            turns[-1][field] = "\n\n".join(filter(None, (turns[-1][field], message["content"])))
        elif message["role"] == "assistant":
            turns.append({"System": "", "Prompt": ""})
    return turns


def _joined(turns: list[str], answers: list[str], has_place: bool) -> str:
    """Each turn with its answer in its place; the last one ends where its answer would begin."""
    if not has_place:
        turns = [turn + _ANSWER for turn in turns]
    filled = [turn.replace(_ANSWER, answer) for turn, answer in zip(turns, answers, strict=False)]
    return "".join([*filled, turns[-1].partition(_ANSWER)[0]])


def _jinja(template: str) -> str:
    open_blocks: list[str] = []

    def action(found: re.Match[str]) -> str:
        before, inside, after = found.groups()
        kind, text = _translated(inside, open_blocks)
        return f"\x01{kind}{before} {text} {after}{'}' if kind == '{' else kind}\x01"

    translated = _ACTION.sub(action, template)
    if open_blocks or "{{" in translated:
        raise Refusal(400, "template error: an action is not closed")
    return translated


def _translated(action: str, open_blocks: list[str]) -> tuple[str, str]:
    """One action as Jinja's kind of tag and its text; keeps count of the open blocks."""
    word, _, rest = action.partition(" ")
    in_range = "for" in open_blocks
    if action.startswith("/*"):
        return "#", ""
    if action == "end" and open_blocks:
        return "%", f"end{open_blocks.pop()}"
    if word == "else" and open_blocks:
        return "%", f"elif {_expression(rest[3:], in_range)}" if rest.startswith("if ") else "else"
    if word == "if":
        open_blocks.append("if")
        return "%", f"if {_expression(rest, in_range)}"
    if word == "range" and rest.strip() in (".Messages", "$.Messages") and not in_range:
        open_blocks.append("for")
        return "%", "for dot in root.Messages"
    return "{", _expression(action, in_range)


def _expression(text: str, in_range: bool) -> str:
    tokens = _TOKEN.findall(text)
    value = _call(tokens, in_range, text)
    if tokens:
        raise _unknown(text)
    return value


def _call(tokens: list[str], in_range: bool, text: str) -> str:
    """A function with its operands, or a single operand, taken off the front of `tokens`."""
    if not tokens or tokens[0] not in ("eq", "ne", "and", "or", "not"):
        return _operand(tokens, in_range, text)
    function, operands = tokens.pop(0), []
    while tokens and tokens[0] != ")":
        operands.append(_operand(tokens, in_range, text))
    if function == "not" and len(operands) == 1:
        return f"(not {operands[0]})"
    if len(operands) < 2 or (function in ("eq", "ne", "not") and len(operands) != 2) or function == "not":
        raise _unknown(text)
    sign = {"eq": "==", "ne": "!="}.get(function, function)
    return f"({f' {sign} '.join(operands)})"


def _operand(tokens: list[str], in_range: bool, text: str) -> str:
    word = tokens.pop(0) if tokens else ""
    if word == "(":
        inner = _call(tokens, in_range, text)
        if not tokens or tokens.pop(0) != ")":
            raise _unknown(text)
        return inner
    if found := _FIELD.fullmatch(word):
        return f"{'dot' if in_range and not found[1] else 'root'}.{found[2]}"
    if word.startswith('"') and len(word) > 1:
        return word
    raise _unknown(text)


def _unknown(text: str) -> Refusal:
    return Refusal(400, f"template error: the embedded Ollama does not know {{{{ {text} }}}}; leave TEMPLATE out to use the GGUF's own")
