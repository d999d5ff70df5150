"""A look at somebody's file, and the same rows in a file of ours."""

import gzip
import json

import pytest

from remote.payload.data import convert
from remote.payload.data.files import look

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
SHARED = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
ALPACA = {"instruction": "a", "input": "", "output": "b"}
FILES = {
    "chat.jsonl": json.dumps(CHAT),
    "sharegpt.json": json.dumps([SHARED]),
    "alpaca.jsonl": json.dumps(ALPACA),
    "completion.jsonl": json.dumps({"prompt": "a", "completion": " b"}),
    "faq.csv": "instruction;output\na;b\n",
}


def asked(path, **more):
    return look.asked({"path": str(path), **more})


@pytest.mark.parametrize(
    ("name", "kind", "format_"),
    [
        ("chat.jsonl", "chat", "json lines"),
        ("sharegpt.json", "chat", "json"),
        ("alpaca.jsonl", "instruction", "json lines"),
        ("completion.jsonl", "completion", "json lines"),
        ("faq.csv", "instruction", "csv"),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_each_kind_is_found_out_and_means_the_same_row(tmp_path, name, kind, format_, is_packed):
    content = FILES[name].encode()
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    path.write_bytes(gzip.compress(content) if is_packed else content)
    told = asked(path)
    assert (told["kind"], told["format"], told["fits"]) == (kind, format_, [kind])
    assert told["packing"] == ("gzip" if is_packed else "")
    assert told["rows"][0]["row"]["messages"] == CHAT["messages"]
    assert look.sentence(told).startswith(path.name)


def test_text_is_a_document(tmp_path):
    (tmp_path / "a.md").write_text("# A\n")
    told = asked(tmp_path)
    assert (told["kind"], told["files"], told["rows"][0]["row"]["text"]) == ("text", 1, "# A\n")


def test_other_kinds_that_would_fit_are_named(tmp_path):
    path = tmp_path / "both.jsonl"
    path.write_text(json.dumps({**ALPACA, "text": "c"}))
    assert asked(path)["kind"] == "instruction"
    assert asked(path)["fits"] == ["instruction", "text"]
    assert asked(path, kind="text")["rows"][0]["row"]["text"] == "c"
    (bad,) = asked(path, kind="chat")["bad"]
    assert bad["reason"] == "is no `chat` row; what would fit: `instruction`, `text`"


def test_columns_under_other_names(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_text("question,answer\na,b\n")
    told = asked(path)
    assert not told["rows"] and not told["kind"]
    assert "--columns instruction=question,output=answer" in told["bad"][0]["reason"]
    told = asked(path, columns={"instruction": "question", "output": "answer"})
    assert told["kind"] == "instruction" and told["rows"][0]["where"] == "faq.csv:2"


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b"%PDF-1.7"), ("a.json", b"[1"), ("a.gz", b"\x1f\x8b\x08")]
)
def test_what_holds_no_rows_is_told_and_no_fault(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert asked(tmp_path / name)["error"]
    assert asked(tmp_path / "gone")["error"] and asked(tmp_path / name)["error"]


def converted(path, to, **more):
    return convert.asked({"path": str(path), "to": str(to), **more})


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".jsonl.gz", ".json.gz"])
def test_all_rows_in_order_in_each_format_of_ours(tmp_path, ending):
    path, to = tmp_path / "in.jsonl", tmp_path / f"out{ending}"
    lines = [json.dumps({"instruction": f"{each % 3}", "output": "b"}) for each in range(7)]
    path.write_text("\n".join([*lines, "{"]))
    told = converted(path, to)
    assert (told["rows"], told["unusable"]) == (7, 1)
    assert told["bad"][0]["where"] == "in.jsonl:8"
    content = gzip.decompress(to.read_bytes()) if to.suffix == ".gz" else to.read_bytes()
    text = content.decode()
    rows = (
        json.loads(text) if ".json." in f"{to.name}." else list(map(json.loads, text.splitlines()))
    )
    assert [row["messages"][0]["content"] for row in rows] == [f"{each % 3}" for each in range(7)]
    aside = tmp_path / f"out{ending}.rejects.jsonl"
    assert json.loads(aside.read_text())["line"] == "{"
    first = to.read_bytes()
    path.write_text("\n".join(lines))
    assert converted(path, to)["unusable"] == 0 and not aside.exists()
    assert to.read_bytes() == first


def test_what_cannot_be_converted_is_told(tmp_path):
    assert converted(tmp_path, tmp_path / "out.jsonl")["error"].startswith("no file with rows")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_without_a_row_leaves_nothing_behind_and_says_what_to_type(tmp_path):
    path, to = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    told = converted(path, to)
    assert told["error"] == "rows.jsonl holds no row that can be read"
    assert "is a Git LFS pointer" in told["why"] and "lfs pull" in told["remedy"]
    assert "lfs pull" in look.asked({"path": str(path)})["remedy"]
    assert list(tmp_path.iterdir()) == [path]
