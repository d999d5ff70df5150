"""For every test: a project of its own, and an honest word about what this machine lacks."""

import os
import shutil
import signal

import pytest

SSHD = shutil.which(
    "sshd", path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"))
)

os.environ.pop("WINDLASS_PROJECT", None)  # one that is exported is the developer's own
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # in the background shells have it ignored, and that is inherited
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="those that take minutes too")


def pytest_collection_modifyitems(config, items):
    """The longest come first, or one processor ends up with them alone. Those that take minutes are
    skipped without `--long`; without OpenSSH's sshd its tests are, except in CI."""
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)
    lacking = {}
    if not config.getoption("--long"):
        lacking["long"] = "takes minutes: `./inv test --long`"
    if not (SSHD or os.environ.get("CI")):
        lacking["sshd"] = "needs sshd: sudo apt-get install openssh-server"
    for item in items:
        for marker, reason in lacking.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _own_project(tmp_path_factory, monkeypatch):
    """No test ever sees, or touches, the developer's own project, cloud or Ollama."""
    if "WINDLASS_PROJECT" not in os.environ:
        monkeypatch.setenv("WINDLASS_PROJECT", str(tmp_path_factory.mktemp("project")))
    monkeypatch.delenv("OLLAMA_HOST", raising=False)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """A real sshd on loopback, the module's own. Which tests use it, `pytest.mark.sshd` says."""
    from tests.integration import boxes

    with boxes.running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="module")
def s3():
    """A client of an S3 server over the wire, the module's own, with the bucket `kept`."""
    import boto3
    from botocore.config import Config
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={})
    client = boto3.session.Session("a", "b", region_name="us-east-1").client(
        "s3", endpoint_url=f"http://{host}:{port}", config=config
    )
    client.create_bucket(Bucket="kept")
    yield client
    server.stop()
