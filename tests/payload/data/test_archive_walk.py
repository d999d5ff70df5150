import gzip
import io
import random
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote.payload.data.archive.members import Start
from remote.payload.data.archive.ranges import LEAST, ranges
from remote.payload.data.archive.safety import LIMITS, Limits, refusal_of_name
from remote.payload.data.archive.walk import Walk, copied, is_stream
from tests.pdf_files import tar_of, zip_of

PDF = b"%PDF-1.7 of no use"


def walked(content, name, scratch, limits=LIMITS, start=None, before=0):
    file = io.BufferedReader(io.BytesIO(content))
    found = []
    for item in Walk(limits, scratch, len(content)).items(file, name, start, before):
        told = item.refusal
        if not told:
            to = io.BytesIO()
            try:
                copied(item, to)
                told = to.getvalue()
            except Exception as error:
                told = str(error)
        found.append((item.name, told))
    return found


def info(name, kind=tarfile.REGTYPE, link="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize("packing", ["", "gz", "bz2", "xz"])
def test_the_documents_of_a_tar_are_read_whatever_it_is_packed_by(tmp_path, packing):
    content = tar_of({"a/one.pdf": PDF, "two.PDF": PDF + b"2", "n" * 150 + ".pdf": b"3"}, packing)
    found = walked(content, f"x.tar.{packing}".rstrip("."), tmp_path)
    assert found == [("a/one.pdf", PDF), ("two.PDF", PDF + b"2"), ("n" * 150 + ".pdf", b"3")]


def test_archives_in_archives_are_read_to_a_depth(tmp_path):
    inner = zip_of({"deep.pdf": PDF})
    for number in range(3):
        inner = zip_of({f"z{number}.zip": inner, f"beside{number}.pdf": b"%PDF-"})
    found = dict(walked(inner, "x.zip", tmp_path))
    assert found["z2.zip/z1.zip/z0.zip/deep.pdf"] == PDF
    deeper = dict(walked(zip_of({"o.zip": inner, "a.pdf": PDF}), "x.zip", tmp_path))
    assert "deep" in deeper["o.zip/z2.zip/z1.zip/z0.zip"]
    assert deeper["a.pdf"] == PDF
    mixed = tar_of({"t.tar.gz": tar_of({"z.zip": zip_of({"a.pdf": PDF})}, "gz"), "b.pdf": PDF})
    assert walked(mixed, "x.tar", tmp_path) == [("t.tar.gz/z.zip/a.pdf", PDF), ("b.pdf", PDF)]


def test_what_is_no_document_is_told_and_does_no_harm(tmp_path):
    content = zip_of({"__MACOSX/._a.pdf": b"x", "readme.txt": b"x", "without-ending": PDF})
    assert walked(content, "x.zip", tmp_path) == [
        ("__MACOSX/._a.pdf", "is no document"),
        ("readme.txt", "is no PDF"),
        ("without-ending", PDF),
    ]


@pytest.mark.parametrize(
    "name", ["../up.pdf", "a/../../up.pdf", "/abs.pdf", "C:\\abs.pdf", "a\\..\\up.pdf", "C:x.pdf"]
)
def test_names_of_attacks_are_refused(tmp_path, name):
    assert refusal_of_name(name)
    for content, archive in (
        (zip_of({name: PDF, "b.pdf": PDF}), "x.zip"),
        (tar_of({name: PDF, "b.pdf": PDF}), "x.tar"),
    ):
        found = walked(content, archive, tmp_path)
        assert "name" in found[0][1]
        assert found[1] == ("b.pdf", PDF)
    assert list(tmp_path.iterdir()) == []


def test_links_devices_and_sparse_members_of_a_tar_are_refused(tmp_path):
    sparse = info("holes.pdf", tarfile.GNUTYPE_SPARSE)
    content = tar_of(
        {
            "1": info("soft.pdf", tarfile.SYMTYPE, "/etc/passwd"),
            "2": info("hard.pdf", tarfile.LNKTYPE, "b.pdf"),
            "3": info("fifo.pdf", tarfile.FIFOTYPE),
            "4": info("dev.pdf", tarfile.CHRTYPE),
            "5": sparse,
            "b.pdf": PDF,
        }
    )
    for packed in (content, gzip.compress(content, mtime=0)):
        found = dict(walked(packed, "x.tar", tmp_path))
        assert found["soft.pdf"] == "is a symbolic link"
        assert found["hard.pdf"] == "is a hard link"
        assert found["fifo.pdf"] == found["dev.pdf"] == "is no regular file"
        assert found["holes.pdf"] == "is sparse: a bomb"
        assert found["b.pdf"] == PDF


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        link = zipfile.ZipInfo("link.pdf")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert walked(made.getvalue(), "x.zip", tmp_path) == [("link.pdf", "is a symbolic link")]


def test_an_encrypted_member_is_refused_and_the_next_one_read(tmp_path):
    content = bytearray(zip_of({"secret.pdf": PDF, "b.pdf": PDF}))
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    content[6] |= 1
    found = walked(bytes(content), "x.zip", tmp_path)
    assert found == [("secret.pdf", "is encrypted"), ("b.pdf", PDF)]


def test_bombs_are_refused_and_the_next_one_read(tmp_path):
    zeros = bytes(32 << 20)
    found = walked(zip_of({"bomb.pdf": zeros, "b.pdf": PDF}), "x.zip", tmp_path)
    assert found[0][1].startswith("a bomb")
    assert found[1] == ("b.pdf", PDF)
    nested = zip_of({"bomb.zip": zip_of({"bomb.pdf": zeros}), "b.pdf": PDF})
    found = walked(nested, "x.zip", tmp_path)
    assert found[0][1].startswith("a bomb")
    assert found[1] == ("b.pdf", PDF)
    found = walked(tar_of({"b.pdf": PDF, "bomb.pdf": zeros, "c.pdf": PDF}, "gz"), "x.tgz", tmp_path)
    assert found[0] == ("b.pdf", PDF)
    assert "a bomb" in found[-1][1]


def test_a_member_that_says_less_than_it_becomes_is_refused(tmp_path):
    content = bytearray(zip_of({"lies.pdf": bytes(20 << 20), "b.pdf": PDF}))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 100)
    found = walked(bytes(content), "x.zip", tmp_path)
    assert "CRC" in found[0][1]
    assert found[1] == ("b.pdf", PDF)


def test_absolute_limits_hold(tmp_path):
    content = zip_of({"a.pdf": PDF * 100, "b.pdf": PDF})
    found = walked(content, "x.zip", tmp_path, Limits(document_bytes=50))
    assert "too large" in found[0][1]
    assert found[1] == ("b.pdf", PDF)
    found = walked(content, "x.zip", tmp_path, Limits(members=1))
    assert found == [("", "the archive cannot be read (on): more than 1 members")]
    inner = zip_of({"in.zip": content, "b.pdf": PDF})
    found = walked(inner, "x.zip", tmp_path, Limits(nested_bytes=50))
    assert found == [("in.zip", "has more than 50 bytes"), ("b.pdf", PDF)]


def test_members_that_overlap_are_refused(tmp_path):
    content = bytearray(zip_of({"a.pdf": PDF, "b.pdf": b"%PDF-2", "c.pdf": b"%PDF-3"}))
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # begins where the first one does
    found = walked(bytes(content), "x.zip", tmp_path)
    assert [told for _, told in found[:2]] == ["overlaps another member: a bomb"] * 2
    assert found[2] == ("c.pdf", b"%PDF-3")


@pytest.mark.parametrize("packing", ["", "gz"])
def test_of_an_archive_that_is_cut_off_what_is_there_is_read(tmp_path, packing):
    noise = random.Random(1).randbytes(40_000)
    whole = tar_of({f"{number}.pdf": PDF + noise for number in range(5)}, packing)
    found = walked(whole[: len(whole) // 2], f"x.tar.{packing}", tmp_path)
    assert found[0] == ("0.pdf", PDF + noise)
    assert "the archive cannot be read (on)" in found[-1][1]
    at_a_border = tar_of({"a.pdf": PDF, "b.pdf": PDF})[:1024]
    found = walked(at_a_border, "x.tar", tmp_path)
    assert found == [
        ("a.pdf", PDF),
        ("", "the archive cannot be read (on): it is cut off: its end is missing"),
    ]


def test_a_zip_that_is_cut_off_is_one_refusal(tmp_path):
    whole = zip_of({"a.pdf": PDF, "b.pdf": PDF})
    assert walked(whole[:-30], "x.zip", tmp_path)[0][0] == ""
    nested = tar_of({"bad.zip": whole[:-30], "liar.zip": PDF, "b.pdf": PDF})
    found = walked(nested, "x.tar", tmp_path)
    assert [name for name, _ in found] == ["bad.zip", "liar.zip", "b.pdf"]
    assert "a PDF" in found[1][1]
    assert found[2][1] == PDF


def test_damage_in_the_middle_of_a_tar_is_not_taken_for_its_end(tmp_path):
    content = bytearray(tar_of({"a.pdf": PDF, "b.pdf": PDF, "c.pdf": PDF}))
    content[1024:1100] = b"\xff" * 76
    found = walked(bytes(content), "x.tar", tmp_path)
    assert found[0] == ("a.pdf", PDF)
    assert "damaged" in found[-1][1]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_raises(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["zip", "tar", "tar.gz"]))
    members = {"a.pdf": PDF, "in.zip": zip_of({"b.pdf": PDF}), "c.pdf": PDF * 50}
    whole = zip_of(members) if kind == "zip" else tar_of(members, kind[4:])
    content = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 6))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    walked(bytes(content), f"x.{kind}", tmp_path_factory.getbasetemp())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40), st.booleans(), st.booleans())
def test_ranges_cover_each_item_once(sizes, is_packed, is_fine):
    tops = [[index, 512 * index, size] for index, size in enumerate(sizes)]
    found = list(ranges(tops, is_packed, is_fine))
    assert [number for each in found for number in range(each.first, each.last)] == list(
        range(sum(sizes))
    )
    assert all(each.before <= each.first < each.last for each in found)
    assert all(each.last - each.first < 2 * max(LEAST, sum(sizes) / 8) for each in found)


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_range_gives_what_a_whole_walk_gives_there(tmp_path, kind, is_cut):
    many = {f"{number:04}.pdf": b"%%PDF-%d" % number for number in range(300)}
    members = {"a.pdf": PDF, "in.zip": zip_of(many), **many, "notes.txt": b"x"}
    content = zip_of(members) if kind == "zip" else tar_of(members, kind[4:])
    content = content[: len(content) * 9 // 10] if is_cut else content
    whole, tops = walked(content, f"x.{kind}", tmp_path), []
    file = io.BufferedReader(io.BytesIO(content))
    is_packed = is_stream(file)
    for item in Walk(Limits(), tmp_path, len(content)).items(file, f"x.{kind}"):
        if not tops or tops[-1][0] != item.top.index:
            tops.append([item.top.index, item.top.offset, 0])
        tops[-1][2] += 1
    found = []
    for each in ranges(tops, is_packed, is_fine=True):
        start = Start(each.index, each.offset)
        seen = walked(content, f"x.{kind}", tmp_path, start=start, before=each.before)
        found += seen[each.first - each.before : each.last - each.before]
    assert found == whole
    assert is_cut or len(found) == 602
