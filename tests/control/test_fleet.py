"""The same work on several boxes: threads, errors, bounds."""

import threading
from types import SimpleNamespace

import pytest

from remote.contract.job.exits import Exit
from remote.control import fleet
from remote.control.commands.views import fleet as view
from remote.control.errors import BoxStopped, CapacityError, Fault, FleetFailed, QuotaError

ONES = [SimpleNamespace(name=f"box-{number}") for number in range(70)]


def test_what_is_found_comes_in_order_from_more_boxes_than_threads(capsys):
    assert view.each(ONES, lambda one, say: one.name, lambda name: f"{name} is up") == [
        one.name for one in ONES
    ]
    assert "box-69  box-69 is up" in capsys.readouterr().out


def test_boxes_are_worked_on_side_by_side():
    together = threading.Barrier(20, timeout=20)
    assert len(view.each(ONES[:20], lambda one, say: together.wait(), str)) == 20


def test_one_fails_and_the_others_go_on():
    def work(one, say):
        if one.name in ("box-1", "box-3"):
            raise (CapacityError if one.name == "box-1" else QuotaError)(
                "none left", where=one.name, remedy="ask for more"
            )
        return one.name

    with pytest.raises(FleetFailed) as failed:
        view.each(ONES[:5], work, str, lambda name: {"name": name})
    error = failed.value
    assert error.exit_code == Exit.QUOTA
    assert [record.get("name") or record["error"] for record in error.to_json()["results"]] == [
        "box-0",
        "CapacityError",
        "box-2",
        "QuotaError",
        "box-4",
    ]
    assert error.kept == "the other 3 went well"


def test_an_error_that_struck_several_is_told_once():
    def work(one, say):
        raise BoxStopped("no power", where=one.name, remedy="plug it in")

    with pytest.raises(FleetFailed) as failed:
        view.each(ONES[:3], work, str)
    assert failed.value.lines() == [
        "error: no power",
        "where: box-0; box-1; box-2",
        "  fix: plug it in",
        "error: 3 of 3 boxes failed: box-0, box-1, box-2",
        "  fix: the same command with those names alone",
    ]


def test_a_fault_of_windlass_is_the_worst():
    outcomes = [
        fleet.Outcome(ONES[0], None, BoxStopped("x")),
        fleet.Outcome(ONES[1], None, Fault("y")),
    ]
    with pytest.raises(FleetFailed) as failed:
        fleet.or_raise(outcomes)
    assert failed.value.exit_code == Exit.UNEXPECTED


def test_the_error_of_one_box_is_its_own():
    def work(one, say):
        raise CapacityError("none left")

    with pytest.raises(CapacityError):
        view.each(ONES[:1], work, str)


def test_who_is_late_is_left_behind():
    hold = threading.Event()

    def work(one, say):
        return one.name if one.name == "box-0" else hold.wait(60)

    done = fleet.outcomes_of(ONES[:3], work, seconds=0.5)
    hold.set()
    assert [outcome.found or outcome.error.what for outcome in done] == [
        "box-0",
        *["no answer within 0.5 s"] * 2,
    ]


def test_scripts_get_a_list_where_several_are_meant():
    inventory = SimpleNamespace(groups={"all": ["a"]})
    assert view.as_one([1], [], inventory) == view.as_one([1], ["a"], inventory) == 1
    assert view.as_one([1], ["all"], inventory) == [1]
    assert view.as_one([1, 2], ["a", "b"], inventory) == [1, 2]
