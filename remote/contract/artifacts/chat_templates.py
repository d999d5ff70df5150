"""Chat templates for base models that bring none: a base model was never taught a chat, so its
makers ship no template with it."""

MISTRAL_V3 = """\
{%- set turns = messages -%}
{%- set system = none -%}
{%- if turns and turns[0].role == 'system' -%}
{%- set system = turns[0].content -%}
{%- set turns = turns[1:] -%}
{%- endif -%}
{{- bos_token -}}
{%- for turn in turns -%}
{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}
{{- raise_exception('roles must alternate: user, assistant, user, ...') -}}
{%- endif -%}
{%- if turn.role == 'user' and loop.last and system is not none -%}
{{- '[INST] ' + system + '\\n\\n' + turn.content + '[/INST]' -}}
{%- elif turn.role == 'user' -%}
{{- '[INST] ' + turn.content + '[/INST]' -}}
{%- elif turn.role == 'assistant' -%}
{{- ' ' + turn.content + eos_token -}}
{%- else -%}
{{- raise_exception('only user and assistant may speak after the system message') -}}
{%- endif -%}
{%- endfor -%}
"""
"""Mistral's instruct format of v3. The system message goes before the last user message, as
mistral-common has it."""

BUILT_IN = {"mistral-v3": MISTRAL_V3}
"""By the name that a recipe gives as `base.chat_template`."""

MAX_CHARACTERS = 64 * 1024

WITHOUT = frozenset({"mistralai/Mistral-7B-v0.1", "mistralai/Mistral-7B-v0.3"})
"""Base models on the hub of which it is known that their tokenizer has no chat template."""


def is_text(value: str) -> bool:
    """Whether it is a template itself, and no name of one."""
    return "{{" in value or "{%" in value


def text_of(value: str) -> str:
    """The template behind a recipe's `base.chat_template`, a name of a built-in one or the text
    itself. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("expected text")
    if value in BUILT_IN:
        return BUILT_IN[value]
    if not is_text(value):
        raise ValueError(f"expected {', '.join(BUILT_IN)}, or a Jinja template")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"{len(value):,} characters; at most {MAX_CHARACTERS:,}")
    return value


def answer_in(whole: str, asked: str, question: str, answer: str, end: str) -> str:
    """An assistant's last words as a template writes them (Mistral's puts a space first), with the
    end of sequence: out of the `whole` conversation and the prompt of it that was `asked`.

    A template may write the prompt otherwise once the answer follows: Mistral's leaves the system
    message out. What stands behind the question is the answer all the same.
    """
    if whole.startswith(asked):
        words = whole[len(asked) :]
    else:
        _, found, words = whole.rpartition(asked[asked.rfind(question) :])
        words = words if found else answer
    return words.removesuffix(end) + end
