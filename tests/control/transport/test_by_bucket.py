"""What a box that is gone has spilled: out of a real S3 server, over connections that break."""

import gc
import os

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from remote.contract.artifacts import upload as spill
from remote.contract.artifacts.upload import Kept, Manifest
from remote.contract.files import digest as digests
from remote.contract.job.jobs import Artifact
from remote.control import retry
from remote.control.cloud import bucket
from remote.control.cloud.bucket import Bucket
from remote.control.errors import ArtifactCorrupt, CloudError
from remote.control.transport.pull.partial import Partial
from remote.control.transport.pull.pull import pull_spilled
from tests.integration import links
from tests.s3 import There

# boto3's transfer leaves the answer of a broken range to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
JOB = "run-1-train-abc"
PATH = f"jobs/{JOB}/artifacts/it"
SIZE = 8 << 20
FOLDER = {"a": os.urandom(1_000_000), "b/c": os.urandom(3 << 20), "d": b"", "e ü": b"1"}


@pytest.fixture(scope="module")
def port():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    client_of(server.get_host_and_port()[1]).create_bucket(Bucket="kept")
    yield server.get_host_and_port()[1]
    server.stop()


def client_of(port):
    s3 = {"addressing_style": "path"}
    config = Config(
        signature_version="s3v4",
        s3=s3,
        proxies={},
        retries={"total_max_attempts": 1},
        max_pool_connections=50,
        read_timeout=1,
    )
    session = boto3.session.Session("a", "b", region_name="us-east-1")
    return session.client("s3", endpoint_url=f"http://127.0.0.1:{port}", config=config)


@pytest.fixture
def wire(port, monkeypatch):
    """The way to S3, on which things go wrong."""
    monkeypatch.setattr(bucket, "RANGE_BYTES", 300_000)
    monkeypatch.setattr(spill, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    proxy = links.Proxy(port)
    yield proxy
    proxy.close()
    gc.collect()


@pytest.fixture
def found(wire):
    return Bucket("kept", There(client_of(wire.port)), mark="p")


def spilled(found, port, place, content):
    """An artifact as it stood on the box, and its manifest; what it holds lies in the bucket."""
    files = {}
    for name, each in (content if isinstance(content, dict) else {"": content}).items():
        path = place / name if name else place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each)
        kept = files[f"{PATH}/{name}" if name else PATH] = Kept(digests.of_bytes(each), len(each))
        for piece in kept.pieces(found._folder(JOB)):
            client_of(port).put_object(
                Bucket="kept", Key=piece.key, Body=each[piece.offset :][: piece.size]
            )
    files[f"{PATH}.log"] = Kept("0" * 64, 5)  # beside it, and no part of it
    return Artifact(PATH, digests.size_of(place), digests.of_path(place), place.is_dir()), Manifest(
        JOB, 1.0, "all", files
    )


def brought(found, manifest, artifact, to, **options):
    """Bring it; returns what was told."""
    told, seen = [], []
    pull_spilled(found, manifest, artifact, to, seen.append, told.append, **options)
    assert (
        digests.of_path(to) == artifact.sha256
        and seen == sorted(seen)
        and seen[-1] == artifact.size
    )
    assert sorted(path.name for path in to.parent.iterdir()) == ["it"], "no part is left"
    return told


@pytest.mark.parametrize("content", [os.urandom(SIZE), FOLDER], ids=["file", "folder"])
def test_it_comes_over_several_connections(found, wire, port, tmp_path, content):
    artifact, manifest = spilled(found, port, tmp_path / "box", content)
    wire.bytes_per_second = 20e6
    assert brought(found, manifest, artifact, tmp_path / "here/it") == []
    assert wire.accepted > 1 and wire.passed[links.DOWN] < artifact.size * 1.05


@pytest.mark.parametrize("content", [os.urandom(SIZE), FOLDER], ids=["file", "folder"])
def test_drops_in_the_middle_cost_only_what_was_under_way(found, wire, port, tmp_path, content):
    artifact, manifest = spilled(found, port, tmp_path / "box", content)
    wire.bytes_per_second = 20e6
    wire.cut_after(artifact.size // 2)
    brought(found, manifest, artifact, tmp_path / "here/it")
    assert wire.struck.is_set() and wire.passed[links.DOWN] < artifact.size * 1.3


def test_it_goes_on_where_the_pull_from_the_box_broke_off(found, wire, port, tmp_path):
    artifact, manifest = spilled(found, port, tmp_path / "box", content := os.urandom(SIZE))
    partial = Partial(tmp_path / f"here/.it.{artifact.sha256[:12]}.partial", artifact)
    partial.set_files([("", SIZE)])
    partial.write(100, content[100 : SIZE - 50_000])
    partial.close()
    brought(found, manifest, artifact, tmp_path / "here/it")
    assert wire.passed[links.DOWN] < 2.1 * (1 << 20), "the first object and the last"


def test_what_came_is_kept_when_the_bucket_stays_away(found, wire, port, tmp_path):
    artifact, manifest = spilled(found, port, tmp_path / "box", os.urandom(SIZE))
    wire.bytes_per_second = 20e6
    wire.strike_after("black_hole", SIZE // 2)
    with pytest.raises(CloudError) as caught:
        pull_spilled(
            found,
            manifest,
            artifact,
            tmp_path / "here/it",
            lambda done: None,
            print,
            patience_seconds=0.1,
        )
    assert " of 8.4 MB are kept" in caught.value.kept and not (tmp_path / "here/it").exists()
    before = wire.passed[links.DOWN]
    wire.heal()
    brought(found, manifest, artifact, tmp_path / "here/it")
    assert wire.passed[links.DOWN] - before < SIZE * 0.9


@pytest.mark.parametrize("damage", ["gone", "cut", "long", "other", "unnamed"])
def test_what_the_bucket_does_not_hold_is_told(found, wire, port, tmp_path, damage):
    artifact, manifest = spilled(found, port, tmp_path / "box", os.urandom(SIZE))
    first = next(manifest.files[PATH].pieces(found._folder(JOB)))
    match damage:
        case "gone":
            client_of(port).delete_object(Bucket="kept", Key=first.key)
        case "cut":
            client_of(port).put_object(Bucket="kept", Key=first.key, Body=b"short")
        case "long":
            client_of(port).put_object(Bucket="kept", Key=first.key, Body=bytes(first.size + 1))
        case "other":
            client_of(port).put_object(Bucket="kept", Key=first.key, Body=bytes(first.size))
        case "unnamed":
            del manifest.files[PATH]
    error = CloudError if damage in ("gone", "cut", "long") else ArtifactCorrupt
    with pytest.raises(error):
        pull_spilled(found, manifest, artifact, tmp_path / "here/it", lambda done: None, print)
    assert not (tmp_path / "here/it").exists()


def test_nothing_is_asked_for_what_is_here(found, wire, port, tmp_path):
    artifact, manifest = spilled(found, port, tmp_path / "it", b"12")
    pull_spilled(found, manifest, artifact, tmp_path / "it", lambda done: None, print)
    assert wire.accepted == 0
