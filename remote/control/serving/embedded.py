"""The embedded Ollama as the rest of Windlass sees it: start it, find it, end it."""

from collections.abc import Sequence

from remote.contract.job import surroundings
from remote.control import project
from remote.control.daemon import Daemon
from remote.control.errors import OllamaError


def daemon(origins: Sequence[str] = ()) -> Daemon:
    """Its background process; models and log lie in `.windlass/ollama`. Once started, it admits web
    pages of `origins`."""
    folder = project.state_folder() / "ollama"
    return Daemon(
        "the embedded Ollama",
        "remote.embedded.ollama.serve",
        folder,
        tuple(origins),
        (surroundings.COMPUTE,),
    )


def endpoint(start: bool = True, origins: Sequence[str] = ()) -> str:
    """Its URL. Starts it where needed, for `origins`; raises OllamaError when it is down and
    `start` is false."""
    record = daemon(origins).start() if start else daemon().running()
    if not record:
        raise OllamaError(
            "the embedded Ollama is not running",
            where=str(daemon().folder),
            remedy="`./inv model.up`",
        )
    return str(record["url"])
