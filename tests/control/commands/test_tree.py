"""The command tree as a whole: what is promised is there, explained, and can be rehearsed or read
by a script."""

import copy

import pytest

import tasks

MAIN_ROAD = {
    "init",
    "new",
    "demo",
    "check",
    "launch",
    "start",
    "stop",
    "terminate",
    "status",
    "deploy",
    "rollback",
    "preflight",
    "train",
    "logs",
    "pull",
    "export",
    "install",
    "run",
    "resume",
    "cancel",
    "runs",
    "verify",
    "ssh",
    "cost",
    "reap",
    "doctor",
    "list",
    "reboot",
    "ps",
    "why",
    "top",
    "bundle",
    "attach",
}

REHEARSED = {
    "init",
    "new",
    "demo",
    "launch",
    "start",
    "stop",
    "terminate",
    "deploy",
    "rollback",
    "train",
    "pull",
    "export",
    "install",
    "run",
    "resume",
    "cancel",
    "reap",
    "reboot",
    "box.extend",
    "box.setup",
    "box.bake",
    "box.move",
    "box.images",
    "cloud.down",
    "cloud.fault",
    "data.prepare",
    "model.rollback",
    "model.remove",
    "runs",
}
"""Verbs that change something worth a rehearsal: they have `--dry-run`."""

TOLD_TO_SCRIPTS = {
    "demo",
    "doctor",
    "check",
    "config",
    "launch",
    "start",
    "stop",
    "terminate",
    "status",
    "deploy",
    "rollback",
    "preflight",
    "train",
    "pull",
    "export",
    "install",
    "run",
    "resume",
    "cancel",
    "runs",
    "receipt",
    "verify",
    "list",
    "reboot",
    "ps",
    "cloud.up",
    "cloud.down",
    "why",
    "top",
    "bundle",
    "attach",
    "box.setup",
    "box.bake",
    "box.move",
    "box.images",
    "box.clocks",
    "box.extend",
    "logs",
    "cost",
    "reap",
    "cloud.status",
    "cloud.fault",
    "data.prepare",
    "data.convert",
    "data.show",
    "data.doctor",
    "data.report",
    "model.list",
    "model.ask",
    "model.up",
    "model.status",
    "model.rollback",
}
"""Verbs that tell something: they have `--json`."""

ALL = sorted(tasks.ns.task_names)


def arguments_of(verb: str) -> list:
    task = copy.copy(tasks.ns[verb])
    task.help = dict(task.help)  # Invoke takes the helps out as it reads them
    return task.get_arguments()


def parameters(verb: str) -> set[str]:
    return {argument.name for argument in arguments_of(verb)}


def test_the_main_road_is_flat_and_whole():
    assert set(ALL) >= MAIN_ROAD


def test_the_rest_stands_in_collections():
    assert {verb.split(".")[0] for verb in ALL if "." in verb} == {
        "box",
        "cloud",
        "data",
        "dev",
        "model",
    }


@pytest.mark.parametrize("verb", ALL)
def test_a_verb_says_what_it_does_and_what_each_parameter_is(verb):
    line = (tasks.ns[verb].__doc__ or "").splitlines()[0]
    assert line.endswith(".") and len(line) < 120
    unexplained = [argument.name for argument in arguments_of(verb) if not argument.help]
    assert not unexplained


@pytest.mark.parametrize("verb", sorted(REHEARSED))
def test_it_can_be_rehearsed(verb):
    assert "dry_run" in parameters(verb)


@pytest.mark.parametrize("verb", sorted(TOLD_TO_SCRIPTS))
def test_it_speaks_to_scripts(verb):
    assert "json" in parameters(verb)


@pytest.mark.parametrize("verb", ALL)
def test_the_tables_above_are_whole(verb):
    assert ("dry_run" in parameters(verb)) == (verb in REHEARSED)
    assert ("json" in parameters(verb)) == (verb in TOLD_TO_SCRIPTS)
