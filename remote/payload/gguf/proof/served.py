"""A GGUF behind llama.cpp's own server, inside this process and on loopback only: what Ollama will
run, asked before it gets there."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from remote.contract.artifacts.gguf import NotGGUF, read_head
from remote.contract.files import untrusted_json
from remote.contract.job.jobs import Cause
from remote.payload.job import StageFailed

_TIMEOUT_SECONDS = 3600  # a 7B model on few cores takes its time
_SMALL_BYTES = 256 << 20


@dataclass(frozen=True)
class Completion:
    """A greedy answer. `tops` holds, for each of `tokens`, the log-probabilities of the likeliest
    tokens by id.

    `tokens` are what was generated, the end of sequence included where the model gave it; `ended`
    says whether the model ended by itself.
    """

    text: str
    tokens: list[int]
    tops: list[dict[int, float]]
    ended: bool


class Served:
    """Serves one GGUF while the block lasts; raises StageFailed when it can't be opened."""

    def __init__(self, gguf: Path, context: int) -> None:
        try:
            head = read_head(gguf)  # the library says nothing but "failed" to a damaged file
        except (NotGGUF, OSError) as error:
            raise StageFailed(
                Cause.ARTIFACT, f"{gguf.name} is no whole GGUF", str(error), "run the stage again"
            ) from None
        self._gguf, self._context = gguf, context
        self._end = int(head.metadata.get("tokenizer.ggml.eos_token_id", 0))
        self._server: Any = None
        # A proxy for the outside must not see requests to ourselves.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> "Served":
        import xllamacpp

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self._gguf)
        parameters.hostnames, parameters.port = ["127.0.0.1"], 0
        parameters.n_ctx, parameters.n_parallel = self._context, 1
        parameters.use_jinja, parameters.warmup, parameters.verbosity = True, False, 1
        parameters.cpuparams.n_threads = _threads(self._gguf)
        # As exact as the engine goes: its flash attention on a CPU sums in float16, which alone
        # errs by 0.04 nats.
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type(0)
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type(0)
        try:
            self._server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise StageFailed(
                Cause.ARTIFACT,
                f"llama.cpp can't open {self._gguf.name}",
                str(error),
                "see the log above it",
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server = None  # its destructor stops the threads and frees the model

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a rendered prompt: special tokens are read as such, none is added."""
        answer = self._post(
            "/tokenize", {"content": text, "add_special": False, "parse_special": True}
        )
        return [int(token) for token in answer["tokens"]]

    def render(self, messages: list[dict[str, str]]) -> str:
        """The prompt that the GGUF's own chat template makes."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def complete(self, prompt: list[int], most_tokens: int, top: int) -> Completion:
        """Continue token ids greedily, with the `top` likeliest tokens of each position."""
        answer = self._complete(prompt, n_predict=most_tokens, n_probs=top, return_tokens=True)
        tokens = [int(token) for token in answer["tokens"]]
        tops = _tops_of_the_start(tokens, answer)
        tops += [self.likeliest(prompt + tokens[:at], top) for at in range(len(tops), len(tokens))]
        return Completion(answer["content"], tokens, tops, answer["stop_type"] == "eos")

    def likeliest(self, prompt: list[int], top: int) -> dict[int, float]:
        """The log-probabilities of the `top` tokens that are likeliest to come next, by id."""
        # A token that leaves a character unfinished is answered without probabilities. They are
        # those of the position, whatever is taken from it: so the end of the sequence is taken,
        # which is never half a character.
        (answered,) = self._complete(
            prompt, n_predict=1, n_probs=top, logit_bias=[[self._end, 1e6]]
        )["completion_probabilities"]
        return _top(answered)

    def _complete(self, prompt: list[int], **settings: Any) -> Any:
        return self._post(
            "/completion", {"prompt": prompt, "temperature": 0, "cache_prompt": True, **settings}
        )

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        url, headers = self._server.listening_address + path, {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310  # always our own loopback server
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return untrusted_json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:500]
            raise StageFailed(
                Cause.CODE, f"llama.cpp refused {path} on {self._gguf.name}", said
            ) from None


def _tops_of_the_start(tokens: list[int], answer: dict[str, Any]) -> list[dict[int, float]]:
    """The probabilities of the tokens up to the first that came without any: llama.cpp leaves out
    those within a character."""
    tops = []
    for token, answered in zip(tokens, answer.get("completion_probabilities", ()), strict=False):
        if answered["id"] != token:
            break
        tops.append(_top(answered))
    return tops


def _top(answered: dict[str, Any]) -> dict[int, float]:
    return {int(item["id"]): float(item["logprob"]) for item in answered["top_logprobs"]}


def _threads(gguf: Path) -> int:
    # ggml's threads wait for each other by spinning, many times a token: on a small model and busy
    # cores one is faster than two.
    return 1 if gguf.stat().st_size < _SMALL_BYTES else len(os.sched_getaffinity(0))
