import os
import subprocess
import sys

import pytest

from remote.payload.data.engine import Context, source_of
from remote.payload.data.files.object_store import ObjectLost
from remote.payload.job import StageFailed
from tests.pdf_files import pdf, tar_of, zip_of

PDF = pdf(["a"])


@pytest.fixture
def context(tmp_path):
    (tmp_path / "work").mkdir()
    return Context(tmp_path, tmp_path / "work", {"limits": {"workers": 2}})


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "operatives"
    (folder / "more").mkdir(parents=True)
    (folder / "a.zip").write_bytes(zip_of({f"{number}.pdf": PDF for number in range(150)}))
    inner = zip_of({f"in{number}.pdf": PDF for number in range(3)})
    members = {"in.zip": inner, "../up.pdf": PDF, "x.pdf": PDF}
    (folder / "more/b.tar.gz").write_bytes(tar_of(members, "gz"))
    (folder / "loose.pdf").write_bytes(PDF)
    (folder / "notes.txt").write_bytes(b"none")
    return folder


def units(context, folder, **entry):
    entry = {"type": "archives", "path": str(folder), **entry}
    return list(source_of(entry, context).units())


def test_a_unit_is_a_range_of_an_archives_members(context, folder, capsys):
    found = units(context, folder)
    assert [unit.id for unit in found] == [
        " loose.pdf",
        "a.zip#00000000",
        "a.zip#00000064",
        "a.zip#00000128",
        "more/b.tar.gz#00000000",
    ]
    assert found == sorted(found, key=lambda unit: unit.id)
    assert "listed more/b.tar.gz: 5 members" in capsys.readouterr().out
    assert units(context, folder) == found
    assert capsys.readouterr().out == ""  # what has not changed is not listed again


def test_a_unit_changes_with_its_archive_alone(context, folder):
    before = {unit.id: unit.digest for unit in units(context, folder)}
    os.utime(folder / "a.zip", (1, 1))
    assert {unit.id: unit.digest for unit in units(context, folder)} == before
    (folder / "a.zip").write_bytes(zip_of({"0.pdf": PDF}))
    (folder / "loose2.pdf").write_bytes(PDF)
    after = {unit.id: unit.digest for unit in units(context, folder)}
    assert {name for name in before if after.get(name) == before[name]} == {
        "more/b.tar.gz#00000000"
    }


def test_an_archive_that_changes_or_vanishes_after_listing_is_not_read(context, folder):
    loose, first, *_ = units(context, folder)
    source = source_of({"type": "archives", "path": str(folder)}, context)
    (folder / "a.zip").write_bytes(zip_of({"0.pdf": PDF}))
    (folder / "loose.pdf").unlink()
    with pytest.raises(ObjectLost, match="changed"):
        list(source.read(first))
    with pytest.raises(ObjectLost, match="vanished"):
        list(source.read(loose))


def test_a_raised_limit_has_documents_read_again(context, folder):
    before = [unit.digest for unit in units(context, folder)]
    context.recipe["limits"]["document_seconds"] = 500
    assert not set(before) & {unit.digest for unit in units(context, folder)}


def test_no_more_pdfs_are_read_than_may_be(context, folder):
    found = units(context, folder, max_pdfs=70)
    assert [(unit.id, unit.what.get("most")) for unit in found] == [
        (" loose.pdf", None),
        ("a.zip#00000000", None),
        ("a.zip#00000064", 5),
    ]
    assert found[-1].what["is_more"]
    # 1 + 150 + 3 nested + 1: what is refused counts for nothing.
    exactly = units(context, folder, max_pdfs=155)
    assert exactly[-1].id == "more/b.tar.gz#00000000"
    assert not exactly[-1].what["is_more"]
    assert "most" not in units(context, folder, max_pdfs=156)[-1].what


def test_the_same_from_s3(context, folder, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    for path in (folder / "a.zip", folder / "more/b.tar.gz", folder / "loose.pdf"):
        key = f"operatives/{path.relative_to(folder)}"
        s3.upload_file(str(path), "kept", key)
    there = {"region": "us-east-1", "endpoint": s3.meta.endpoint_url}
    found = units(context, "s3://kept/operatives/", **there)
    local = units(context, folder)
    assert [unit.id for unit in found] == [unit.id for unit in local]
    assert [unit.what.get("range") for unit in found] == [unit.what.get("range") for unit in local]


def test_an_archive_that_cannot_be_listed_is_one_reject(context, folder):
    context.recipe["limits"]["unit_seconds"] = 0.001
    found = units(context, folder)
    assert [unit.id for unit in found][1:] == ["a.zip#", "more/b.tar.gz#"]
    source = source_of({"type": "archives", "path": str(folder)}, context)
    (reject,) = source.read(found[1])
    assert "cannot be listed" in reject.reason
    assert reject.is_bad
    assert str(reject.origin) == "a.zip"


def test_a_folder_without_archives_is_no_source(context, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StageFailed, match="no archive and no PDF"):
        units(context, tmp_path / "empty")


def test_ocr_says_what_it_lacks(context, folder):
    with pytest.raises(StageFailed) as failure:
        units(context, folder, ocr=True, languages="eng+xyz")
    assert "tesseract-ocr-xyz" in failure.value.remedy
    with pytest.raises(StageFailed, match="languages"):
        units(context, folder, ocr=True, languages="--help")


def test_nothing_of_boto3_or_the_readers_is_imported_for_a_local_listing(folder, tmp_path):
    program = (
        "import sys; from pathlib import Path; from remote.payload.data.sources import archives;"
        " bad = {'boto3', 'botocore', 'pypdfium2', 'pypdf'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
