"""Bulk by a bucket: S3 over the wire from moto, the box a folder, the ferry a real process."""

import contextlib
import hashlib
import io
import os
import socketserver
import threading
import time

import pytest
from moto.server import ThreadedMotoServer

from remote.contract.files import digest as digests
from remote.contract.job.jobs import Artifact
from remote.control.cloud.account.endpoint import EmbeddedEndpoint
from remote.control.errors import BoxUnreachable, CloudError
from remote.control.transport.pull import by_bucket
from remote.control.transport.pull.bulk import BulkTransport, Store
from remote.control.transport.pull.pull import pull
from tests.control.transport.counted import Counted
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
    monkeypatch.setattr(by_bucket, "OBJECT_BYTES", 300_000)
    monkeypatch.delenv("http_proxy", raising=False)
    counted = Counted(folder_box(tmp_path / "home"))
    with BulkTransport(
        counted, lambda: Store(s3, "shared", "windlass/p/bulk/", contextlib.nullcontext)
    ) as box:
        box.counted = counted
        yield box
    assert "Contents" not in s3.list_objects_v2(Bucket="shared"), "nothing stays in the bucket"


def test_what_is_small_goes_as_ever(box):
    assert box.exec("cat; exit 3", b"small").stdout == b"small"
    assert "store" not in vars(box), "nobody asked for the bucket"


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


def test_a_bucket_that_the_box_does_not_get_at(box, monkeypatch):
    monkeypatch.setattr(Store, "link", lambda store, name, operation: "http://127.0.0.1:9/nothing")
    with pytest.raises(BoxUnreachable) as caught:
        box.exec("cat", bytes(2_000_000))
    assert "gateway endpoint" in caught.value.remedy


# ---- what comes home ----

CONTENT = os.urandom(2_500_000)


def made(box, content=CONTENT):
    path = box.counted.home / "windlass/jobs/j/artifacts/it"
    for part, part_content in (content if isinstance(content, dict) else {"": content}).items():
        target = path / part if part else path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(part_content)
    return Artifact(
        "jobs/j/artifacts/it", digests.size_of(path), digests.of_path(path), path.is_dir()
    )


def pulled(box, artifact, tmp_path):
    told, seen = [], []
    pull(box, "windlass", artifact, tmp_path / "it", seen.append, told.append)
    assert (
        digests.of_path(tmp_path / "it") == artifact.sha256
        and seen == sorted(seen)
        and seen[-1] == artifact.size
    )
    return told


@pytest.mark.parametrize(
    "content", [CONTENT, {"a": CONTENT[:700_000], "b/c": CONTENT, "d": b""}], ids=["file", "folder"]
)
def test_what_comes_home_goes_round_the_connection(box, tmp_path, content):
    assert pulled(box, made(box, content), tmp_path) == []
    assert box.counted.said < 2_000


def test_no_piece_goes_with_another(box, tmp_path, monkeypatch):
    """A piece that has come is removed by its name, and all that begins with it."""
    names, link = [], Store.link
    monkeypatch.setattr(
        Store,
        "link",
        lambda store, name, operation: names.append(name) or link(store, name, operation),
    )
    pulled(box, made(box), tmp_path)
    assert len(names) == 9
    assert not [
        (name, other)
        for name in names
        for other in names
        if name != other and other.startswith(name)
    ]


def test_what_is_small_comes_over_the_connection(box, tmp_path):
    assert pulled(box, made(box, CONTENT[:1000]), tmp_path) == [] and "store" not in vars(box)


def test_it_comes_over_the_connection_when_the_box_does_not_get_at_the_bucket(
    box, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        Store,
        "link",
        lambda store, name, operation: "http://127.0.0.1:9/nothing?X-Amz-Signature=secret",
    )
    (told,) = pulled(box, made(box), tmp_path)
    assert "over SSH alone" in told and "refused" in told and "secret" not in told
    assert box.counted.said > len(CONTENT)


def test_a_bucket_whose_answer_is_no_http_is_not_waited_for(box, tmp_path, monkeypatch):
    """As a proxy that is broken may give it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Babbler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(
            Store,
            "link",
            lambda store, name, operation: (
                f"http://127.0.0.1:{server.server_address[1]}/?sig=hush-hush"
            ),
        )
        (told,) = pulled(box, made(box), tmp_path)
        server.shutdown()
    assert "BadStatusLine" in told and "hush" not in told


class Babbler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"what do you mean?\r\n\r\n")


@pytest.mark.parametrize("how", ["refused", "short"])
def test_it_comes_over_the_connection_when_the_laptop_does_not_get_at_it(
    box, tmp_path, monkeypatch, how
):
    real, got = Store.get, []

    def get(store, name, size):
        got.append(name)
        if len(got) == 3:
            if how == "refused":
                raise CloudError("no", why="the cloud said no")
            store.s3.put_object(Bucket=store.bucket, Key=store.prefix + name, Body=b"x" * 10)
        return real(store, name, size)

    monkeypatch.setattr(Store, "get", get)
    (told,) = pulled(box, made(box), tmp_path)
    assert "over SSH alone" in told and box.counted.said > 0


def test_a_bucket_that_is_not_there(tmp_path):
    def missing():
        raise CloudError("there is no bucket shared")

    box = BulkTransport(Counted(folder_box(tmp_path / "home")), missing)
    box.counted = box._inner
    (told,) = pulled(box, made(box), tmp_path)
    assert "there is no bucket" in told


def test_ctrl_c_leaves_nothing_in_the_bucket_and_keeps_what_came(box, tmp_path):
    box.counted.interrupt = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pull(box, "windlass", made(box), tmp_path / "it")
    box.counted.interrupt = None
    assert pulled(box, made(box), tmp_path) == []


def test_what_a_killed_laptop_left_goes_when_the_next_comes_by(s3, box, tmp_path, monkeypatch):
    s3.put_object(Bucket="shared", Key="windlass/p/bulk/0123/0", Body=b"left")
    time.sleep(1.1)  # S3 tells whole seconds
    monkeypatch.setattr(by_bucket, "STALE_SECONDS", 0.05)
    assert pulled(box, made(box), tmp_path) == []
