"""A PostgreSQL of the tests' own: made by initdb, unprivileged, reachable on loopback by password."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWORD = "p@ss w0rd/of?tests"
MISSING = "needs PostgreSQL: sudo apt-get install postgresql"


def program(name):
    """Where it is; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@contextlib.contextmanager
def running():
    """Its port. Skips the test where PostgreSQL is not installed, except in CI."""
    if not program("initdb") or not program("pg_ctl"):
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    folder = Path(tempfile.mkdtemp(prefix="windlass-pg-", dir="/tmp"))
    as_user = {}
    if os.getuid() == 0:  # which initdb refuses
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        data = folder / "data"
        made = [program("initdb"), "-D", data, "-U", "windlass", "-E", "UTF8", "--locale=C"]
        made += ["--no-sync", "--auth=scram-sha-256", "--pwfile", folder / "password"]
        call(made, as_user)
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        )
        control = [program("pg_ctl"), "-D", data, "-w"]
        call([*control, "-l", folder / "log", "-o", options, "start"], as_user)
        try:
            yield port
        finally:
            call([*control, "-m", "immediate", "stop"], as_user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def call(words, as_user):
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        **as_user,
    )
    assert done.returncode == 0, done.stdout
