"""One loaded model: a process of its own around llama.cpp's server, so that its memory is truly
freed and its crash is only its own.

`python -m remote.embedded.ollama.runner`: reads one JSON line
`{"model", "context", "threads", "key"}` from standard input, writes one line `{"url"}` once the
model is loaded, and ends when its standard input does.

Its memory is bounded: a GGUF brings a chat template, which is code of whoever made the file, and
llama.cpp runs it as it is.
"""

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from remote.contract.files import untrusted_json

_HEADROOM = 2 << 30
"""What requests may take beside the loaded model; the buffers for its context are made while it is
loaded."""


def main() -> None:
    """Serve one model until standard input ends."""
    wish = untrusted_json.loads_object(sys.stdin.readline())
    _bound_memory(_told("/proc/meminfo", "MemAvailable", "SwapFree") * 7 // 8)
    server = _server(wish)
    _bound_memory(_told("/proc/self/status", "VmData") + _HEADROOM)
    print(json.dumps({"url": server.listening_address}), flush=True)
    sys.stdin.read()
    os._exit(0)  # llama.cpp's own farewell waits for running generations


def _bound_memory(size: int) -> None:
    """Let this process have `size` bytes of data and no more, where the system tells and takes such
    a bound (Linux does)."""
    with contextlib.suppress(ValueError, OSError):
        if size > _HEADROOM:
            resource.setrlimit(
                resource.RLIMIT_DATA, (size, resource.getrlimit(resource.RLIMIT_DATA)[1])
            )


def _told(path: str, *names: str) -> int:
    """The sum of the values of that name in a file of /proc, in bytes; 0 where there is no such
    file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.partition(":")[0] in names)


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
