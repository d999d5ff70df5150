"""Text as token ids, in which nobody but the chat template writes control tokens.

What a user's words spell, `[INST]` or `</s>`, stays text, as in mistral-common and in llama.cpp
without `parse_special`. A Hugging Face tokenizer would make control tokens of it: it sees only the
rendered prompt, and there both look alike.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True)
class Disguise:
    """What stands for the control tokens that some texts spell, while a chat template is rendered
    around those texts.

    A control token's number between two `mark`s, a character that none of the texts has; without a
    mark there is nothing to hide.
    """

    controls: tuple[str, ...]
    mark: str = ""

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str]) -> "Disguise":
        """The disguise that these texts need."""
        controls = control_tokens(tokenizer)
        if not any(spells_control(tokenizer, text) for text in texts):
            return cls(controls)
        # Of so many characters no text has all, for it has fewer.
        taken = set().union(*texts)
        return cls(
            controls, next(chr(code) for code in range(0xE000, 0x110000) if chr(code) not in taken)
        )

    def put_on(self, text: str) -> str:
        """`text` without a control token in it."""
        if not self.mark:
            return text
        return _pattern(self.controls).sub(
            lambda found: f"{self.mark}{self.controls.index(found[0])}{self.mark}", text
        )

    def take_off(self, text: str) -> str:
        """The text as it was."""
        if not self.mark:
            return text
        return re.sub(
            f"{self.mark}([0-9]+){self.mark}", lambda found: self.controls[int(found[1])], text
        )

    def ids(self, tokenizer: Any, rendered: str) -> list[int]:
        """The token ids of what was rendered around disguised texts. Each stretch between two of
        the template's own control tokens is one text, spaces at its ends included, as in
        mistral-common."""
        if not self.mark or self.mark not in rendered:
            ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
            return ids
        found: list[int] = []
        for number, piece in enumerate(_pattern(self.controls).split(rendered)):
            found += (
                [tokenizer.convert_tokens_to_ids(piece)]
                if number % 2
                else plain_ids(tokenizer, self.take_off(piece))
            )
        return found


def spells_control(tokenizer: Any, text: str) -> bool:
    """Whether a control token is spelled somewhere in `text`."""
    return _pattern(control_tokens(tokenizer)).search(text) is not None


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """`text` as ordinary text, whatever it spells, and as one that stands behind other tokens:
    without a space put before it."""
    ids: list[int] = _plain(tokenizer).encode(text, add_special_tokens=False).ids if text else []
    return ids


@lru_cache(maxsize=4)
def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The tokens that mean something to the model beyond their spelling."""
    return tuple(
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and token.content
    )


@lru_cache(maxsize=4)
def _pattern(controls: tuple[str, ...]) -> "re.Pattern[str]":
    """Any of them, the longest first; matches nothing where there are none."""
    return re.compile(
        f"({'|'.join(map(re.escape, sorted(controls, key=len, reverse=True))) or '(?!)'})"
    )


@lru_cache(maxsize=4)
def _plain(tokenizer: Any) -> Any:
    """A copy of the tokenizer's core that knows no control tokens."""
    from tokenizers import Tokenizer

    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    core = Tokenizer.from_str(
        json.dumps({**_without_prefix(settings), "truncation": None, "padding": None})
    )
    core.encode_special_tokens = True
    return core


def _without_prefix(settings: Any) -> Any:
    """The settings with no Metaspace step that puts a space at the very start of a text: our texts
    start behind other tokens."""
    if isinstance(settings, list):
        return [_without_prefix(each) for each in settings]
    if not isinstance(settings, dict):
        return settings
    changed = {
        name: value if name in ("model", "added_tokens") else _without_prefix(value)
        for name, value in settings.items()
    }
    return (
        {**changed, "prepend_scheme": "never"}
        if settings.get("prepend_scheme") == "first"
        else changed
    )
