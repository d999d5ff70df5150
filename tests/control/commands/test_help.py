"""What `./inv COMMAND --help` shows: words and flags by their purpose, and an example that works as
it stands, on a terminal of any width."""

import shlex

import pytest

import tasks
from remote.control.commands.program import command_line
from remote.control.commands.program.command_line import INVOKE, understood
from remote.control.commands.program.examples import EXAMPLES
from tests.integration.typed import typed
from tests.terminal import Terminal

TREE = command_line.commands_of(tasks.ns)


def test_each_command_has_an_example():
    assert set(EXAMPLES) == set(TREE)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_example_is_of_this_command_and_can_be_typed(name):
    program, *words = shlex.split(EXAMPLES[name].partition(" >> ")[0])
    asked = understood(words, TREE)
    assert (program, asked.kind, asked.words[0]) == ("./inv", INVOKE, name)
    assert len(f"  {EXAMPLES[name]}") <= 80


def test_flags_stand_by_their_purpose():
    assert typed("launch", "--help").stdout == (
        """\
Usage: ./inv launch [NAMES ...] [FLAGS]

Launch boxes, or start those that are stopped.

Waits until SSH answers and the clocks of each box run.

Arguments:
  NAMES, --names  boxes or groups by their names in inventory.yaml (default: its default_box)

Options:
  --fresh         make a new box, and end the one that is there
  --reuse         never make a new box
  --wait=STRING   without capacity, try again for so long: 90s, 30m, 2h

Safety:
  -n, --dry-run   show what would be made, with prices, quota and the latest moment at which it stops
  -y, --yes       do not ask before something that costs money or loses data

Output:
  -j, --json      tell the result as JSON on standard output: a list where several boxes were named

Example:
  ./inv launch gpu --dry-run
"""
    )


def test_words_stand_in_the_order_in_which_they_are_typed():
    lines = typed("train", "--help").stdout.splitlines()
    begins = [line.split(",")[0].strip() for line in lines if line.startswith("  ")]
    assert begins[:2] == ["RECIPE", "DATA"]


@pytest.mark.parametrize("columns", [40, 60])
@pytest.mark.parametrize("words", [("rollback", "--help"), ("--list",), (), ("statsu",)])
def test_a_narrow_terminal_is_kept_to(columns, words):
    shown = Terminal.of_command(words, columns)
    assert shown and max(map(len, shown.splitlines())) <= columns and "\x1b" not in shown
