import gzip
import json

import pytest

from remote.payload.data.engine import Context, Engine, source_of
from remote.payload.job import StageFailed


def rows(*numbers):
    return "".join(
        json.dumps({"instruction": "Add.", "input": str(each), "output": "1"}) + "\n"
        for each in numbers
    ).encode()


@pytest.fixture
def entry(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.meta.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name, content in {
        "a.jsonl": rows(1, 2),
        "law/b.jsonl.gz": gzip.compress(rows(3)),
        "note.md": b"A note.",
        "picture.png": b"\x89PNG",
    }.items():
        s3.put_object(Bucket="kept", Key=f"corpus/{name}", Body=content)
    return {"type": "corpus", "path": "s3://kept/corpus/", "local": "corpus"}


@pytest.fixture
def context(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "corpus").mkdir()
    return Context(tmp_path, tmp_path / "work", {"limits": {"workers": 2}})


def read(context, entry):
    source = source_of(entry, context)
    found = {}
    for unit in source.units():
        said = [each.row.asked or each.row.text for each in source.read(unit)]
        found[unit.id] = (said, "path" in unit.what)
    return found


def test_what_is_here_is_read_here_and_the_rest_is_fetched(context, entry, capsys):
    (context.root / "corpus/a.jsonl").write_bytes(rows(7))
    found = read(context, entry)
    assert set(found) == {"a.jsonl", "law/b.jsonl.gz", "note.md"}
    assert found["a.jsonl"][1]
    assert "7" in found["a.jsonl"][0][0]
    assert not found["law/b.jsonl.gz"][1]
    assert "3" in found["law/b.jsonl.gz"][0][0]
    assert found["note.md"] == (["A note."], False)
    assert "1 files from" in (told := capsys.readouterr().out)
    assert "2 from the bucket" in told
    assert list(context.folder.iterdir()) == []


def test_one_of_the_two_alone_may_be_asked_for(context, entry):
    (context.root / "corpus/a.jsonl").write_bytes(rows(7))
    assert set(read(context, {**entry, "prefer": "local"})) == {"a.jsonl"}
    there = read(context, {**entry, "prefer": "s3"})
    assert "1" in there["a.jsonl"][0][0]
    assert not any(is_here for _, is_here in there.values())
    with pytest.raises(StageFailed, match="prefer"):
        read(context, {**entry, "prefer": "cloud"})


def test_a_corpus_without_files_is_none(context, entry):
    with pytest.raises(StageFailed, match="no file with rows"):
        read(context, {**entry, "prefer": "local"})
    with pytest.raises(StageFailed, match="no file with rows"):
        read(context, {**entry, "path": "s3://kept/nothing/"})


def test_an_object_is_worked_once(context, entry, s3):
    recipe = {"sources": [entry], "limits": {"workers": 2}}
    told = []
    engine = Engine(Context(context.root, context.folder, recipe), told.append)
    assert sum(part.rows for part in engine.prepared().parts) == 4
    told.clear()
    assert sum(part.rows for part in engine.prepared().parts) == 4
    assert not told
    s3.put_object(Bucket="kept", Key="corpus/a.jsonl", Body=rows(5))
    assert sum(part.rows for part in engine.prepared().parts) == 3
    assert any("1 of 3 units" in line for line in told)


def test_an_object_that_vanishes_is_one_lost_unit(context, entry, s3):
    source = source_of(entry, context)
    units = list(source.units())
    s3.delete_object(Bucket="kept", Key="corpus/a.jsonl")
    with pytest.raises(Exception, match="vanished"):
        list(source.read(units[0]))
    assert len(list(source.read(units[1]))) == 1
