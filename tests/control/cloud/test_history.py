"""What is remembered of boxes."""

from concurrent.futures import ThreadPoolExecutor

from remote.control.project import history


def test_what_was_appended_is_read_by_box_oldest_first():
    history.append("one", "launched", id="i-1", region="us-east-1")
    history.append("other", "launched", id="i-2", region="us-west-2")
    history.append("one", "stopped", id="i-1")
    assert [(entry["kind"], entry["id"]) for entry in history.read("one")] == [
        ("launched", "i-1"),
        ("stopped", "i-1"),
    ]
    assert history.last("one", "launched")["region"] == "us-east-1"
    assert history.read("never") == []
    assert history.last("never", "launched") is None


def test_a_torn_line_is_passed_over_and_spoils_no_later_one(project):
    history.append("one", "launched")
    with open(project / ".windlass" / "history.jsonl", "a") as file:
        file.write('{"box": "one", "ki')
    history.append("one", "stopped")
    assert [entry["kind"] for entry in history.read("one")] == ["launched", "stopped"]


def test_a_box_may_be_where_it_was_launched_until_it_is_terminated():
    history.append("one", "launched", region="us-east-1")
    history.append("one", "moved", region="eu-west-1")
    assert history.regions("one") == ["us-east-1", "eu-west-1"]
    history.append("one", "terminated")
    assert history.regions("one") == []
    history.append("one", "asking", region="us-west-2")
    assert history.regions("one") == ["us-west-2"]


def test_many_at_once_lose_nothing():
    with ThreadPoolExecutor(16) as pool:
        list(
            pool.map(
                lambda number: history.append(f"box-{number % 4}", "attempt", number=number),
                range(200),
            )
        )
    told = [entry["number"] for box in range(4) for entry in history.read(f"box-{box}")]
    assert sorted(told) == list(range(200))
