"""A recipe over a bucket of the embedded cloud: PDFs in a ZIP and a tarball, and rows of this
laptop, into the two files under `datasets/NAME/`."""

import json
import os

import pytest

from remote.control.cloud import embedded
from remote.control.cloud.account import endpoint
from remote.control.config.inventory import load_inventory
from tests.integration.typed import typed
from tests.pdf_files import pdf, tar_of, zip_of

INVENTORY = """\
default_box: lab
boxes:
  lab: {provider: embedded, instance_profile: windlass, shared: %s}
storage: {bucket: kept}
"""
RECIPE = """\
name: mine
sources:
  - {type: corpus, path: rows.jsonl}
  - {type: archives, path: s3://kept/operatives/}
steps: [{type: normalise}, {type: deduplicate, near: 0.85}]
outputs: {bucket: true}
limits: {workers: 2, max_reject_share: 0.1}
"""
WORDS = [
    "windlass",
    "rope",
    "anchor",
    "hull",
    "keel",
    "mast",
    "sail",
    "deck",
    "tide",
    "wind",
    "storm",
    "harbour",
    "crew",
    "cargo",
]

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "WINDLASS_ENVIRONMENTS" not in os.environ,
        reason="needs the box's environment: `./inv test`",
    ),
]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The bucket, and a project whose one box may use it."""
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "environments").symlink_to(os.environ["WINDLASS_ENVIRONMENTS"])
    (tmp_path / "inventory.yaml").write_text(INVENTORY % shared)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    rows = ({"instruction": f"Add {each}.", "output": str(each)} for each in range(20))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    there = endpoint.of_entry(load_inventory().box())
    iam, s3 = there.client("iam"), there.client("s3")
    iam.create_role(RoleName="windlass", AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName="windlass")
    iam.add_role_to_instance_profile(InstanceProfileName="windlass", RoleName="windlass")
    s3.create_bucket(Bucket="kept")
    yield s3
    embedded.down()


def document(number):
    said = [WORDS[(number * step + step) % len(WORDS)] for step in range(1, 40)]
    return pdf([f"Document {number}", " ".join(said)], [f"Page two of {number}."])


def test_pdfs_of_a_bucket_become_two_files_in_it(store, tmp_path):
    first = {f"{number}.pdf": document(number) for number in range(8)}
    second = {f"{number}.pdf": document(number) for number in range(8, 16)}
    hostile = {"broken.pdf": b"%PDF-1.7 nothing", "../out.pdf": document(99)}
    store.put_object(Bucket="kept", Key="operatives/a.zip", Body=zip_of({**first, **hostile}))
    store.put_object(Bucket="kept", Key="operatives/b.tar.gz", Body=tar_of(second, "gz"))
    done = typed("data.prepare", str(tmp_path / "mine.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["stages"][0]["values"]
    assert (values["rows"], values["rejected"]) == (38, 2)

    def kept(name):
        key = f"datasets/mine/{name}"
        return store.get_object(Bucket="kept", Key=key)["Body"].read().splitlines()

    rows = [json.loads(line) for name in ("train.jsonl", "val.jsonl") for line in kept(name)]
    assert len(rows) == 36 and sum("text" in row for row in rows) == 16
    reasons = [json.loads(line)["reason"] for line in kept("rejects.jsonl")]
    assert any("zip-slip" in each for each in reasons) and len(reasons) == 2
    (run,) = (tmp_path / "runs").iterdir()
    assert b"\n".join(kept("train.jsonl")) == (
        run / "artifacts/prepare/train.jsonl"
    ).read_bytes().rstrip(b"\n")
