"""Installs a GGUF in Ollama: under a temporary name first, tried there, then given the name in one
step.

Killed anywhere, the name stands for the old model or the new one, and the next attempt clears what
was left behind.
"""

import contextlib
import fcntl
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract.files import atomic, digest, untrusted_json
from remote.control import project
from remote.control.errors import ArtifactCorrupt, Busy, OllamaError
from remote.control.output.sanitize import counted, sized
from remote.control.serving import names
from remote.control.serving.gguf import read_gguf
from remote.control.serving.modelfile import Modelfile, modelfile_for
from remote.control.serving.ollama import Ollama

OLDEST = (0, 11, 5)
"""The first Ollama that shows the prompt it renders; without that a wrong template goes unseen."""

_PROMPTS_TRIED = 3
_MAX_TOKENS = 512
_LARGE = 100_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What is to stand under `name`: the GGUF (with its digest), what it must prove, and its
    Modelfile."""

    name: str
    gguf: Path
    sha256: str
    prompts: list[dict[str, Any]]
    modelfile: Modelfile

    @property
    def mark(self) -> str:
        """The digest of all that decides what gets installed."""
        return digest.of_value([self.name, self.sha256, self.modelfile.request()])


def install(
    client: Ollama, gguf: Path, parity: Path, name: str, folder: Path, say: Say = lambda line: None
) -> dict[str, Any]:
    """Make `name` stand for `gguf` in Ollama and prove it with the prompts of parity.json. What
    stood there is kept as `name:previous`.

    Leaves `Modelfile` and `installed.json` in `folder`. Returns `model`, `url`, `digest`,
    `done_reason`, `answer_differs`, `answer`, `modelfile`, `reused` (it stood there already).
    `say` is told each step.
    Raises OllamaError (the old model stands), ArtifactCorrupt, Busy.
    """
    wish = _wish(client, gguf, parity, name, folder)
    with _alone(client, wish.name):
        standing = client.digest_of(wish.name)
        reused = standing is not None and standing == _recorded(folder, wish, client)
        _discard(client, _temporary(wish.name))
        if not reused:
            proof = _make(client, wish, folder, say)
        else:
            say(f"{wish.name} holds this GGUF already")
            proof = smoke_test(client, wish.name, wish.prompts)
    return {
        "model": wish.name,
        "url": client.url,
        "digest": client.digest_of(wish.name),
        "modelfile": str(folder / "Modelfile"),
        "reused": reused,
        **proof,
    }


def smoke_test(client: Ollama, model: str, prompts: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask the model what parity.json asked: every prompt must be rendered the same; answers that
    ended by themselves in the export must do so here and hold something, and one at least must
    differ from the base's. Raises OllamaError that says which does not hold.
    """
    for prompt in prompts:
        _check_rendering(client.rendered(model, prompt["messages"]), prompt, client, model)
    tried = [prompt for prompt in prompts if prompt.get("tuned_ended", True)][
        :_PROMPTS_TRIED
    ] or prompts[:1]
    answers = [_checked_answer(client, model, prompt) for prompt in tried]
    differing = [
        answer
        for answer, prompt in zip(answers, tried, strict=True)
        if answer.strip() != prompt["base_answer"].strip()
    ]
    if not differing:
        measured = f"{counted(len(answers), 'answer')}, none that the base would not give"
        raise _fails(
            client, model, "it answers like the base", measured, "the adapter does nothing"
        )
    return {
        "done_reason": "stop",
        "answer_differs": True,
        "answer": answers[0],
        "prompt": tried[0]["messages"][-1]["content"],
    }


def _wish(client: Ollama, gguf: Path, parity: Path, name: str, folder: Path) -> Wish:
    if not names.is_valid(name):
        raise OllamaError(
            f"not a model name: {name}",
            why="letters, digits, . _ - and one :tag",
            remedy="choose another `name:`",
        )
    version = client.version_numbers()
    if version < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        why = (
            f"it is {client.version()}; {wanted} or newer is needed to see the prompt that it"
            " renders"
        )
        raise OllamaError(
            f"Ollama at {client.url} is too old",
            why=why,
            remedy="update it: https://ollama.com/download",
        )
    prompts, head = prompts_of(parity), read_gguf(_present(gguf))
    modelfile = modelfile_for(head, prompts[0], version)
    modelfile.write(folder, name, gguf)
    return Wish(names.full(name), gguf, digest.of_file(gguf), prompts, modelfile)


def prompts_of(parity: Path) -> list[dict[str, Any]]:
    """The prompts of parity.json, each with messages, rendered, base_answer, and of the right
    types. Raises ArtifactCorrupt."""
    try:
        prompts = untrusted_json.read_object(_present(parity)).get("prompts")
        if not isinstance(prompts, list) or not prompts:
            raise ValueError("it holds no prompts")
        for number, prompt in enumerate(prompts, 1):
            _check_prompt(prompt, number)
        return prompts
    except (ValueError, OSError) as error:
        why = str(error)
    raise ArtifactCorrupt(
        "not a parity.json of `export`",
        where=str(parity),
        why=why,
        remedy="`./inv export RUN` makes it again",
    )


def _check_prompt(prompt: Any, number: int) -> None:
    if not isinstance(prompt, dict):
        raise ValueError(f"prompt {number} is no object")
    for key, (is_right, expected) in _PARTS_OF_A_PROMPT.items():
        if not is_right(prompt.get(key, _OPTIONAL.get(key))):
            raise ValueError(f"`{key}` of prompt {number} is not {expected}")


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and _is_message(each) for each in value)
    )


def _is_message(value: dict[str, Any]) -> bool:
    return isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value)


_PARTS_OF_A_PROMPT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "messages": (_are_messages, "a list of messages, each with `role` and `content`"),
    "rendered": (_is_text, "a text"),
    "base_answer": (_is_text, "a text"),
    "tuned_answer": (_is_text, "a text"),
    "tuned_ended": (_is_flag, "true or false"),
    "token_ids": (_are_ids, "a list of token ids"),
}
_OPTIONAL: dict[str, Any] = {"tuned_answer": "", "tuned_ended": True, "token_ids": []}


def _present(path: Path) -> Path:
    if path.is_file():
        return path
    raise ArtifactCorrupt(
        f"there is no {path.name}",
        where=str(path),
        remedy="`./inv pull RUN` brings it, `./inv export RUN` makes it",
    )


def _make(client: Ollama, wish: Wish, folder: Path, say: Say) -> dict[str, Any]:
    """Upload, create under the temporary name, try, swap. The temporary name never outlives a
    failure that can be caught."""
    temporary = _temporary(wish.name)
    try:
        say(f"sending {wish.gguf.name} to {client.url}")
        blob = client.upload(wish.gguf, _progress(say))
        client.create(temporary, files={wish.gguf.name: blob}, **wish.modelfile.request())
        say(f"trying {temporary}")
        proof = smoke_test(client, temporary, wish.prompts)
        _record(folder, wish, client, client.digest_of(temporary))
        _swap(client, temporary, wish.name)
    except OllamaError as error:
        error.kept = error.kept or _what_stands(client, wish.name)
        raise
    finally:
        with contextlib.suppress(OllamaError):
            _discard(client, temporary)
    say(f"{wish.name} stands in {client.url}")
    return proof


def _discard(client: Ollama, temporary: str) -> None:
    """Remove the temporary name, and what is loaded under it: else its gigabytes stay in memory
    beside those of the name."""
    with contextlib.suppress(OllamaError):
        client.unload(temporary)
    client.delete(temporary, missing_ok=True)


def _swap(client: Ollama, temporary: str, name: str) -> None:
    """Keep what stands under `name` as its `previous`, then give the name to the new model: each a
    step that is done or not done."""
    standing = client.digest_of(name)
    if standing and standing != client.digest_of(temporary):
        client.copy(name, names.sibling(name, "previous"))
    client.copy(temporary, name)


def _checked_answer(client: Ollama, model: str, prompt: dict[str, Any]) -> str:
    reply = client.chat(
        model, prompt["messages"], options={"temperature": 0, "num_predict": _MAX_TOKENS}
    )
    answer, reason = str(reply["message"]["content"]), reply.get("done_reason")
    if reason != "stop":
        why = f"done_reason is {reason!r} after {reply.get('eval_count')} tokens: {answer[-80:]!r}"
        raise _fails(
            client,
            model,
            "its answer does not stop",
            why,
            "the end of a text was not learnt, or the template differs",
        )
    if not answer.strip():
        raise _fails(
            client, model, "its answer is empty", "", "the prompt is not the one it was trained on"
        )
    wanted, seen = len(prompt.get("token_ids") or []), int(reply.get("prompt_eval_count") or 0)
    if wanted and seen > wanted:
        raise _fails(
            client,
            model,
            "its prompt has too many tokens",
            f"{seen} where training had {wanted}",
            "a second <s> is likely",
        )
    return answer


def _check_rendering(rendered: str, prompt: dict[str, Any], client: Ollama, model: str) -> None:
    """Equal to training's; whether the first token is shown (`<s>`) or added later is the server's
    own affair."""
    if _plain(rendered) != _plain(prompt["rendered"]):
        why = f"Ollama renders {rendered[:120]!r}, training had {prompt['rendered'][:120]!r}"
        raise _fails(
            client,
            model,
            "its prompt differs from training's",
            why,
            "the chat template in the GGUF is not the base's",
        )


def _plain(rendered: str) -> str:
    return re.sub(r"\A(<s>|<\|begin_of_text\|>|<bos>)", "", rendered)


def _fails(client: Ollama, model: str, what: str, why: str, likely: str) -> OllamaError:
    because, where = f"{why}; {likely}" if why else likely, f"{model} in {client.url}"
    return OllamaError(
        f"the model fails its smoke test: {what}",
        where=where,
        why=because,
        remedy="`./inv export RUN` again",
    )


def _what_stands(client: Ollama, name: str) -> str:
    with contextlib.suppress(OllamaError):
        return (
            f"{name} is the earlier model, untouched"
            if client.digest_of(name)
            else f"nothing was installed as {name}; the GGUF is kept"
        )
    return f"{name} as it was; the GGUF is kept"


def _temporary(name: str) -> str:
    return names.sibling(name, "installing")


def _record(folder: Path, wish: Wish, client: Ollama, installed: str | None) -> None:
    # Written before the swap: when the swap is all that happened, the next attempt knows the model
    # by this digest.
    atomic.write_json(
        folder / "installed.json",
        {"mark": wish.mark, "url": client.url, "model": wish.name, "digest": installed},
    )


def _recorded(folder: Path, wish: Wish, client: Ollama) -> str | None:
    """The digest under which this very wish was installed at this server, if it ever was."""
    try:
        record = untrusted_json.read_object(folder / "installed.json")
    except (OSError, ValueError):
        return None
    is_this = record.get("mark") == wish.mark and record.get("url") == client.url
    return str(record.get("digest")) if is_this else None


def _progress(say: Say) -> Callable[[int, int], None]:
    """Speaks at each tenth of a large file."""
    said = 0

    def on_bytes(sent: int, total: int) -> None:
        nonlocal said
        tenth = 10 * sent // max(total, 1)
        if total > _LARGE and tenth > said:
            said = tenth
            say(f"sent {sized(sent)} of {sized(total)}")

    return on_bytes


@contextlib.contextmanager
def _alone(client: Ollama, name: str) -> Iterator[None]:
    """One install of a name at a time: two would take each other's temporary name away."""
    folder = project.state_folder() / "installing"
    folder.mkdir(exist_ok=True)
    with open(folder / digest.of_value([client.url, name])[:16], "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                f"another command installs {name}",
                where=client.url,
                remedy="wait for it, then try again",
            ) from None
        yield
