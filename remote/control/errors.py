"""Every error a user can cause, by what its reader must do.

```
WindlassError
 ├─ ConfigError          inventory, playbook or recipe: all findings at once, each with file:line
 ├─ DataError            a dataset has too many unusable rows
 ├─ NotFound             no such run, job or artifact
 ├─ LaptopError          a file of the laptop cannot be read or written, or a program is missing
 ├─ CloudError           the cloud refused
 │   ├─ CapacityError      none of that type there just now
 │   ├─ QuotaError         the account may not have that much
 │   ├─ PermissionDenied   the credentials may not do that
 │   ├─ CredentialsMissing there are none, or they expired
 │   └─ RegionError        no such region
 ├─ BoxUnreachable       SSH does not answer
 │   └─ LoginRefused     SSH answers, the key is refused
 │       └─ ShellRefused   the key is taken, the login shell runs no commands
 ├─ HostKeyMismatch      another machine answers under that name
 ├─ BoxStopped           the box is stopped, or was never launched
 ├─ PreflightFailed      a reason not to start
 ├─ JobFailed            a job ended badly; carries its cause
 ├─ ArtifactCorrupt      a file is damaged or not whole
 ├─ GateFailed           a measured condition does not hold
 ├─ Busy                 another command holds the run, or another job the box
 ├─ OllamaError          Ollama does not answer, or refused
 ├─ FleetFailed          of several boxes some failed: the error of each
 └─ Fault                a fault of Windlass itself; its report lies in a file
```
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from remote.contract.job.exits import Exit
from remote.contract.job.jobs import Cause
from remote.control.output.sanitize import counted, plain


class WindlassError(Exception):
    """What failed, where, why as far as known, the command that fixes it, and what was kept.

    Every argument is a plain sentence or fragment for a person; `remedy` holds the exact command
    where there is one.
    """

    exit_code: Exit = Exit.UNEXPECTED

    def __init__(
        self, what: str, *, where: str = "", why: str = "", remedy: str = "", kept: str = ""
    ) -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.remedy, self.kept = what, where, why, remedy, kept

    def lines(self) -> list[str]:
        """The error as a person reads it, one labelled line each."""
        labelled = (
            ("where", self.where),
            ("why", self.why),
            ("kept", self.kept),
            ("fix", self.remedy),
        )
        return [
            f"error: {plain(self.what)}",
            *(f"{label:>5}: {plain(text)}" for label, text in labelled if text),
        ]

    def to_json(self) -> dict[str, object]:
        """The error for scripts."""
        words = {
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "remedy": self.remedy,
            "kept": self.kept,
        }
        return {"error": type(self).__name__, "exit_code": int(self.exit_code), **words}


@dataclass(frozen=True)
class Finding:
    """One thing wrong in a file of the user's: `inventory.yaml:12`, what was found, what was
    expected, the remedy."""

    where: str
    what: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; expected {self.expected}. {self.remedy}"


class ConfigError(WindlassError):
    """Inventory, playbook or recipe are off. Carries every finding."""

    exit_code = Exit.CONFIG

    def __init__(self, findings: Sequence[Finding], are_told: bool = False) -> None:
        """`are_told`: the findings stand on standard output already, for they were asked for."""
        count = len(findings)
        super().__init__(
            f"{counted(count, 'finding')} in the configuration",
            remedy="edit the lines above, then `./inv check`",
        )
        self.findings, self.are_told = tuple(findings), are_told

    def lines(self) -> list[str]:
        """The findings, one a line, then the error itself."""
        return [*(() if self.are_told else map(str, self.findings)), *super().lines()]

    def to_json(self) -> dict[str, object]:
        """The error for scripts, with its findings."""
        return {**super().to_json(), "findings": [vars(finding) for finding in self.findings]}


class DataError(WindlassError):
    """A dataset has too many unusable rows."""

    exit_code = Exit.DATA


class NotFound(WindlassError):
    """There is no such run, job or artifact."""

    exit_code = Exit.NOT_FOUND


class LaptopError(WindlassError):
    """A file of the laptop cannot be read or written, or a program is missing there."""

    exit_code = Exit.LAPTOP

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        why: str = "",
        remedy: str = "",
        kept: str = "",
        disk_full: bool = False,
    ) -> None:
        super().__init__(what, where=where, why=why, remedy=remedy, kept=kept)
        self.exit_code = Exit.DISK_FULL if disk_full else Exit.LAPTOP


class CloudError(WindlassError):
    """The cloud refused. `code` is its own word for it, such as `InsufficientInstanceCapacity`, or
    empty."""

    exit_code = Exit.CLOUD
    code = ""


class CapacityError(CloudError):
    """No capacity for that instance type there just now."""

    exit_code = Exit.CAPACITY


class QuotaError(CloudError):
    """The account's quota is too small."""

    exit_code = Exit.QUOTA


class PermissionDenied(CloudError):
    """The credentials lack a permission."""

    exit_code = Exit.PERMISSION


class CredentialsMissing(CloudError):
    """No credentials, or expired ones."""

    exit_code = Exit.CREDENTIALS


class RegionError(CloudError):
    """Unknown region, or one without the service."""

    exit_code = Exit.REGION


class BoxUnreachable(WindlassError):
    """The box does not answer over SSH.

    `until_back`, where it is known, waits up to so many seconds and returns early once the box can
    be reached again.
    """

    exit_code = Exit.BOX_UNREACHABLE
    until_back: Callable[[float], None] | None = None


class LoginRefused(BoxUnreachable):
    """The box answers but refuses the key."""

    exit_code = Exit.LOGIN_REFUSED


class ShellRefused(LoginRefused):
    """The box lets the user in, but its login shell does not run commands."""


class HostKeyMismatch(WindlassError):
    """The box shows another host key than the pinned one. Never overridden by a flag."""

    exit_code = Exit.HOST_KEY_MISMATCH


class BoxStopped(WindlassError):
    """The box is stopped, or was never launched."""

    exit_code = Exit.BOX_STOPPED


class PreflightFailed(WindlassError):
    """Preflight found a reason not to start."""

    exit_code = Exit.PREFLIGHT


class JobFailed(WindlassError):
    """A job on a box ended badly."""

    def __init__(
        self,
        what: str,
        *,
        cause: Cause,
        where: str = "",
        why: str = "",
        remedy: str = "",
        kept: str = "",
    ) -> None:
        super().__init__(what, where=where, why=why, remedy=remedy, kept=kept)
        self.cause = cause
        self.exit_code = cause.exit_code


class ArtifactCorrupt(WindlassError):
    """An artifact is damaged or not whole."""

    exit_code = Exit.ARTIFACT


class GateFailed(WindlassError):
    """A gate does not hold."""

    exit_code = Exit.GATE


class Busy(WindlassError):
    """Another command holds the run, or another job the box."""

    exit_code = Exit.BUSY


class OllamaError(WindlassError):
    """Ollama does not answer, or refused."""

    exit_code = Exit.OLLAMA


class FleetFailed(WindlassError):
    """Of several boxes some failed. Its exit code is the worst of theirs: UNEXPECTED before all,
    else the highest."""

    def __init__(self, errors: Mapping[str, WindlassError], results: Sequence[object]) -> None:
        """`errors` by box; `results` is what is told of every box, in order, as JSON."""
        count, names = len(errors), ", ".join(errors)
        kept = f"the other {len(results) - count} went well" if len(results) > count else ""
        what, remedy = (
            f"{count} of {counted(len(results), 'box')} failed: {names}",
            "the same command with those names alone",
        )
        super().__init__(what, kept=kept, remedy=remedy)
        codes = [error.exit_code for error in errors.values()]
        self.exit_code = Exit.UNEXPECTED if Exit.UNEXPECTED in codes else max(codes)
        self.errors, self.results = dict(errors), list(results)

    def lines(self) -> list[str]:
        """Each error once, wherever it struck, then the sum."""
        struck: dict[tuple[str, ...], list[WindlassError]] = {}
        for error in self.errors.values():
            struck.setdefault(
                tuple(line for line in error.lines() if not line.startswith("where:")), []
            ).append(error)
        wheres = {
            lines: dict.fromkeys(error.where for error in errors)
            for lines, errors in struck.items()
        }
        told = [
            each
            for (what, *rest), where in wheres.items()
            for each in (what, f"where: {'; '.join(where)}", *rest)
        ]
        return [*told, *super().lines()]

    def to_json(self) -> dict[str, object]:
        """The error for scripts: `results` has every box, those that went well too."""
        return {**super().to_json(), "results": self.results}


class Fault(WindlassError):
    """A fault of Windlass itself."""

    exit_code = Exit.UNEXPECTED
