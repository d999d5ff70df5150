"""What a box sees of itself: its environment, the way into it, and the few system commands that
must not reach the laptop."""

import functools
import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from remote.contract.files import atomic
from remote.contract.job import surroundings
from remote.control.processes import CLOUD, INSTANCE
from remote.embedded.instances.disk import MARK

_PASSED_ON = re.compile(
    rf"({surroundings.PACKAGES}|\w+_CA_BUNDLE|SSL_CERT_(FILE|DIR)|OMP_NUM_THREADS|TZ)",
    re.IGNORECASE,
)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUDO = """while :; do
  case "$1" in
    -u|-g|-h|-p|-C|-D|-R|-T) shift 2 ;;
    --) shift; break ;;
    -*) shift ;;
    *) break ;;
  esac
done
exec env "$@\""""
_POWER = ("shutdown", "poweroff", "halt", "reboot")


def prepare(folder: Path, instance_id: str, region: str, cloud_url: str) -> dict[str, str]:
    """Write the box's `environment`, `enter` and `bin/` into `folder`; returns the environment."""
    variables = environment(folder, instance_id, region, cloud_url)
    exports = "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items())
    )
    atomic.write_text(folder / "environment", exports, mode=0o600)
    atomic.write_text(folder / "enter", _enter(folder), mode=0o700)
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    power = Path(__file__).with_name("power.py")
    for name in _POWER:
        _command(commands / name, f'exec python3 -I -S {shlex.quote(str(power))} {name} "$@"')
    _command(commands / "sudo", _SUDO)
    for name in ("systemctl", "systemd-run"):
        _command(
            commands / name,
            'echo "System has not been booted with systemd as init system (PID 1). Can\'t operate."'
            " >&2\nexit 1",
        )
    return variables


def environment(folder: Path, instance_id: str, region: str, cloud_url: str) -> dict[str, str]:
    """The variables of every process of the box. Nothing of the caller's is passed on but what pip
    and certificates need."""
    disk = folder / "disk"
    user = getpass.getuser()
    given = surroundings.passed_on(os.environ, surroundings.PACKAGES, surroundings.COMPUTE)
    passed_on = {name: value for name, value in given.items() if _PASSED_ON.fullmatch(name)}
    return {
        **_pip(),
        **passed_on,
        **{name: _without_loopback(passed_on.get(name, "")) for name in ("no_proxy", "NO_PROXY")},
        **{"HOME": str(disk), "USER": user, "LOGNAME": user, "SHELL": shell(), "LANG": "C.UTF-8"},
        "PATH": f"{folder / 'bin'}:{_python_folder()}:{_SYSTEM_PATH}",
        INSTANCE: instance_id,
        CLOUD: str(folder.parents[1]),
        "WINDLASS_ENVIRONMENT": str(folder / "environment"),
        "WINDLASS_COMMON_ENVIRONMENTS": str(folder.parents[2] / "environments"),
        "WINDLASS_IMDS": f"{cloud_url}/windlass/imds/{instance_id}",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{cloud_url}/windlass/imds/{instance_id}",
        **{"AWS_ENDPOINT_URL": cloud_url, "AWS_DEFAULT_REGION": region},
    }


def shell() -> str:
    """The box's shell: bash as on Ubuntu, else the plain one."""
    return shutil.which("bash", path="/bin:/usr/bin:/usr/local/bin") or "/bin/sh"


def _enter(folder: Path) -> str:
    return f"""#!/bin/sh
. {shlex.quote(str(folder / "environment"))}
cd "$HOME" || exit 1
if [ -e {shlex.quote(str(folder / MARK))} ]; then trap '' XFSZ; ulimit -S -f 0; fi
wanted=$SSH_ORIGINAL_COMMAND
unset SSH_ORIGINAL_COMMAND
if [ -n "$wanted" ]; then exec "$SHELL" -c "$wanted"; fi
exec "$SHELL" -l
"""


def _command(path: Path, body: str) -> None:
    atomic.write_text(path, f"#!/bin/sh\n{body}\n", mode=0o755)


def _without_loopback(no_proxy: str) -> str:
    return ",".join(filter(None, [no_proxy, "127.0.0.1", "localhost"]))


def _pip() -> dict[str, str]:
    """pip's own settings and cache stay the caller's, though the box's home is another."""
    home = Path.home()
    settings = [
        Path(os.environ.get("XDG_CONFIG_HOME", home / ".config")) / "pip/pip.conf",
        home / ".pip/pip.conf",
    ]
    caches = Path(os.environ.get("XDG_CACHE_HOME", home / ".cache"))
    if sys.platform == "darwin":
        settings.insert(0, home / "Library/Application Support/pip/pip.conf")
        caches = home / "Library/Caches"
    found = next((str(path) for path in settings if path.is_file()), "")
    return {"PIP_CACHE_DIR": str(caches / "pip"), **({"PIP_CONFIG_FILE": found} if found else {})}


@functools.cache
def _python_folder() -> Path:
    """The folder of a python3 that is 3.10 or newer and can make virtual environments."""
    own = Path(sys.base_prefix) / "bin"
    others = (Path(folder) for folder in _SYSTEM_PATH.split(":"))
    return next(
        (folder for folder in (own, *others) if _makes_environments(folder / "python3")), own
    )


def _makes_environments(python: Path) -> bool:
    probe = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"
    return (
        python.exists()
        and subprocess.run([python, "-I", "-c", probe], capture_output=True, check=False).returncode
        == 0
    )
