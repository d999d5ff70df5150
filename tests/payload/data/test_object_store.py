import io
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from remote.contract.job.jobs import Cause
from remote.payload.data.files import object_store
from remote.payload.data.files.object_store import Access, ObjectLost, StoredObject, listed, opened
from remote.payload.job import StageFailed

CONTENT = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def access(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    return Access("us-east-1", s3.meta.endpoint_url)


def put(s3, key, content=b"x"):
    s3.put_object(Bucket="kept", Key=key, Body=content)


def test_objects_below_an_address_are_listed(s3, access):
    for key in ("data/b.zip", "data/a/c.zip", "data/a/", "database.zip"):
        put(s3, key)
    assert [name for name, _ in listed("s3://kept/data", access)] == ["a/c.zip", "b.zip"]
    assert [name for name, _ in listed("s3://kept/data/", access)] == ["a/c.zip", "b.zip"]
    assert [name for name, _ in listed("s3://kept/database.zip", access)] == ["database.zip"]
    assert list(listed("s3://kept/none/", access)) == []


def test_more_objects_than_a_page_has_are_listed(s3, access):
    for number in range(1005):
        put(s3, f"many/{number:05}")
    assert len(list(listed("s3://kept/many", access))) == 1005


def test_a_bucket_that_is_not_there_is_named(access):
    with pytest.raises(StageFailed) as failure:
        list(listed("s3://nowhere/x/", access))
    assert failure.value.cause is Cause.DATA
    assert "no bucket nowhere" in failure.value.what
    with pytest.raises(StageFailed, match="names no bucket"):
        list(listed("s3://", access))


def test_an_object_is_read_anywhere_in_few_requests(s3, access):
    put(s3, "big", CONTENT)
    ((_, found),) = listed("s3://kept/big", access)
    asked = []
    access.client().meta.events.register(
        "before-send.s3.GetObject", lambda request, **_: asked.append(request.headers["Range"])
    )
    with opened(found, access) as file:
        assert file.read() == CONTENT
        assert len(asked) < 7
        file.seek(-10, io.SEEK_END)
        assert file.read() == CONTENT[-10:]
        file.seek(1234)
        assert file.read(100) == CONTENT[1234:1334]
        file.seek(len(CONTENT) + 5)
        assert file.read() == b""


def test_an_object_that_changes_or_vanishes_is_lost(s3, access):
    put(s3, "shifty", CONTENT)
    ((_, found),) = listed("s3://kept/shifty", access)
    with opened(found, access) as file:
        file.read(10)
        put(s3, "shifty", CONTENT[::-1])
        with pytest.raises(ObjectLost, match="changed"):
            file.read()
    s3.delete_object(Bucket="kept", Key="shifty")
    with opened(found, access) as file, pytest.raises(ObjectLost, match="vanished"):
        file.read()


class Faulty(BaseHTTPRequestHandler):
    """One object, answered by what `faults` says first: a status, or `cut` in the middle."""

    protocol_version = "HTTP/1.1"
    faults: ClassVar[list] = []

    def do_GET(self):
        start, end = map(int, re.findall(r"\d+", self.headers["Range"] or "0-0"))
        piece = CONTENT[start : end + 1]
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            body = (
                b"<Error><Code>%s</Code></Error>" % {503: b"SlowDown", 403: b"AccessDenied"}[fault]
            )
            self.send_response(fault)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.end_headers()
        self.wfile.write(piece[: len(piece) // 2] if fault == "cut" else piece)
        self.close_connection = fault == "cut"

    def log_message(self, *_):
        pass


@pytest.fixture
def faulty(access):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    there = Access("us-east-1", f"http://127.0.0.1:{server.server_port}")
    found = StoredObject("kept", "big", len(CONTENT), '"etag"')

    def opened_there():
        return io.BufferedReader(object_store._Ranges(found, there.client(), lambda _: None))

    opened_there.access = there
    yield opened_there
    server.shutdown()
    thread.join()
    server.server_close()


def test_throttling_and_broken_connections_are_asked_again(faulty):
    Faulty.faults = [503, "cut", 503, "cut", "cut"]
    with faulty() as file:
        assert file.read() == CONTENT


def test_what_breaks_again_and_again_is_lost_with_its_reason(faulty):
    Faulty.faults = ["cut"] * 50
    with faulty() as file, pytest.raises(ObjectLost, match="could not be read"):
        file.read(10)
    Faulty.faults = [403]
    with faulty() as file, pytest.raises(ObjectLost, match="may not be read"):
        file.read(10)


def test_a_bucket_without_rights_says_which_are_needed(faulty):
    Faulty.faults = [403]
    with pytest.raises(StageFailed) as failure:
        list(listed("s3://kept/x/", faulty.access))
    assert "s3:ListBucket" in failure.value.remedy
