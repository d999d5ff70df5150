"""Base models on the Hugging Face hub: what one consists of, at a pinned commit, and whether we may
have it. Asked from the laptop.

`HF_ENDPOINT`, `HF_TOKEN` and the token that `hf auth login` left are honoured, as by every tool of
the hub.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from remote.contract.artifacts.base_models import ModelFetch, ModelFile, is_wanted, lacks
from remote.control import secrets
from remote.control.config.base_model import ModelSpec
from remote.control.errors import (
    CloudError,
    CredentialsMissing,
    NotFound,
    PermissionDenied,
    WindlassError,
)

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS = 30.0


def endpoint() -> str:
    """Where the hub answers."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def token() -> str:
    """The user's token, from the environment or from where `hf auth login` leaves it; empty where
    there is none."""
    given = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    path = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    try:
        return (given or path.read_text()).strip()
    except (OSError, ValueError):
        return ""


def resolve(spec: ModelSpec) -> ModelFetch:
    """The files of a model at the commit that its revision means now, once the hub proves willing
    to give them.

    Raises NotFound, PermissionDenied (gated, and not yet granted), CredentialsMissing or
    CloudError.
    """
    import httpx

    secret = token()
    secrets.know(secret)
    authorization = f"Bearer {secret}" if secret else ""
    headers = {"User-Agent": "windlass", **({"Authorization": authorization} if secret else {})}
    try:
        with httpx.Client(base_url=endpoint(), headers=headers, timeout=_TIMEOUT_SECONDS) as hub:
            told = _described(hub, spec)
            files = _files(told, spec)
            _check_access(hub, spec, files[-1])
    except httpx.HTTPError as error:
        remedy = (
            "check the laptop's network, or set HF_ENDPOINT to a mirror; then repeat the command"
        )
        raise CloudError(
            "the model hub does not answer",
            where=endpoint(),
            why=str(error) or type(error).__name__,
            remedy=remedy,
        ) from None
    return ModelFetch(
        spec.name, spec.text, f"{endpoint()}/{told['id']}", told["sha"], files, authorization
    )


def _described(hub: "httpx.Client", spec: ModelSpec) -> dict[str, Any]:
    """What the hub tells about the model at that revision. A renamed repository answers by its new
    name."""
    path = f"/api/models/{spec.repo}/revision/{quote(spec.revision or 'main', safe='')}"
    answer = hub.get(path, params={"blobs": "true"}, follow_redirects=True)
    if answer.status_code != 200:
        raise _refusal(answer, spec)
    told: dict[str, Any] = answer.json()
    return told


def _files(told: dict[str, Any], spec: ModelSpec) -> tuple[ModelFile, ...]:
    """The wanted files, the heaviest last."""
    wanted = [each for each in told.get("siblings", ()) if is_wanted(each["rfilename"])]
    if missing := lacks(each["rfilename"] for each in wanted):
        remedy = "name a model whose weights are in safetensors, as transformers saves them"
        raise NotFound(
            f"{spec.repo} is no base model that Windlass can use",
            where=endpoint(),
            why=f"it has no {missing}",
            remedy=remedy,
        )
    base = f"{endpoint()}/{told['id']}/resolve/{told['sha']}"
    return tuple(
        sorted((_file(each, base) for each in wanted), key=lambda file: (file.size, file.path))
    )


def _file(told: dict[str, Any], base: str) -> ModelFile:
    path, large = told["rfilename"], told.get("lfs") or {}
    sha256 = large.get("sha256", "")
    return ModelFile(
        path,
        int(told["size"]),
        f"{base}/{quote(path)}",
        sha256,
        "" if sha256 else told.get("blobId", ""),
    )


def _check_access(hub: "httpx.Client", spec: ModelSpec, heaviest: ModelFile) -> None:
    """Anyone may list a gated model; only asking for a file tells whether it is given."""
    answer = hub.head(heaviest.url)
    if answer.status_code >= 400:
        raise _refusal(answer, spec)


def _refusal(answer: "httpx.Response", spec: ModelSpec) -> WindlassError:
    code, page, again = (
        answer.headers.get("X-Error-Code", ""),
        f"{endpoint()}/{spec.repo}",
        "then repeat the command",
    )
    why = answer.headers.get("X-Error-Message") or f"HTTP {answer.status_code} {code}".strip()
    has_token = bool(token())
    if code == "RevisionNotFound":
        remedy = f"correct `@{spec.revision}` in inventory.yaml"
        return NotFound(
            f"{spec.repo} has no revision {spec.revision}", where=page, why=why, remedy=remedy
        )
    if code == "GatedRepo" and has_token:
        remedy = f"ask for access on {page} with the account of your token, {again}"
        return PermissionDenied(
            f"{spec.repo} is gated, and your token may not read it yet",
            where=page,
            why=why,
            remedy=remedy,
        )
    if code == "GatedRepo" or answer.status_code == 401:
        needs = "is gated, or is not there" if code != "GatedRepo" else "is gated"
        what = (
            f"the hub refuses your token for {spec.repo}"
            if has_token
            else f"{spec.repo} {needs}, and there is no token of the hub here"
        )
        remedy = (
            f"ask for access on {page}, `read -rs HF_TOKEN && export HF_TOKEN` with a token that"
            f" may read it, {again}"
        )
        return CredentialsMissing(what, where=page, why=why, remedy=remedy)
    if answer.status_code == 403:
        return PermissionDenied(
            f"the hub does not let you read {spec.repo}",
            where=page,
            why=why,
            remedy=f"give the token that right, {again}",
        )
    if answer.status_code == 404:
        return NotFound(
            f"the hub has no model {spec.repo}",
            where=page,
            why=why,
            remedy="correct the name in inventory.yaml",
        )
    return CloudError(
        f"the hub does not tell about {spec.repo}",
        where=page,
        why=why,
        remedy="repeat the command in a while",
    )
