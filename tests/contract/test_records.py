"""Files of lines that several processes write: bounded, never glued, and no reason for anybody to
fail."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from remote.contract.files import records


def test_what_is_appended_is_read_in_order(tmp_path):
    path = tmp_path / "lines"
    for number in range(5):
        records.append(path, f"{number}\n", 1000)
    assert list(records.lines(path)) == [f"{number}\n" for number in range(5)]


def test_it_is_bounded_and_keeps_the_newest(tmp_path):
    path = tmp_path / "lines"
    for number in range(1000):
        records.append(path, f"{number:09}\n", 500)
    told = [int(line) for line in records.lines(path)]
    assert told == list(range(told[0], 1000)) and len(told) >= 50
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 2 * 520


def test_a_line_that_a_full_disk_cut_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "lines"
    path.write_text("whole\ncu")
    records.append(path, "next\n", 1000)
    assert list(records.lines(path)) == ["whole\n", "cu\n", "next\n"]


def test_a_disk_that_refuses_costs_the_line_alone(tmp_path):
    records.append(tmp_path / "no such folder" / "lines", "x\n", 10)
    assert list(records.lines(tmp_path / "nothing")) == []


def test_many_writers_lose_nothing_and_turn_the_file_once(tmp_path):
    path = tmp_path / "lines"
    script = (
        "import sys; from pathlib import Path; from remote.contract.files import records\nfor number in"
        f" range(200): records.append(Path({str(path)!r}), f'{{sys.argv[1]}} {{number:06}}' + '.' *"
        " 20 + '\\n', 15000)"
    )
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(each)], env=surroundings)
        for each in range(4)
    ]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    told = list(records.lines(path))
    assert all(len(line) == 29 for line in told)
    assert len(told) >= 15000 // 29, "the file was turned twice: all but its newest lines were lost"
    for each in range(4):
        numbers = [int(line[2:8]) for line in told if line.startswith(f"{each} ")]
        assert numbers == sorted(set(numbers))


def test_a_limit_of_the_system_is_no_error(tmp_path):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    script = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path; from remote.contract.files import records\n"
        f"records.append(Path({str(tmp_path / 'lines')!r}), 'longer than ten bytes\\n', 1000)"
    )
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert (
        subprocess.run(
            [sys.executable, "-c", script], env=surroundings, preexec_fn=limited, check=False
        ).returncode
        == 0
    )
    records.append(tmp_path / "lines", "next\n", 1000)
    assert list(records.lines(tmp_path / "lines"))[-1] == "next\n"
