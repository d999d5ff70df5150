"""One loaded model: a process of its own around llama.cpp's server, so that its memory is truly freed and its crash is only its own.

`python -m remote.control.models.embedded.runner`: reads one JSON line `{"model", "context", "threads", "key"}` from standard input,
writes one line `{"url"}` once the model is loaded, and ends when its standard input does.
"""

import json
import os
import sys
from typing import Any

from remote.contract import untrusted_json


def main() -> None:
    """Serve one model until standard input ends."""
    wish = untrusted_json.loads_object(sys.stdin.readline())
    server = _server(wish)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()
    os._exit(0)  # llama.cpp's own farewell waits for running generations


def _server(wish: dict[str, Any]) -> Any:
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = wish["model"]
    params.n_ctx = wish["context"]
    params.fit_params = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wish["threads"]
    params.api_keys = [wish["key"]]
    params.ui = params.warmup = False
    params.cache_ram_mib = 0
    params.verbosity = 2
    params.port = 0
    return Server(params)


if __name__ == "__main__":
    main()
