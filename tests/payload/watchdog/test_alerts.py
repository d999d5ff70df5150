"""What people are told, over real HTTP."""

import json

from remote.payload.watchdog import alerts
from remote.payload.watchdog.alerts import Alerts


def told(web, folder, address, capsys):
    (folder / "notify").write_text(address + "\n")
    voices = Alerts(folder)
    voices.tell("box gpu is stuck", "job train-1 is silent")
    voices.finish(10)
    assert capsys.readouterr().out == "windlass: box gpu is stuck: job train-1 is silent\n"
    return web.asked


def test_ntfy_gets_a_title_and_a_text(web, tmp_path, capsys):
    ((method, path, headers, body),) = told(web, tmp_path, f"{web.url}/my-topic", capsys)
    assert (method, path, headers["Title"], body) == (
        "POST",
        "/my-topic",
        "box gpu is stuck",
        "job train-1 is silent",
    )


def test_a_webhook_gets_json(web, tmp_path, capsys):
    ((_, _, headers, body),) = told(web, tmp_path, f"{web.url}/services/T0/B0/secret", capsys)
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["text"] == "box gpu is stuck: job train-1 is silent"


def test_it_tries_again_and_never_writes_the_address_down(web, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(alerts.time, "sleep", lambda seconds: None)
    web.answer = lambda *_: (500, "", {})
    assert len(told(web, tmp_path, f"{web.url}/services/secret", capsys)) == 3
    log = (tmp_path / "log").read_text()
    assert log.count("notification failed: HTTPError") == 3
    assert "secret" not in log


def test_without_an_address_the_console_alone_is_told(web, tmp_path, capsys):
    Alerts(tmp_path).tell("title", "text")
    assert capsys.readouterr().out == "windlass: title: text\n"
    assert web.asked == []


def test_the_log_is_bounded_and_a_full_disk_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(alerts, "_LOG_BYTES", 1000)
    voices = Alerts(tmp_path)
    for number in range(200):
        voices.log(f"line {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2200
    assert (tmp_path / "log").read_text().endswith("line 199\n")
    Alerts(tmp_path / "gone").log("nobody hears")
