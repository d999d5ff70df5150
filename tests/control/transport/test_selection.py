"""Which files go to a box: asked of git in a checkout, of `.gitignore` outside one; the same cases
for both."""

import io
import os
import socket
import subprocess
import unicodedata

import pytest

from remote.control.errors import ConfigError, LaptopError
from remote.control.project import CODE
from remote.control.transport.push import ignored
from remote.control.transport.push import release as release_module
from remote.control.transport.push.release import release_of
from remote.control.transport.push.selection import Push, Selection, rest_of_project, select

NFD = unicodedata.normalize("NFD", "größe.txt")
UNDECODABLE = os.fsdecode(b"caf\xe9.txt")
LONG = "n" * 251 + ".txt"


@pytest.fixture(params=["git", "files"])
def project(request, tmp_path, monkeypatch):
    """A project, in a checkout or without."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.setenv("WINDLASS_PROJECT", str(root))
    if request.param == "git":
        git(root, "init", "-q")
    return root


def git(folder, *words):
    subprocess.run(
        ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@x", *words],
        check=True,
        capture_output=True,
    )


def fill(root, **files):
    for name, text in files.items():
        write(root / name.replace("__", "/"), text)


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def going(selection):
    return {
        each.name.removeprefix("files/")
        for each in selection.goes
        if each.name.startswith("files/")
    }


def staying(selection):
    return {each.name: each.why for each in selection.stays}


def folder_of(root):
    """A folder with one of everything that matters."""
    write(root / ".gitignore", "*.bin\n!keep.bin\n/data/cache/\n# *.txt\n\\#odd\n")
    write(root / "data/.gitignore", "!wanted.bin\n*.tmp\n")
    for name in (
        "a.txt",
        "b.bin",
        "keep.bin",
        "wanted.bin",
        "x.tmp",
        "cache/deep/c.txt",
        "cache/keep.bin",
        "empty.txt",
        "#odd",
        "sub/cache/d.txt",
        "with space.txt",
        "new\nline.txt",
        "-dash.txt",
        NFD,
        UNDECODABLE,
        LONG,
        ".hidden",
    ):
        write(
            root / "data" / name,
            "" if name == "empty.txt" else name.encode(errors="surrogateescape").hex(),
        )
    (root / "data/nothing").mkdir()
    return root / "data"


KEPT = {
    "a.txt",
    "keep.bin",
    "wanted.bin",
    "empty.txt",
    "sub/cache/d.txt",
    "with space.txt",
    "new\nline.txt",
    "-dash.txt",
    NFD,
    UNDECODABLE,
    LONG,
    ".hidden",
    ".gitignore",
}


def test_of_a_named_folder_goes_what_git_would_keep(project):
    selection = select([folder_of(project)])
    assert going(selection) == {f"data/{name}" for name in KEPT}
    why = staying(selection)
    assert set(why) == {"data/b.bin", "data/x.tmp", "data/cache/", "data/#odd"}
    assert (
        ".gitignore" in why["data/b.bin"]
        and "*.bin" in why["data/b.bin"]
        and "*.tmp" in why["data/x.tmp"]
    )
    cache = next(each for each in selection.stays if each.name == "data/cache/")
    assert cache.files == 2 and cache.size > 0


def test_a_file_that_is_named_always_goes(project):
    folder = folder_of(project)
    selection = select([folder / "b.bin", folder / "cache/deep/c.txt"], Push(exclude=["*.bin"]))
    assert going(selection) == {"data/b.bin", "data/cache/deep/c.txt"} and not selection.stays


def test_a_folder_that_git_ignores_goes_whole_when_it_is_named(project):
    folder = folder_of(project)
    write(folder / "cache/x.tmp")
    assert going(select([folder / "cache"])) == {
        "data/cache/deep/c.txt",
        "data/cache/keep.bin",
        "data/cache/x.tmp",
    }
    assert going(select([folder / "cache"], Push(exclude=["cache/**/*.txt", "*.tmp"]))) == {
        "data/cache/keep.bin",
        "data/cache/deep/c.txt",
    }
    assert going(select([folder / "cache"], Push(exclude=["**/cache/**/*.txt"]))) == {
        "data/cache/keep.bin",
        "data/cache/x.tmp",
    }


def test_excluded_is_left_and_told(project):
    fill(project, data__a="1", data__b_ckpt="2", data__deep__c="3")
    selection = select([project / "data"], Push(exclude=["*_ckpt", "data/deep/"]))
    assert going(selection) == {"data/a"}
    assert staying(selection) == {
        "data/b_ckpt": "push.exclude: *_ckpt",
        "data/deep/c": "push.exclude: data/deep/",
    }


def test_included_is_what_the_patterns_name_less_what_git_ignores(project):
    fill(project, scripts__a_py="1", scripts__deep__b_py="2", other="3", keys__id="4")
    write(project / ".gitignore", "keys/\n")
    write(project / ".windlass/keys/secret")
    push = Push(include=["scripts/**", "!scripts/deep/**", "keys/**", "nowhere/**"], exclude=[])
    selection = select(push=push)
    assert going(selection) == {"scripts/a_py"}
    assert [warning.partition(":")[0] for warning in selection.warnings] == [
        "push.include `keys/**`",
        "push.include `nowhere/**`",
    ]
    assert "keys/" in selection.warnings[0] and ".gitignore" in selection.warnings[0]
    assert going(select(push=Push(include=["**"]))) >= {"other", "scripts/a_py"}
    assert not [
        name
        for name in going(select(push=Push(include=["**"])))
        if ".windlass" in name or ".git/" in name
    ]


def test_the_rest_of_the_project_is_summed_up(project):
    fill(project, named="12", other="345", keys__id="4567")
    write(project / ".gitignore", "keys/\n")
    rest, ignored_too = rest_of_project(select([project / "named"]))
    assert (rest.files, ignored_too.files, ignored_too.size) == (2, 1, 4)


def test_links_within_are_kept_and_lead_to_the_same(project):
    fill(project, data__a="1", data__deep__b="2", data__deep__c="3")
    data = project / "data"
    (data / "to_a").symlink_to("a")
    (data / "deep/up").symlink_to("../a")
    (data / "whole").symlink_to(data / "a")
    (data / "folder").symlink_to("deep")
    (data / "again").symlink_to("to_a")
    (data / "by_the_folder").symlink_to("folder/b")
    (data / "around").symlink_to("../data/deep/c")
    selection = select([data])
    targets = {
        each.name.removeprefix("files/data/"): each.target for each in selection.goes if each.target
    }
    assert targets == {
        "to_a": "a",
        "deep/up": "../a",
        "whole": "a",
        "folder": "deep",
        "again": "to_a",
        "by_the_folder": "deep/b",
        "around": "deep/c",
    }


def test_a_link_goes_where_the_system_follows_it_not_where_its_letters_say(project):
    fill(project, data__a="near", data__deep__a="far", data__deep__below__b="3")
    data = project / "data"
    (data / "folder").symlink_to("deep/below")
    (data / "far").symlink_to("folder/../a")
    (data / "..odd").symlink_to("a")
    (data / "to_odd").symlink_to("..odd")
    targets = {
        each.name.removeprefix("files/data/"): each.target
        for each in select([data]).goes
        if each.target
    }
    assert targets == {"folder": "deep/below", "far": "deep/a", "..odd": "a", "to_odd": "..odd"}


def test_a_link_that_cannot_be_followed_is_told(project):
    fill(project, data__a="1")
    (project / "data/odd").symlink_to("n" * 300)
    with pytest.raises(
        (LaptopError, ConfigError), match="odd"
    ):  # the newest Pythons say that nothing is there
        select([project / "data"])


def test_links_that_lead_out_by_a_chain_are_refused(project):
    fill(project, data__a="1", data__deep__b="2", secret="3")
    data = project / "data"
    (data / "deep/up").symlink_to("..")
    (data / "out").symlink_to("deep/up/../secret")
    with pytest.raises(ConfigError) as caught:
        select([data])
    assert [finding.where for finding in caught.value.findings] == ["data/out"]


def test_links_that_lead_out_are_refused_all_at_once_by_name(project, tmp_path):
    fill(project, data__a="1", elsewhere="2")
    write(project / ".gitignore", "*.secret\n")
    write(project / "data/x.secret")
    for name, aim in {
        "out": "../elsewhere",
        "etc": "/etc/passwd",
        "gone": "no such",
        "ignored": "x.secret",
        "loop": "loop",
    }.items():
        (project / "data" / name).symlink_to(aim)
    with pytest.raises(ConfigError) as caught:
        select([project / "data"])
    found = {finding.where: finding for finding in caught.value.findings}
    assert set(found) == {f"data/{name}" for name in ("out", "etc", "gone", "ignored", "loop")}
    assert "push.exclude" in found["data/out"].remedy and "/etc/passwd" in found["data/etc"].what
    assert going(
        select([project / "data"], Push(exclude=["out", "etc", "gone", "ignored", "loop"]))
    ) == {"data/a"}


def test_a_named_link_goes_as_what_it_leads_to(project, tmp_path):
    (project / "link").symlink_to(write(tmp_path / "outside", "content"))
    assert going(select([project / "link"])) == {f"elsewhere{tmp_path}/outside"}


def test_nothing_of_a_folder_is_an_error(project):
    (project / "empty").mkdir()
    write(project / "left/a.bin")
    write(project / ".gitignore", "*.bin\n")
    with pytest.raises(ConfigError) as caught:
        select([project / "empty", project / "left", project / "absent"])
    assert [finding.what for finding in caught.value.findings] == [
        "an empty folder",
        "nothing of this folder goes to the box",
        "no such file",
    ]


def test_what_is_neither_file_nor_link_is_told(project, monkeypatch):
    write(project / "data/a")
    os.mkfifo(project / "data/pipe")
    monkeypatch.chdir(project / "data")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        selection = select([project / "data"])
    assert going(selection) == {"data/a"}
    if ignored.listing(project, project).rules == ignored.BY_FILES:  # git never speaks of such
        assert staying(selection) == {
            "files/data/pipe": "neither file nor link",
            "files/data/socket": "neither file nor link",
        }


def test_a_surprise_is_told_with_its_largest(project):
    for name, size in {"a": 3_000_000, "b": 9_000_000, "c": 1_000, "d": 2_000_000}.items():
        write(project / "data" / name, "0" * size)
    [warning] = select([project / "data"], Push(warn_mb=10)).warnings
    assert (
        "data/b (9.0 MB), data/a (3.0 MB), data/d (2.0 MB)" in warning
        and "push.warn_mb: 10" in warning
    )
    assert not select([project / "data"]).warnings


def test_windlass_itself_always_goes(project):
    selection = select(push=Push(exclude=["*.py", "remote/"]))
    names = {each.name for each in selection.goes}
    assert {
        "remote/__init__.py",
        "remote/payload/jobs/supervise.py",
        "remote/contract/job/jobs.py",
    } <= names
    assert not [name for name in names if "__pycache__" in name or "/control/" in name]


def test_git_knows_more_than_patterns(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    git(tmp_path, "init", "-q")
    fill(tmp_path, data__tracked_bin="1", data__deleted="2", data__excluded="3", data__a="4")
    git(tmp_path, "add", ".")
    write(tmp_path / ".gitignore", "*_bin\n")
    git(tmp_path, "rm", "-q", "--cached", "data/excluded")
    write(tmp_path / ".git/info/exclude", "excluded\n")
    (tmp_path / "data/deleted").unlink()
    inner = tmp_path / "data/inner"
    fill(inner, kept="1", left_bin="2", left_o="3")
    git(inner, "init", "-q")
    write(inner / ".gitignore", "*_o\n")
    selection = select([tmp_path / "data"])
    assert going(selection) == {
        "data/tracked_bin",
        "data/a",
        "data/inner/kept",
        "data/inner/left_bin",
        "data/inner/.gitignore",
    }
    assert "info/exclude" in staying(selection)["data/excluded"]


def test_without_git_the_files_say_it(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path))
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path / "no programs here"))
    folder = folder_of(tmp_path)
    assert going(select([folder])) == {f"data/{name}" for name in KEPT}


def test_an_unreadable_file_is_named(project, monkeypatch):
    path = write(project / "data/a")
    real = os.open

    def refuse(name, *words, **more):
        if name == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(name, *words, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LaptopError, match="data/a") as caught:
        release_of(select([path]))
    assert caught.value.why == "Permission denied"


# ---- repositories within repositories ----


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A clone whose submodules were never checked out: `vendor/one`, and in that, `deep/two`."""
    for name in ("two", "one", "whole"):
        fill(tmp_path / name, **{f"{name}_file": "x"})
        git(tmp_path / name, "init", "-q")
        inner = {"one": ("two", "deep/two"), "whole": ("one", "data/vendor/one")}.get(name)
        if inner:
            git(
                tmp_path / name,
                "-c",
                "protocol.file.allow=always",
                "submodule",
                "add",
                str(tmp_path / inner[0]),
                inner[1],
            )
        git(tmp_path / name, "add", ".")
        git(tmp_path / name, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", str(tmp_path / "whole"), str(tmp_path / "project"))
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "project"))
    write(tmp_path / "project/data/a")
    return tmp_path / "project"


def update(checkout, *words):
    git(checkout, "-c", "protocol.file.allow=always", "submodule", "update", "--init", *words)


def test_a_submodule_that_was_never_checked_out_is_an_empty_folder(checkout):
    selection = select([checkout / "data"], Push(include=["data/**"]))
    assert going(selection) == {"data/a"}
    assert "git submodule update --init" in staying(selection)["data/vendor/one/"]
    assert rest_of_project(selection)
    with pytest.raises(ConfigError) as caught:
        select([checkout / "data/vendor/one"])
    [finding] = caught.value.findings
    assert (
        finding.what == "an empty folder"
        and f"git submodule update --init {checkout}/data/vendor/one" in finding.remedy
    )


def test_a_submodule_in_a_submodule_goes_as_far_as_it_is_checked_out(checkout):
    update(checkout)
    selection = select([checkout / "data"])
    assert going(selection) == {"data/a", "data/vendor/one/one_file", "data/vendor/one/.gitmodules"}
    update(checkout, "--recursive")
    assert "data/vendor/one/deep/two/two_file" in going(select([checkout / "data"]))
    assert going(select([checkout / "data/vendor/one/deep"])) == {
        "data/vendor/one/deep/two/two_file"
    }


def test_what_somebody_put_into_a_submodule_that_was_never_checked_out_goes(checkout):
    write(checkout / "data/vendor/one/deep/mine")
    assert going(select([checkout / "data"])) == {"data/a", "data/vendor/one/deep/mine"}
    assert going(select([checkout / "data/vendor/one"])) == {"data/vendor/one/deep/mine"}


def test_a_worktree_a_git_file_that_leads_nowhere_and_a_repository_without_a_commit(checkout):
    git(checkout, "worktree", "add", "-q", "--detach", str(checkout / "data/tree"))
    write(checkout / "data/broken/.git", "gitdir: /nowhere\n")
    write(checkout / "data/broken/b")
    write(checkout / "data/nonsense/.git", "\0nonsense")
    write(checkout / "data/nonsense/n")
    write(checkout / "data/new/c")
    git(checkout / "data/new", "init", "-q")
    expected = {
        "data/a",
        "data/broken/b",
        "data/nonsense/n",
        "data/new/c",
        "data/tree/whole_file",
        "data/tree/.gitmodules",
    }
    assert going(select([checkout / "data"])) == expected
    assert going(select([checkout / "data/broken"])) == {"data/broken/b"}


def test_a_repository_that_a_hook_speaks_of_is_not_asked(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "two"))
    assert going(select([checkout / "data"])) == {"data/a"}


def test_no_program_that_a_repository_names_is_run(checkout):
    git(checkout, "config", "core.fsmonitor", f"touch {checkout}/ran; true")
    assert going(select([checkout / "data"])) == {"data/a"} and not (checkout / "ran").exists()


# ---- odd trees ----


def test_links_in_a_circle_are_told_where_they_are_named(project):
    (project / "one").symlink_to("two")
    (project / "two").symlink_to("one")
    with pytest.raises(ConfigError) as caught:
        select([project / "one"])
    assert caught.value.findings[0].what == "neither a file nor a folder"


def test_a_pipe_that_is_named_is_no_file(project):
    os.mkfifo(project / "pipe")
    with pytest.raises(ConfigError) as caught:
        select([project / "pipe"])
    assert caught.value.findings[0].what == "neither a file nor a folder"


def test_a_link_to_the_folder_that_it_lies_in(project):
    fill(project, data__a="1")
    (project / "data/here").symlink_to(".")
    (project / "data/deep").mkdir()
    (project / "data/deep/up").symlink_to("..")
    targets = {
        each.name.removeprefix("files/data/"): each.target
        for each in select([project / "data"]).goes
        if each.target
    }
    assert targets == {"here": ".", "deep/up": ".."}


def test_a_very_deep_folder(project):
    place, text = project / "data", "x"
    place.mkdir()
    at = os.open(place, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    with open("f", "w", opener=lambda name, flags: os.open(name, flags, dir_fd=at)) as file:
        file.write(text)
    os.close(at)
    try:
        [name] = going(select([place]))
        assert name.count("/d") == 1500
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


def test_a_file_that_becomes_a_pipe_or_vanishes_before_it_is_read(project):
    for turn in (os.mkfifo, lambda path: None):
        path = write(project / "data/a")
        selection = select([project / "data"])
        path.unlink()
        turn(path)
        with pytest.raises(LaptopError, match="data/a"):
            release_of(selection)
        path.unlink(missing_ok=True)


def test_a_file_that_grows_or_shrinks_while_it_is_sent(project):
    path = write(project / "data/a", "0123456789")
    release = release_of(select([project / "data"]))
    number = next(number for number, member in enumerate(release.contents) if member.source == path)
    for text in ("0123456789abc", "01234", "012345678X"):
        path.write_text(text)
        with pytest.raises(LaptopError, match="changes while"):
            list(release.tar([[number, 0]]))


def test_a_file_that_grows_for_ever_is_not_read_for_ever(project, monkeypatch):
    path = write(project / "data/a")
    selection = select([project / "data"])
    monkeypatch.setattr(release_module.regular_files, "opened", Endless)
    with pytest.raises(LaptopError, match="changes while"):
        release_of(Selection(tuple(each for each in selection.goes if each.source == path), (), ()))


class Endless(io.FileIO):
    def read(self, size):
        return b"x" * size


def test_a_name_that_two_files_would_have(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "project"))
    write(tmp_path / "project/elsewhere")
    write(tmp_path / "project/tasks.py", "not ours")
    outside = write(tmp_path / "outside")
    with pytest.raises(ConfigError) as caught:
        select(
            [
                tmp_path / "project/elsewhere",
                outside,
                CODE / "tasks.py",
                tmp_path / "project/tasks.py",
            ]
        )
    assert {finding.where for finding in caught.value.findings} == {
        str(outside),
        str(tmp_path / "project/tasks.py"),
    }
    assert select([outside, CODE / "tasks.py", CODE / "tasks.py"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error_and_not_left_out(project):
    write(project / "data/closed/a")
    (project / "data/closed").chmod(0)
    try:
        with pytest.raises(LaptopError, match="data/closed"):
            select([project / "data"])
    finally:
        (project / "data/closed").chmod(0o700)


def test_folders_elsewhere_follow_their_own_rules(tmp_path, monkeypatch):
    monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path / "project"))
    write(tmp_path / "corpus/.gitignore", "*.bin\n")
    fill(tmp_path, corpus__a="1", corpus__deep__b="2")
    write(tmp_path / "corpus/c.bin")
    base = f"elsewhere{tmp_path}/corpus"
    assert going(select([tmp_path / "corpus", CODE / "tasks.py"])) == {
        f"{base}/a",
        f"{base}/deep/b",
        f"{base}/.gitignore",
        "tasks.py",
    }
    assert going(select([tmp_path / "corpus"], Push(exclude=["/deep/", ".gitignore"]))) == {
        f"{base}/a"
    }
