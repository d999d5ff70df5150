"""The dataset's checks, and whether the box reaches the bucket."""

import http.server
import json
import threading

import pytest

from remote.contract.job.checks import Verdict
from remote.payload.preflight import data, storage
from remote.payload.preflight.request import Request


def _line(number, group=""):
    return json.dumps(
        {"instruction": "Say it.", "input": "", "output": f"It {number}.", "group": group}
    )


def _write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def _checks(**inputs):
    return {check.name: check for check in data.checks(Request(inputs=inputs))}


def test_good_rows(tmp_path):
    train = _write(tmp_path / "train.jsonl", *(_line(number, f"g{number}") for number in range(5)))
    val = _write(tmp_path / "val.jsonl", _line(9, "g9"), "")
    found = _checks(train=train, val=val)
    assert {check.verdict for check in found.values()} == {Verdict.OK}
    assert found["dataset"].measured == "5 rows"


def test_a_file_of_another_kind_is_named(tmp_path):
    pointer = _write(
        tmp_path / "train.jsonl",
        "version https://git-lfs.github.com/spec/v1",
        "oid sha256:00",
        "size 7",
    )
    check = _checks(train=pointer)["dataset"]
    assert (check.verdict, check.measured) == (Verdict.FAIL, "train.jsonl is a Git LFS pointer")
    assert "lfs pull --include train.jsonl" in check.remedy and "JSON Lines" in check.expected


@pytest.mark.parametrize(("good", "verdict"), [(5, Verdict.FAIL), (100, Verdict.WARN)])
def test_bad_rows_are_named_by_line(tmp_path, good, verdict):
    train = _write(
        tmp_path / "train.jsonl", *(_line(number) for number in range(good)), '{"instruction": "x"}'
    )
    check = _checks(train=train)["dataset"]
    assert check.verdict is verdict
    assert f"train.jsonl:{good + 1}: lacks the field `output`" in check.measured


def test_no_rows_no_file_and_no_name(tmp_path):
    assert _checks(train=_write(tmp_path / "empty.jsonl"))["dataset"].verdict is Verdict.FAIL
    assert "No such file" in _checks(train=str(tmp_path / "absent.jsonl"))["dataset"].measured
    assert _checks()["dataset"].measured == "not named"


def test_rows_told_twice_and_rows_on_both_sides(tmp_path):
    train = _write(tmp_path / "train.jsonl", _line(1, "a"), _line(1, "a"), _line(2, "b"))
    val = _write(tmp_path / "val.jsonl", _line(2, "b"), _line(3, "a"))
    found = _checks(train=train, val=val)
    assert (found["duplicates"].verdict, found["leakage"].verdict) == (Verdict.WARN, Verdict.WARN)
    assert found["leakage"].measured.startswith("1 held-out rows and 2 groups")


def test_a_folder_of_rows(tmp_path):
    _write(tmp_path / "a.jsonl", _line(1))
    _write(tmp_path / "b.jsonl", _line(2))
    assert _checks(train=str(tmp_path))["dataset"].measured == "2 rows"


@pytest.fixture
def bucket():
    """A server that answers HEAD with the status in the path."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *words):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.OK), (403, Verdict.OK), (404, Verdict.FAIL), (503, Verdict.WARN)],
)
def test_the_bucket_answers(bucket, status, verdict):
    assert storage.reach(f"{bucket}/{status}").verdict is verdict


def test_no_bucket_is_skipped_and_a_closed_port_fails():
    assert storage.checks(Request())[0].verdict is Verdict.SKIP
    assert storage.reach("http://127.0.0.1:9/").verdict is Verdict.FAIL
    assert storage.reach("nonsense").verdict is Verdict.FAIL
