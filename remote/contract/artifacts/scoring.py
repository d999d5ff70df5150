"""How an answer is scored against the expected one: exact match and token F1 by the rules of
SQuAD's evaluation.

Both are over normalised text: lower case, punctuation stripped, the articles a/an/the dropped,
white space collapsed. Stripping would make `0.8` and `08` the same, and broken JSON the same as
whole, so JSON objects are compared as values instead.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Sequence

from remote.contract.files import untrusted_json

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(answer: str, expected: str) -> bool:
    """Whether the answer says the same. A JSON object matches only an equal one, keys in any order;
    other texts once normalised."""
    one, other = _json_object(answer), _json_object(expected)
    if one is not None or other is not None:
        return one == other
    return normalise(answer) == normalise(expected)


def f1(answer: str, expected: str) -> float:
    """Overlap of the normalised tokens, 0 to 1: harmonic mean of precision and recall. Both empty
    is 1, one empty is 0."""
    given, wanted = normalise(answer).split(), normalise(expected).split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def normalise(text: str) -> str:
    """The text as exact match and F1 see it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value with at least `share` (0 to 1) of all values
    at or below it; 0.0 of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)] if ordered else 0.0


def _json_object(text: str) -> str | None:
    # Numbers are read as floats so that 1 and 1.0 are the same, while true stays different from 1.
    try:
        value = untrusted_json.loads(text, parse_int=float, lone_surrogates=True)
    except ValueError:
        return None
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else None
