"""One question for many who ask the same at the same moment: 64 boxes of one type want one
quota."""

import functools
import threading
import time
from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def for_seconds(seconds: float) -> Callable[[Callable[Asked, Answer]], Callable[Asked, Answer]]:
    """An answer holds for so long, for the same (hashable) arguments; who asks meanwhile waits for
    it. Errors are not kept."""

    def remember(ask: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
        answers: dict[Hashable, tuple[float, Answer]] = {}
        locks: dict[Hashable, threading.Lock] = {}

        @functools.wraps(ask)
        def remembered(*args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
            key = (args, tuple(sorted(kwargs.items())))
            with locks.setdefault(key, threading.Lock()):
                if key not in answers or time.monotonic() - answers[key][0] > seconds:
                    answers[key] = (time.monotonic(), ask(*args, **kwargs))
                return answers[key][1]

        return remembered

    return remember
