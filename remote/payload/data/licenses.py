"""Whether a source may be used: its licence is one of a list, or it is refused."""

import re
from collections.abc import Iterable
from pathlib import Path

from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

ALLOWED = (
    "own",
    "CC0-1.0",
    "PDDL-1.0",
    "ODC-BY-1.0",
    "CC-BY-4.0",
    "CC-BY-3.0",
    "Etalab-2.0",
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
)
"""Where the recipe names none: `own` for what belongs to the user, and licences that ask for no
more than to be named. Share-alike and non-commercial ones bind what is made of the data."""

_README_BYTES = 1 << 20


def check(name: str, told: str, allowed: Iterable[str], path: Path) -> None:
    """Raise StageFailed unless every licence of the source `name` is allowed: the one `told` in
    its entry, else those that the README.md of a dataset card beside `path` names."""
    found = [told] if told else card_licenses(path)
    if not found:
        raise StageFailed(
            Cause.CONFIG,
            f"the source `{name}` has no licence",
            f"neither `license:` of its entry names one, nor a README.md beside {path}",
            "name it, such as `license: CC-BY-4.0`, or `license: own` for what belongs to you;"
            " then `./inv run` it anew",
        )
    names = list(allowed)
    if refused := next((each for each in found if not is_allowed(each, names)), ""):
        raise StageFailed(
            Cause.CONFIG,
            f"the licence {refused!r} of the source `{name}` is not allowed",
            f"allowed are {', '.join(names)}",
            "leave the source out; or, where you may use it so, name the licence in its"
            " `licenses:`; then `./inv run` it anew",
        )


def is_allowed(license_name: str, allowed: Iterable[str]) -> bool:
    """Whether a licence is one of those, however its name is written (`CC BY 4.0`)."""
    return _plain(license_name) in {_plain(each) for each in allowed}


def card_licenses(path: Path) -> list[str]:
    """The licences that a dataset card names: the README.md in a folder, or beside a file, with
    `license:` in the block between its first two lines of `---`. Empty where there is none."""
    card = (path if path.is_dir() else path.parent) / "README.md"
    try:
        with card.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(_README_BYTES).splitlines()
    except OSError:
        return []
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        return []
    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    return _named(lines[1:end])


def _named(lines: list[str]) -> list[str]:
    """The value of `license:` in YAML: a word, a list on its line, or on those below it."""
    for number, line in enumerate(lines):
        key, _, value = line.partition(":")
        if key != "license":
            continue
        if value.strip():
            words = value.strip().strip("[]").split(",")
        else:
            words = []
            for item in lines[number + 1 :]:
                if not (found := re.match(r"\s*-\s+(.*)", item)):
                    break
                words.append(found[1])
        return [word.strip().strip("\"'") for word in words if word.strip()]
    return []


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", name.lower()).strip("-")
