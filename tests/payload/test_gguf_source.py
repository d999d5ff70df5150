"""The converter's source: which indexes are asked, what is taken out of the archive, and what a
failure says."""

import contextlib
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading

import pytest

from remote.contract.job.jobs import Cause
from remote.payload.gguf import llama_cpp_source, package_index
from remote.payload.gguf.package_index import Sources, Unreachable, configured_sources
from remote.payload.job import StageFailed

INSIDE = llama_cpp_source._INSIDE


def archive_of(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive of the same form, whose digests are the expected ones, and pip set to reach
    nothing."""
    path = archive_of(
        tmp_path / llama_cpp_source.ARCHIVE,
        {
            f"{INSIDE}convert_hf_to_gguf.py": b"print('hello')\n",
            f"{INSIDE}conversion/base.py": b"x = 1\n",
            f"{INSIDE}gguf-py/gguf/__init__.py": b"",
            f"{INSIDE}conversion/notes.txt": b"not Python",
            f"{INSIDE}src/llama.cpp": b"// not wanted",
            f"{INSIDE}conversion/../../../../evil.py": b"boom",
            f"{INSIDE}conversion/link.py": None,
            "/conversion/absolute.py": b"boom",
        },
    )
    monkeypatch.setattr(llama_cpp_source, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    unpacked = tmp_path / "expected"
    with tarfile.open(path) as members:
        llama_cpp_source._copy_members(members, unpacked)
    monkeypatch.setattr(llama_cpp_source, "TREE_SHA256", llama_cpp_source.tree_digest(unpacked))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in (
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_NO_INDEX",
        llama_cpp_source.LOCAL_ARCHIVE,
    ):
        monkeypatch.delenv(name, raising=False)
    return path


class Index(http.server.SimpleHTTPRequestHandler):
    """A simple index with one file; wants `Basic dTpw` (u:p); lists in HTML or JSON by the path."""

    asked: list

    def __init__(self, archive, asked, *args):
        self.archive, self.asked = archive, asked
        super().__init__(*args)

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        if self.path.endswith(".tar.gz"):
            return self.answer("application/gzip", self.archive.read_bytes())
        if self.path.startswith("/json/"):
            files = {
                "files": [
                    {"filename": self.archive.name, "url": f"../../files/{self.archive.name}"}
                ]
            }
            return self.answer("application/vnd.pypi.simple.v1+json", json.dumps(files).encode())
        return self.answer(
            "text/html",
            f'<a href="/files/{self.archive.name}#sha256=0">{self.archive.name}</a>'.encode(),
        )

    def answer(self, kind, content):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def index_of(archive):
    asked = []
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Index, archive, asked)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://u:p@127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("form", ["html", "json"])
def test_fetched_from_an_index_once(archive, tmp_path, monkeypatch, form):
    with index_of(archive) as (index, asked):
        monkeypatch.setenv("PIP_INDEX_URL", f"{index}/{form}/simple/")
        folder = llama_cpp_source.ensure(tmp_path / "caches")
        assert llama_cpp_source.ensure(tmp_path / "caches") == folder
    files = "files" if form == "html" else "json/files"
    assert [path for path, _ in asked] == [
        f"/{form}/simple/llama-cpp-python/",
        f"/{files}/{archive.name}",
    ]
    assert {credentials for _, credentials in asked} == {"Basic dTpw"}
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    assert files == ["conversion/base.py", "convert_hf_to_gguf.py", "gguf-py/gguf/__init__.py"]
    assert [
        path.name for path in (tmp_path / "caches").iterdir() if not path.name.endswith(".lock")
    ] == [folder.name]
    assert not (tmp_path / "evil.py").exists()


def test_a_damaged_cache_is_unpacked_again_and_compiled_files_are_no_damage(archive, tmp_path):
    caches = tmp_path / "caches"
    caches.mkdir()
    (caches / archive.name).write_bytes(archive.read_bytes())
    folder = llama_cpp_source.ensure(caches)
    (folder / "conversion/__pycache__").mkdir()
    (folder / "conversion/__pycache__/base.pyc").write_bytes(b"x")
    llama_cpp_source.ensure(caches)
    assert (folder / "conversion/__pycache__/base.pyc").exists()
    (folder / "conversion/base.py").write_text("tampered")
    llama_cpp_source.ensure(caches)
    assert (folder / "conversion/base.py").read_text() == "x = 1\n"
    assert (caches / archive.name).exists(), "a file that a person put there stays"


def test_named_by_the_environment(archive, tmp_path, monkeypatch):
    monkeypatch.setenv(llama_cpp_source.LOCAL_ARCHIVE, str(archive))
    assert (llama_cpp_source.ensure(tmp_path / "caches") / "convert_hf_to_gguf.py").exists()


def test_found_among_links_of_pip(archive, tmp_path, monkeypatch):
    links = tmp_path / "wheels"
    links.mkdir()
    archive.rename(links / archive.name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert (llama_cpp_source.ensure(tmp_path / "caches") / "convert_hf_to_gguf.py").exists()


def test_a_file_index_is_read(archive, tmp_path, monkeypatch):
    page = tmp_path / "simple" / "llama-cpp-python" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(f'<a href="../../{archive.name}#sha256=x">{archive.name}</a>')
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "simple").as_uri())
    assert (llama_cpp_source.ensure(tmp_path / "caches") / "convert_hf_to_gguf.py").exists()


def test_another_archive_under_its_name_is_refused(archive, tmp_path, monkeypatch):
    wrong = archive_of(tmp_path / "wrong.tar.gz", {f"{INSIDE}convert_hf_to_gguf.py": b"evil"})
    monkeypatch.setenv(llama_cpp_source.LOCAL_ARCHIVE, str(wrong))
    with pytest.raises(StageFailed) as failure:
        llama_cpp_source.ensure(tmp_path / "caches")
    assert "SHA-256" in failure.value.why
    with index_of(wrong) as (index, _), pytest.raises(Unreachable, match="SHA-256"):
        package_index.fetch(
            "p",
            "wrong.tar.gz",
            llama_cpp_source.SHA256,
            tmp_path / "got",
            Sources((f"{index}/simple",)),
        )
    assert not (tmp_path / "got").exists()


def test_an_archive_that_unpacks_to_something_else_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_cpp_source, "TREE_SHA256", "0" * 64)
    monkeypatch.setenv(llama_cpp_source.LOCAL_ARCHIVE, str(archive))
    with pytest.raises(StageFailed) as failure:
        llama_cpp_source.ensure(tmp_path / "caches")
    assert failure.value.cause is Cause.ARTIFACT
    assert [path for path in (tmp_path / "caches").iterdir() if path.is_dir()] == []


def test_unreachable_says_what_was_tried_and_where_to_put_the_file_but_no_password(
    archive, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    archive.unlink()
    with pytest.raises(StageFailed) as failure:
        llama_cpp_source.ensure(tmp_path / "caches")
    assert "127.0.0.1:9" in failure.value.why
    assert str(tmp_path) in failure.value.why
    assert str(tmp_path / "caches" / llama_cpp_source.ARCHIVE) in failure.value.remedy
    assert "secret" not in failure.value.why + failure.value.remedy
    assert [
        path.name for path in (tmp_path / "caches").iterdir() if not path.name.endswith(".lock")
    ] == []


def test_settings_are_read_as_pip_reads_them(tmp_path):
    first, second = tmp_path / "a.conf", tmp_path / "b.conf"
    first.write_text(
        "[global]\nindex-url = https://one/simple\nextra-index-url = https://x/simple\n "
        " https://y/simple\ncert = /c.pem\n"
    )
    second.write_text(
        "[global]\nfind-links = /wheels /more\n[install]\nindex-url = https://two/simple\n[broken\n"
    )
    assert configured_sources({}, [first]) == Sources(
        ("https://one/simple", "https://x/simple", "https://y/simple"), (), "/c.pem"
    )
    assert configured_sources({}, [first, second]).indexes[0] == "https://one/simple", (
        "a broken file is passed over"
    )
    second.write_text(
        "[global]\nfind_links = /wheels /more\n[install]\nindex-url = https://two/simple\n"
    )
    assert configured_sources({}, [first, second]).indexes[0] == "https://two/simple"
    assert configured_sources({}, [first, second]).links == ("/wheels", "/more")
    assert (
        configured_sources({"PIP_INDEX_URL": "https://three/simple"}, [first]).indexes[0]
        == "https://three/simple"
    )
    assert configured_sources({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/w"}, [first]) == Sources(
        (), ("/w",), "/c.pem"
    )
    assert configured_sources({}, []) == Sources(("https://pypi.org/simple",))
