import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from remote.contract.files import atomic
from remote.contract.job.jobs import JobSpec
from remote.payload.data.archive import pdf as pdfs
from remote.payload.data.engine import Context, Engine, source_of
from remote.payload.data.sources.archives import SCANNED
from remote.payload.data.units import Given, Reject
from remote.payload.job import Job
from remote.payload.stages import prepare
from tests.pdf_files import endless, greedy, pdf, tar_of, zip_of

PROJECT = Path(__file__).resolve().parents[3]


def document(name, pages=3):
    """A page of text has a header, a body and a number."""
    return pdf(
        *[
            [
                "The annual report",
                *(f"Line {at} of {name} on sheet {'abcdefgh'[page]}" for at in range(8)),
                f"- {page + 4} -",
            ]
            for page in range(pages)
        ]
    )


def encrypted():
    import pypdf

    writer = pypdf.PdfWriter(io.BytesIO(document("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


def scanned(tmp_path, *lines):
    """A page that is a picture of a page of text."""
    path = tmp_path / "to-scan.pdf"
    path.write_bytes(pdf(list(lines)))
    head, _, grey = pdfs._picture(str(path), 1).partition(b" 255\n")
    width, height = map(int, head.split()[1:])
    return width, height, grey


@pytest.fixture
def context(tmp_path):
    (tmp_path / "work").mkdir()
    limits = {"workers": 2, "document_seconds": 6, "memory_mb": 1200}
    return Context(tmp_path, tmp_path / "work", {"limits": limits})


def read(context, path, **entry):
    source = source_of({"type": "archives", "path": str(path), **entry}, context)
    found = [result for unit in source.units() for result in source.read(unit)]
    given = {str(each.origin): each.row for each in found if isinstance(each, Given)}
    return given, {str(each.origin): each for each in found if isinstance(each, Reject)}


def test_documents_of_archives_are_rows_with_their_pages(context, tmp_path):
    (tmp_path / "a.zip").write_bytes(
        zip_of({"d/one.pdf": document("one"), "two.pdf": document("two")})
    )
    given, rejects = read(context, tmp_path / "a.zip")
    assert not rejects
    row = given["a.zip/d/one.pdf"]
    pages = row.text.split(pdfs.PAGE_BREAK)
    assert len(pages) == 3
    assert pages[1].startswith("Line 0 of one on sheet b")  # the header is gone
    assert pages[1].endswith("Line 7 of one on sheet b")  # and the footer, though its number counts
    assert row.source == "d/one.pdf"
    assert row.is_document
    assert row.group != given["a.zip/two.pdf"].group


def test_the_group_is_the_contents(context, tmp_path):
    content = document("same")
    (tmp_path / "a.tgz").write_bytes(tar_of({"x.pdf": content, "y.pdf": content}, "gz"))
    given, _ = read(context, tmp_path / "a.tgz")
    assert len({row.group for row in given.values()}) == 1


def test_bad_documents_are_set_aside_one_by_one(context, tmp_path):
    good = document("good")
    members = {
        "0.pdf": good,
        "cut.pdf": good[:400],
        "empty.pdf": b"",
        "endless.pdf": endless(),
        "greedy.pdf": greedy(1500),
        "html.pdf": b"<!DOCTYPE html><html></html>",
        "locked.pdf": encrypted(),
        "nothing.pdf": pdf([]),
        "z.pdf": document("last"),
        "zip.pdf": zip_of({"a": b"a"}),
    }
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    given, rejects = read(context, tmp_path / "a.tar")
    assert set(given) == {"a.tar/0.pdf", "a.tar/z.pdf"}
    reasons = {name.removeprefix("a.tar/"): each.reason for name, each in rejects.items()}
    assert "is damaged" in reasons["cut.pdf"]
    assert reasons["empty.pdf"] == "is empty"
    assert reasons["html.pdf"] == "is called a PDF, and is an HTML page"
    assert reasons["zip.pdf"] == "is called a PDF, and is a ZIP archive"
    assert reasons["locked.pdf"] == "is encrypted: it needs a password"
    assert reasons["nothing.pdf"] == "has no text, and no scan either"
    assert any(words in reasons["endless.pdf"] for words in ("not done within", "was ended by"))
    assert any(
        words in reasons["greedy.pdf"] for words in ("not done within", "was ended by", "memory")
    )
    assert all(each.is_bad for each in rejects.values())


def test_what_pdfium_does_not_open_pypdf_may(context, tmp_path):
    rootless = document("mended").replace(b"/Root 1 0 R", b"")
    (tmp_path / "a.pdf").write_bytes(rootless)
    assert pdfs.text_of({"path": str(tmp_path / "a.pdf")})["reader"] == "pypdf"
    given, rejects = read(context, tmp_path / "a.pdf")
    assert not rejects
    assert given["a.pdf"].text.startswith("Line 0 of mended on sheet a")


def test_scans_are_counted_by_page(context, tmp_path):
    mixed = pdf(["Some text that can be read here"] * 4, scanned(tmp_path, "A picture"))
    (tmp_path / "a.zip").write_bytes(zip_of({"mixed.pdf": mixed}))
    given, rejects = read(context, tmp_path / "a.zip")
    assert given["a.zip/mixed.pdf"].text.count(pdfs.PAGE_BREAK) == 1
    (reject,) = rejects.values()
    assert str(reject.origin) == "a.zip/mixed.pdf, page 2"
    assert reject.step == SCANNED
    assert not reject.is_bad


@pytest.mark.skipif(not shutil.which("tesseract"), reason="needs apt-get install tesseract-ocr")
def test_scans_are_read_where_that_is_asked_for(context, tmp_path):
    context.recipe["limits"]["document_seconds"] = 120
    made = pdf(
        scanned(tmp_path, "The harbour opened in the spring"), ["A page of text that is no scan"]
    )
    (tmp_path / "a.zip").write_bytes(zip_of({"scan.pdf": made}))
    given, rejects = read(context, tmp_path / "a.zip", ocr=True)
    assert not rejects
    pages = given["a.zip/scan.pdf"].text.split(pdfs.PAGE_BREAK)
    assert "The harbour opened in the spring" in pages[0]
    assert pages[1] == "A page of text that is no scan"


def test_max_pdfs_is_kept_and_told(context, tmp_path):
    members = {f"{number}.pdf": document(str(number), 1) for number in range(4)}
    (tmp_path / "a.zip").write_bytes(zip_of(members))
    given, rejects = read(context, tmp_path / "a.zip", max_pdfs=2)
    assert len(given) == 2
    assert [each.step for each in rejects.values()] == ["max_pdfs"]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An S3 server of the laptop's environment, with the bucket `kept`."""
    import boto3

    program = PROJECT / ".venv/bin/moto_server"
    if not program.exists():
        pytest.skip("needs the laptop's environment")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    for name, value in {
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.1)
    client = boto3.session.Session().client("s3")
    client.create_bucket(Bucket="kept")
    yield client
    client.close()
    server.terminate()
    server.wait()


def engine_of(tmp_path, path, **more):
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    entry = {"type": "archives", "path": path, **more}
    recipe = {"sources": [entry], "limits": {"workers": 2, "document_seconds": 30}}
    told = []
    return Engine(Context(tmp_path, folder, recipe), told.append), told


def test_archives_in_a_bucket_are_prepared_once(bucket, tmp_path):
    many = {f"{number:03}.pdf": document(f"many {number}", 2) for number in range(70)}
    archives = {
        "a.zip": zip_of({**many, "in.tar.gz": tar_of({"n.pdf": document("nested")}, "gz")}),
        "b.tar.gz": tar_of({"b.pdf": document("b"), "../c.pdf": document("c")}, "gz"),
        "cut.zip": zip_of(many)[:-100],
    }
    for name, content in archives.items():
        bucket.put_object(Bucket="kept", Key=f"operatives/{name}", Body=content)
    engine, told = engine_of(tmp_path, "s3://kept/operatives/")
    found = engine.prepared()
    assert not found.lost
    assert [part.rows for part in found.parts] == [64, 7, 1, 0]
    assert [part.bad for part in found.parts] == [0, 0, 1, 1]
    content = [engine.store.rows_file(part.key).read_bytes() for part in found.parts]
    told.clear()
    assert engine.prepared().parts == found.parts
    assert not told  # nothing is worked again
    shutil.rmtree(tmp_path / "work")
    again, _ = engine_of(tmp_path, "s3://kept/operatives/")
    parts = again.prepared().parts
    assert [again.store.rows_file(part.key).read_bytes() for part in parts] == content


def test_an_object_that_changes_between_listing_and_reading_is_one_reject(bucket, tmp_path):
    first, second = zip_of({"a.pdf": document("a")}), zip_of({"b.pdf": document("b")})
    bucket.put_object(Bucket="kept", Key="o/a.zip", Body=first)
    engine, _ = engine_of(tmp_path, "s3://kept/o/")
    source = source_of(engine.context.recipe["sources"][0], engine.context)
    (unit,) = source.units()
    bucket.put_object(Bucket="kept", Key="o/a.zip", Body=second)
    with pytest.raises(Exception, match="changed after it was listed"):
        list(source.read(unit))


def test_prepare_makes_train_and_validation_files_of_archives(tmp_path):
    many = {f"{number:03}.pdf": document(f"many {number}", 2) for number in range(30)}
    (tmp_path / "a.zip").write_bytes(zip_of({**many, "again.pdf": many["000.pdf"]}))
    recipe = {
        "name": "golden",
        "sources": [{"type": "archives", "path": str(tmp_path / "a.zip")}],
        "steps": [{"type": "deduplicate"}],
        "split": {"validation": 0.2},
        "limits": {"workers": 2},
    }
    folder = tmp_path / "windlass/jobs/job-1"
    spec = JobSpec("job-1", "prepare", "r", recipe=recipe)
    atomic.write_text(folder / "spec.json", spec.to_json())
    job = Job(folder)
    prepare.main(job)
    train, val = (
        [json.loads(line) for line in job.artifact(f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "val")
    )
    assert (len(train), len(val)) == (24, 6)
    assert not {row["group"] for row in train} & {row["group"] for row in val}
    assert all(row["text"].count(pdfs.PAGE_BREAK) == 1 for row in train + val)
