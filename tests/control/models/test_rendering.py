"""A Modelfile's TEMPLATE, by cases. Expected texts follow Ollama's description of its template language."""

import pytest

from remote.control.models.embedded.answer import seconds
from remote.control.models.embedded.rendering import render
from remote.control.models.embedded.wire import Refusal

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
        ("{{ range .Messages }}{{ $.System }}:{{ .Content }};{{ end }}", TALK, "be kind:be kind;be kind:hi;be kind:hello;be kind:how?;"),
        ("{% raw %}{# x #} {{ .Prompt }}\n", USER, "{% raw %}{# x #} hi\n"),
        ("{{ .Prompt }}", [{"role": "user", "content": "{{ .System }} \x01{ x }\x01"}], "{{ .System }} \x01{ x }\x01"),
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("", None), (0, 0), ("0", 0), (2.5, 2.5), ("5m", 300), ("1h30m", 5400), ("100ms", 0.1), (-1, 1e12), ("-1s", 1e12)],
)
def test_keep_alive(given: object, expected: float | None) -> None:
    assert seconds(given) == pytest.approx(expected)


@pytest.mark.parametrize("given", ["soon", "5 m", [], {}, True, "1.2.3", "m", "1..s"])
def test_keep_alive_refused(given: object) -> None:
    with pytest.raises(Refusal, match="keep_alive"):
        seconds(given)
