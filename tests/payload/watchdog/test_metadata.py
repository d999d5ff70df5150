"""The metadata service over HTTP: the embedded cloud's own rules for tokens, and services that
misbehave."""

import json
import socket
import time

import pytest

from remote.embedded.instances import metadata as embedded
from remote.payload.watchdog.metadata import Metadata

DOCUMENT = "dynamic/instance-identity/document"


@pytest.fixture
def facts(web, monkeypatch):
    facts, web.tokens = {}, set()

    def answer(method, path, headers):
        lower = {name.lower(): value for name, value in headers.items()}
        return (*embedded.answer(method, path.removeprefix("/"), lower, facts, web.tokens), {})

    web.answer = answer
    monkeypatch.setenv("WINDLASS_IMDS", web.url)
    return facts


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_a_start_is_named_by_its_moment(facts):
    facts[DOCUMENT] = json.dumps({"pendingTime": "2026-11-21T12:00:00Z"})
    assert Metadata().session() == "1795262400"


def test_notices_are_told_once_they_are_there(facts):
    service = Metadata()
    facts["meta-data/instance-life-cycle"] = "spot"
    assert service.is_spot()
    assert service.interruption() is None
    assert service.rebalance() == ""
    facts["meta-data/spot/instance-action"] = json.dumps(
        {"action": "terminate", "time": moment(100)}
    )
    facts["meta-data/events/recommendations/rebalance"] = json.dumps(
        {"noticeTime": "2026-11-21T12:00:00Z"}
    )
    action, seconds = service.interruption()
    assert action == "terminate"
    assert 95 < seconds <= 101
    assert service.rebalance() == "2026-11-21T12:00:00Z"


def test_a_token_that_is_no_longer_good_is_renewed(facts, web):
    service = Metadata()
    facts["meta-data/instance-life-cycle"] = "on-demand"
    facts[DOCUMENT] = json.dumps({"pendingTime": "2026-11-21T12:00:00Z"})
    assert not service.is_spot()
    web.tokens.clear()
    assert service.session() == "1795262400"
    assert len(web.tokens) == 1


def test_the_time_left_is_by_the_services_clock_not_the_boxs(facts, web):
    facts["meta-data/spot/instance-action"] = json.dumps(
        {"action": "terminate", "time": "2030-01-01T00:01:30Z"}
    )
    inner = web.answer
    web.answer = lambda *asked: (*inner(*asked)[:2], {"Date": "Tue, 01 Jan 2030 00:00:00 GMT"})
    assert Metadata().interruption() == ("terminate", 90.0)


@pytest.mark.parametrize(
    "told", ["", "{", '{"action": "terminate"}', '{"action": "terminate", "time": "soon"}']
)
def test_an_odd_notice_is_none(facts, told):
    facts["meta-data/spot/instance-action"] = told
    assert Metadata().interruption() is None


@pytest.mark.parametrize("status", [404, 500, 403])
def test_a_service_that_is_switched_off_is_no_error(web, monkeypatch, status):
    monkeypatch.setenv("WINDLASS_IMDS", web.url)
    web.answer = lambda *_: (status, "", {})
    service = Metadata()
    assert (service.session(), service.interruption(), service.rebalance()) == ("", None, "")


def test_a_service_that_is_absent_is_not_asked_again_at_once(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WINDLASS_IMDS", f"http://127.0.0.1:{free.getsockname()[1]}")
    service = Metadata()
    assert service.session() == ""
    assert service._silent_until > time.monotonic()
    assert service.is_spot()
