import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remote.embedded.teacher.server import Fault
from remote.payload.data.raft.teacher import NotAnswered, open_teacher
from remote.payload.job import StageFailed

PROJECT = Path(__file__).resolve().parents[3]
TEXT = (
    "<DOCUMENT>\nA windlass is a drum with a rope around it. Sailors raise the anchor.\n</DOCUMENT>"
)


@pytest.fixture
def teacher(endpoint, tmp_path):
    def make(**more):
        url = endpoint.url if more.get("api") == "ollama" else f"{endpoint.url}/v1"
        made = open_teacher({"url": url, "model": "teacher", **more}, tmp_path / "teacher")
        made.wait = 0.0
        return made

    return make


def completion(content, **more):
    told = {"choices": [{"message": {"content": content}, "finish_reason": "stop", **more}]}
    return json.dumps(told).encode()


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_both_apis_are_spoken(endpoint, teacher, api):
    said = json.loads(teacher(api=api).ask("Be short.", TEXT))
    assert said["items"][0]["quotes"] == ["A windlass is a drum with a rope around it."]
    asked = endpoint.asked[0]
    assert asked["messages"][0] == {"role": "system", "content": "Be short."}
    forms = {"openai": asked.get("response_format"), "ollama": asked.get("format")}
    assert forms[api] == {"openai": {"type": "json_object"}, "ollama": "json"}[api]
    assert asked["options" if api == "ollama" else "temperature"] in ({"temperature": 0}, 0)


def test_parameters_are_the_users(endpoint, teacher):
    teacher(parameters={"max_tokens": 50}, json_mode=False).ask("", TEXT)
    assert endpoint.asked[0]["max_tokens"] == 50
    assert not {"temperature", "response_format"} & set(endpoint.asked[0])


def test_an_answer_is_never_asked_for_twice(endpoint, teacher):
    first = teacher().ask("", TEXT)
    endpoint.says = "other words"
    assert teacher().ask("", TEXT) == first
    assert len(endpoint.asked) == 1
    assert teacher().ask("other", TEXT) == "other words"
    assert len(endpoint.asked) == 2


def test_a_damaged_answer_is_asked_for_anew(endpoint, teacher, tmp_path):
    first = teacher().ask("", TEXT)
    (kept,) = (tmp_path / "teacher").rglob("*.json")
    kept.write_text('{"answer": 3}')
    assert teacher().ask("", TEXT) == first and len(endpoint.asked) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(429, b"slow down", {"Retry-After": "0"}),
        Fault(500, b"oops"),
        Fault(503),
        Fault(0),
        Fault(200, b"<html>"),
        Fault(200, b"[]"),
        Fault(200, b'{"choices": []}'),
        Fault(200, b'{"choices": [{"message": 3}]}'),
        Fault(200, b'{"choices": [{"mess', {"Content-Length": "400", "Connection": "close"}),
        Fault(200, b"{" * 5000),
    ],
)
def test_what_passes_is_asked_again(endpoint, teacher, fault):
    endpoint.faults.extend([fault, fault])
    assert teacher(seconds=2).ask("", TEXT).startswith('{"items"')


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (completion(None), "is null, not text"),
        (completion(["a"]), "is a list, not text"),
        (completion("  "), "is empty"),
        (completion("a\0b"), "no text"),
        (completion("half", finish_reason="length"), "cut off"),
        (b" " * (5 << 20), "more than 4,194,304 bytes"),
    ],
)
def test_an_answer_that_is_none_fails_that_question_alone(endpoint, teacher, reply, why):
    endpoint.faults.append(Fault(200, reply))
    asked = teacher()
    with pytest.raises(NotAnswered, match=why):
        asked.ask("", TEXT)
    assert asked.ask("", TEXT)


def test_a_lone_surrogate_is_asked_for_again_and_never_kept(endpoint, teacher):
    endpoint.faults.append(Fault(200, completion("\ud800")))
    assert teacher().ask("", TEXT).startswith('{"items"')


def test_a_question_that_is_refused_fails_alone_and_says_why(endpoint, teacher):
    endpoint.faults.append(Fault(400, b'{"error": "maximum \x1b[31m context length"}'))
    with pytest.raises(NotAnswered, match=r"HTTP 400 .*maximum .*context length"):
        teacher().ask("", TEXT)


def test_thoughts_are_left_out(endpoint, teacher):
    endpoint.says = "<think>\nhm\n</think>\n\nIt is."
    assert teacher().ask("", TEXT) == "It is."


def test_one_that_never_answers_ends_the_run_and_says_what_is_kept(endpoint, teacher):
    asked = teacher(tries=3)
    asked.ask("", TEXT)
    endpoint.faults.extend([Fault(503, b"down")] * 3)
    with pytest.raises(StageFailed, match="does not answer") as caught:
        asked.ask("", "another")
    assert caught.value.why == "3 times: HTTP 503 down"
    assert caught.value.kept.startswith("1 answers") and "`./inv resume`" in caught.value.remedy


def test_nobody_there(tmp_path):
    entry = {"url": "http://127.0.0.1:9/v1", "model": "m", "tries": 2}
    made = open_teacher(entry, tmp_path)
    made.wait = 0.0
    with pytest.raises(StageFailed, match="does not answer"):
        made.ask("", "a")


@pytest.mark.parametrize(("model", "path", "status"), [("none", "/v1", 404), ("teacher", "", 404)])
def test_a_wrong_address_or_model_ends_the_run_at_once(endpoint, tmp_path, model, path, status):
    made = open_teacher({"url": endpoint.url + path, "model": model}, tmp_path)
    with pytest.raises(StageFailed, match=f"HTTP {status}") as caught:
        made.ask("", TEXT)
    assert "`/v1`" in caught.value.remedy and len(endpoint.asked) == 1


def test_a_redirect_is_not_followed(endpoint, teacher):
    endpoint.faults.append(Fault(307, b"", {"Location": f"{endpoint.url}/elsewhere"}))
    with pytest.raises(StageFailed, match="HTTP 307"):
        teacher().ask("", TEXT)
    assert len(endpoint.asked) == 1


KEY = "sk-very-secret-1"


def test_the_key_comes_from_its_variable_and_is_shown_nowhere(
    endpoint, teacher, monkeypatch, tmp_path, capsys
):
    endpoint.key = KEY
    monkeypatch.setenv("TEACHER_API_KEY", f"{KEY}\n")
    asked = teacher(key="TEACHER_API_KEY")
    assert asked.ask("", TEXT)
    assert KEY not in repr(asked)
    endpoint.says = f"your key is {KEY}"
    with pytest.raises(NotAnswered) as caught:
        asked.ask("", "tell me")
    assert KEY not in str(caught.value)
    endpoint.key = "another"
    with pytest.raises(StageFailed, match="HTTP 401") as refused:
        asked.ask("", "more")
    assert KEY not in refused.value.why and "wrong key: Bearer ***" in refused.value.why
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept and KEY not in capsys.readouterr().out


def test_a_variable_that_is_empty_is_named_with_the_remedy(teacher, monkeypatch):
    monkeypatch.delenv("TEACHER_API_KEY", raising=False)
    with pytest.raises(StageFailed, match="the variable TEACHER_API_KEY is empty") as caught:
        teacher(key="TEACHER_API_KEY")
    assert "add TEACHER_API_KEY to `secrets:`" in caught.value.remedy


def test_a_key_in_the_recipe_is_refused_and_not_repeated(teacher):
    with pytest.raises(StageFailed, match="is the NAME of a variable") as caught:
        teacher(key=KEY)
    assert KEY not in f"{caught.value.what}{caught.value.why}{caught.value.remedy}"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"url": "ftp://a/b"}, "`url` is no address"),
        ({"url": "https://me:pass@a/v1"}, "without a password"),
        ({"url": "http://[::1"}, "`url` is no address"),
        ({"url": ""}, "`url` is missing"),
        ({"model": None}, "`model` is missing"),
        ({"api": "grpc"}, "not openai or ollama"),
        ({"tries": 0}, "`tries` from 1 to 20"),
        ({"seconds": "long"}, "`seconds` is 'long'"),
        ({"sekonds": 3}, "`sekonds` is no setting"),
        ({"url": "http://192.0.2.1/v1", "key": "TEACHER_API_KEY"}, "use https"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, monkeypatch, change, why):
    monkeypatch.setenv("TEACHER_API_KEY", KEY)
    entry = {"url": "https://192.0.2.1/v1", "model": "m", **change}
    with pytest.raises(StageFailed) as caught:
        open_teacher(entry, tmp_path)
    assert why in caught.value.what and "pass@" not in caught.value.what


def test_the_stand_in_runs_as_a_process(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-m", "remote.embedded.teacher.serve"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={**os.environ, "TEACHER_KEY": ""},
    )
    try:
        url = server.stdout.readline().strip()
        entry = {"url": url, "model": "teacher", "api": "ollama"}
        assert "windlass" in open_teacher(entry, tmp_path).ask("", TEXT)
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()
