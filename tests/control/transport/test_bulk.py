"""Bulk by a bucket: S3 over the wire from moto, the box a folder, the ferry a real process."""

import contextlib
import hashlib
import io
import os

import pytest
from moto.server import ThreadedMotoServer

from remote.control.cloud.endpoint import EmbeddedEndpoint
from remote.control.errors import BoxUnreachable
from remote.control.transport import bulk
from remote.control.transport.base import run_to_end
from remote.control.transport.bulk import BulkTransport, Store
from tests.integration.boxes import folder_box


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = EmbeddedEndpoint(f"http://{host}:{port}").client("s3")
    client.create_bucket(Bucket="shared")
    yield client
    server.stop()


@pytest.fixture
def box(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "PIECE_BYTES", 300_000)
    monkeypatch.delenv("http_proxy", raising=False)
    with BulkTransport(folder_box(tmp_path / "home"), lambda: Store(s3, "shared", "windlass/p/bulk/", contextlib.nullcontext)) as box:
        yield box
    assert "Contents" not in s3.list_objects_v2(Bucket="shared"), "nothing stays in the bucket"


def test_what_is_small_goes_as_ever(box):
    assert box.exec("cat; exit 3", b"small").stdout == b"small"
    assert box._made is None, "the bucket was not even asked for"


@pytest.mark.parametrize("as_file", [True, False])
def test_what_a_command_reads(box, as_file):
    content = os.urandom(2_500_000)
    file = io.BytesIO(b"before" + content)
    file.seek(6)
    result = box.exec("sha256sum; echo told >&2; exit 7", file if as_file else content)
    assert result.text.split()[0] == hashlib.sha256(content).hexdigest()
    assert (result.exit_code, result.stderr) == (7, b"told\n")
    assert box.bytes_sent < 20_000 and not file.closed


def test_a_command_may_stop_reading(box):
    assert box.exec("head -c 5", b"12345" * 400_000).stdout == b"12345"


def test_what_a_command_says(box):
    with box.open("cat >&2; head -c 1700000 /dev/zero; printf end; exit 4", b"question", expect=1_700_003) as stream:
        content = b"".join(stream)
    assert content == bytes(1_700_000) + b"end"
    assert (stream.exit_code, stream.stderr) == (4, b"question")


def test_a_reader_that_leaves_early_leaves_nothing(box):
    with box.open("head -c 3000000 /dev/zero", expect=3_000_000) as stream:
        next(iter(stream))


def test_more_than_was_spoken_of_is_an_error(box):
    with pytest.raises(BoxUnreachable, match="bucket") as caught:
        run_to_end(box.open("head -c 9000000 /dev/zero", expect=1_100_000))
    assert "more than was asked for" in caught.value.why and "X-Amz" not in str(caught.value.lines())


def test_a_bucket_that_the_box_does_not_get_at(box, monkeypatch):
    monkeypatch.setattr(Store, "link", lambda store, name, operation: "http://127.0.0.1:9/nothing")
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("cat", bytes(2_000_000))
    assert "gateway endpoint" in caught.value.remedy
