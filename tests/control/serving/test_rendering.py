"""A Modelfile's TEMPLATE, by cases. Expected texts follow Ollama's description of its template
language."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.embedded.ollama.answer import seconds
from remote.embedded.ollama.rendering import MAX_MESSAGES, MAX_PROMPT, render
from remote.embedded.ollama.wire import Refusal

USER = [{"role": "user", "content": "hi"}]
TALK = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "how?"},
]
MESSAGES = (
    '{{ range .Messages }}{{ if eq .Role "user" }}[U]{{ .Content }}'
    '{{ else if eq .Role "assistant" }}[A]{{ .Content }}{{ end }}{{ end }}[A]'
)


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        ("{{ .Prompt }}", USER, "hi"),
        ("{{ .Prompt }}", TALK, "hihellohow?"),
        ("{{.System}}|{{.Prompt}}|{{.Response}}</s>", USER, "|hi|"),
        ("{{.System}}|{{.Prompt}}|{{.Response}}</s>", TALK, "be kind|hi|hello</s>|how?|"),
        ("{{ if .System }}S:{{ .System }}\n{{ end }}{{ .Prompt }}", TALK, "S:be kind\nhihellohow?"),
        ("a  {{- if .Prompt -}}  b  {{- end }}  c", USER, "ab  c"),
        ("{{ if and .System .Prompt }}both{{ else }}one{{ end }}", USER, "one"),
        ("{{ if or .System .Prompt }}any{{ end }}", USER, "any"),
        ('{{ if not (eq .Prompt "hi") }}no{{ else }}yes{{ end }}', USER, "yes"),
        ('{{ if ne .Prompt "x" }}{{ "lit" }}{{ end }}{{/* note */}}', USER, "lit"),
        (MESSAGES, TALK, "[U]hi[A]hello[U]how?[A]"),
        (
            "{{ range .Messages }}{{ $.System }}:{{ .Content }};{{ end }}",
            TALK,
            "be kind:be kind;be kind:hi;be kind:hello;be kind:how?;",
        ),
        ("{% raw %}{# x #} {{ .Prompt }}\n", USER, "{% raw %}{# x #} hi\n"),
        (
            "{{ .Prompt }}",
            [{"role": "user", "content": "{{ .System }} \x01{ x }\x01"}],
            "{{ .System }} \x01{ x }\x01",
        ),
    ],
)
def test_render(template: str, messages: list[dict[str, str]], expected: str) -> None:
    assert render(template, messages) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Tools }}",
        "{{ .Prompt | upper }}",
        "{{ range $i, $m := .Messages }}{{ end }}",
        "{{ if .Prompt }}",
        "{{ end }}",
        "{{ .Prompt",
        "{{ eq .Prompt }}",
        "{{ not .Prompt .System }}",
        "{{ (.Prompt }}",
        "{{ template x }}",
        "{{ }}",
        '{{ if eq .Prompt "a }}x{{ end }}',
    ],
)
def test_what_is_not_understood_is_refused(template: str) -> None:
    with pytest.raises(Refusal, match="template error"):
        render(template, USER)


CODE = "root.__class__.__init__.__globals__"


@pytest.mark.parametrize(
    "template",
    [
        f"\x01{{ {CODE} }}\x01",
        f"\x01%set x = {CODE}%\x01",
        "\x01{ cycler.__init__.__globals__.os.popen('id').read() }\x01{{ .Prompt }}",
        f'{{{{ "\x01{{ {CODE} }}\x01" }}}}',
        "\x01#{{ .Prompt }}#\x01",
        "{{ .Prompt }}\x00",
        "{{ .Prompt }}\x1b[2J",
        "{{ .Prompt }}\x7f",
        "{{ .Prompt }}\x9b",
    ],
)
def test_control_characters_are_refused_in_a_template(template: str) -> None:
    with pytest.raises(Refusal, match="control character"):
        render(template, USER)


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Prompt.__class__ }}",
        "{{ .__class__ }}",
        "{{ $.Messages.__init__ }}",
        "{{ cycler }}",
        "{{ .Prompt.format }}",
        '{{ "%s" % .Prompt }}',
        '{{ "x" * 1000000000 }}',
        "{{ range .Messages }}{{ range $.Messages }}{{ end }}{{ end }}",
        "{{ range 1000000000 }}{{ end }}",
        "{{ self }}",
        "{{ .Prompt }}{{ include x }}",
    ],
)
def test_nothing_but_the_fields_can_be_reached(template: str) -> None:
    with pytest.raises(Refusal, match="does not know"):
        render(template, USER)


@pytest.mark.parametrize(
    "template",
    ["{% for i in range(10**9) %}x{% endfor %}", "{# x #}", "\\x01{ 7*7 }\\x01", "${7*7}"],
)
def test_the_language_behind_is_only_text(template: str) -> None:
    assert render(template, USER) == template


LONG = "x" * (1 << 20)
LONGS = [{"role": "system", "content": LONG}] * 10
MANY = [{"role": "user", "content": "y"}] * MAX_MESSAGES


@pytest.mark.parametrize(
    ("template", "messages"),
    [
        ("{{ range .Messages }}" + "{{ .Content }}" * 900 + "{{ end }}", MANY),
        ("{{ range .Messages }}" + '{{ if eq .Content "z" }}{{ end }}' * 490 + "{{ end }}", MANY),
        ("{{ .System }}" * 900, [{"role": "system", "content": LONG}, *USER]),
        (
            "{{ range .Messages }}" + "{{ $.System }}" * 900 + "{{ end }}",
            [{"role": "system", "content": LONG}, *MANY[:-1]],
        ),
        (
            "{{ range .Messages }}" + "{{ if eq $.System .Content }}{{ end }}" * 400 + "{{ end }}",
            LONGS,
        ),
        ("{{ range .Messages }}" + '{{ if eq "a" "b" }}{{ end }}' * 490 + "{{ end }}", MANY),
        ("{{ range .Messages }}{{ if eq $.Messages $.Messages }}x{{ end }}{{ end }}", MANY),
        ("{{ .Messages }}" * 900, MANY),
        ("{{ .Prompt }}", MANY * 2),
        ("{{ .Prompt }}" * 999, [{"role": "assistant", "content": "z"}] * MAX_MESSAGES),
        ("{{" * 30000, USER),
        ("{{" + " " * 60000, USER),
        ("{{" + " " * 60000 + "}}", USER),
        ("{{ " + '"' * 900 + " }}", USER),
        ("{{ " + "(" * 900 + " }}", USER),
        ("{{ " + "not (" * 180 + ".Prompt" + ")" * 10 + " }}", USER),
        ("{{ if .Prompt }}" * 900 + "{{ end }}" * 900, USER),
        ("{{ if .Prompt }}a" + "{{ else if .System }}b" * 990 + "{{ end }}", USER),
        ("{{ and " + ".Prompt " * 120 + "}}", USER),
        ("x" * 70000, USER),
    ],
)
def test_no_template_takes_long_or_much(template: str, messages: list[dict[str, str]]) -> None:
    began = time.process_time()
    try:
        assert len(render(template, messages)) <= MAX_PROMPT
    except Refusal as refusal:
        assert refusal.status == 400
    assert time.process_time() - began < 10


SAID = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ROLES = st.sampled_from(["system", "user", "assistant"])
CHATS = st.lists(
    st.builds(lambda role, said: {"role": role, "content": said}, ROLES, SAID), max_size=6
)
PARTS = st.sampled_from(
    [
        "{{",
        "}}",
        "-",
        " ",
        ".Prompt",
        ".System",
        ".Response",
        ".Messages",
        "$",
        "range ",
        "if ",
        "else ",
        "end",
        "eq ",
        "and ",
        "not ",
        "(",
        ")",
        '"',
        "\\",
        "\n",
        "x",
        "\x01",
        "{%",
        "%}",
        "{#",
        "/*",
        "*/",
        "|",
        "{{ .Prompt }}",
        "{{ range .Messages }}",
        "{{ end }}",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=30).map("".join) | SAID, CHATS)
def test_any_template_is_rendered_or_refused(template: str, messages: list[dict[str, str]]) -> None:
    try:
        assert isinstance(render(template, messages), str)
    except Refusal as refusal:
        assert refusal.status == 400 and "template error" in refusal.words


@settings(max_examples=200, deadline=None)
@given(CHATS)
def test_what_is_said_stays_what_was_said(messages: list[dict[str, str]]) -> None:
    whole = render("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}", messages)
    assert whole == "".join(f"<{message['role']}>{message['content']}" for message in messages)
    texts = [message["content"] for message in messages if message["role"] != "system"]
    if [message["role"] for message in messages if message["role"] != "system"] == [
        "user",
        "assistant",
        "user",
    ]:
        assert (
            render("{{ .Prompt }}|{{ .Response }}|", messages)
            == f"{texts[0]}|{texts[1]}|{texts[2]}|"
        )


def test_a_message_that_holds_the_marks_of_the_translation() -> None:
    said = "\x00\x01{ root }\x01 {{ .System }} {% raw %}"
    talk = [
        {"role": "user", "content": said},
        {"role": "assistant", "content": said},
        {"role": "user", "content": said},
    ]
    assert render("[{{ .Prompt }}]{{ .Response }};", talk) == f"[{said}]{said};[{said}]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        (0, 0),
        ("0", 0),
        (2.5, 2.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("100ms", 0.1),
        (-1, 1e12),
        ("-1s", 1e12),
    ],
)
def test_keep_alive(given: object, expected: float | None) -> None:
    assert seconds(given) == pytest.approx(expected)


@pytest.mark.parametrize("given", ["soon", "5 m", [], {}, True, "1.2.3", "m", "1..s"])
def test_keep_alive_refused(given: object) -> None:
    with pytest.raises(Refusal, match="keep_alive"):
        seconds(given)
