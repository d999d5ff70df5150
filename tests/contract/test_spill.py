"""What a bucket holds of a job, as both sides name it."""

import pytest

from remote.contract.artifacts.upload import PIECE_BYTES, Kept, Manifest, UploadGrant

SHA = "a" * 64


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (0, [0]),
        (1, [1]),
        (PIECE_BYTES, [PIECE_BYTES]),
        (2 * PIECE_BYTES + 5, [PIECE_BYTES, PIECE_BYTES, 5]),
    ],
)
def test_pieces_are_the_file_in_order(size, sizes):
    pieces = list(Kept(SHA, size).pieces("jobs/j/"))
    assert [piece.size for piece in pieces] == sizes and sum(sizes) == size
    assert [piece.offset for piece in pieces] == [
        PIECE_BYTES * number for number in range(len(sizes))
    ]
    assert pieces[0].key == f"jobs/j/objects/{SHA}/0" and len(
        {piece.key for piece in pieces}
    ) == len(pieces)


def test_a_manifest_survives_the_journey():
    manifest = Manifest(
        "j",
        1.5,
        "checkpoint step-7",
        {"jobs/j/log": Kept(SHA, 3), "shared/models/m/config.json": Kept(SHA, 4)},
    )
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.size == 7


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "jobs/../../x", "releases/abc/x", "..", "jobs", "grant.json"]
)
def test_a_manifest_that_leads_elsewhere_is_none(path):
    with pytest.raises(ValueError, match="leads elsewhere"):
        Manifest.from_json(Manifest("j", 0.0, "x", {path: Kept(SHA, 3)}).to_json())


@pytest.mark.parametrize("kept", [Kept("b", 3), Kept(SHA, -1), Kept(SHA, 10**18)])
def test_a_file_without_digest_or_size_is_none(kept):
    with pytest.raises(ValueError, match=r"a SHA-256 that is none|a size of"):
        Manifest.from_json(Manifest("j", 0.0, "x", {"jobs/j/log": kept}).to_json())


def test_a_grant_is_good_while_it_lasts_and_always_with_a_profile():
    signed = UploadGrant(
        "run", "bucket", "us-east-1", "windlass/p/jobs/", "https://x", {}, expires=100.0
    )
    assert signed.is_good(99.0) and not signed.is_good(100.0)
    assert UploadGrant("run", "bucket", "us-east-1", "windlass/p/jobs/", profile=True).is_good(1e12)
    assert signed.place("run-train") == "s3://bucket/windlass/p/jobs/run-train/"
