"""Trees of messages, as OpenAssistant keeps them, as conversations: a message with its replies
nested in it, or a message a line that names its parent."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from remote.contract.artifacts.rows import NotARow, Turn, text_of

MAX_MESSAGES = 10_000
"""Of one tree: the paths of a larger one could outgrow the memory."""

PATHS = ("best", "all")

_ROLES = {
    "prompter": "user",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
}
_LAST = 1 << 30


@dataclass
class Node:
    """A message and what was said to it, the best first."""

    role: str
    text: str
    rank: int = _LAST
    replies: "list[Node]" = field(default_factory=list)


def nested(raw: Mapping[str, Any]) -> Node:
    """The tree of a message that holds its replies. Raises NotARow."""
    if (root := _node(raw)) is None:
        raise NotARow("its first message is deleted")
    pending, count = [(root, raw)], 0
    while pending:
        node, told = pending.pop()
        replies = told.get("replies") or []
        if not isinstance(replies, list):
            raise NotARow("`replies` is no list of messages")
        count += len(replies)
        if count > MAX_MESSAGES:
            raise NotARow(f"a tree of more than {MAX_MESSAGES:,} messages")
        for reply in replies:
            if not isinstance(reply, dict):
                raise NotARow("a reply is no message")
            if found := _node(reply):
                node.replies.append(found)
                pending.append((found, reply))
    return _sorted(root)


def linked(messages: Iterable[Mapping[str, Any]]) -> tuple[Node, list[str]]:
    """The tree of messages that name their parents, and the ids of those that hang on nothing.
    Raises NotARow."""
    raws: dict[str, Mapping[str, Any]] = {}
    for raw in messages:
        name = raw.get("message_id")
        if not isinstance(name, str) or not name or name in raws:
            raise NotARow(f"`message_id` {name!r} is no name, or there twice")
        raws[name] = raw
        if len(raws) > MAX_MESSAGES:
            raise NotARow(f"a tree of more than {MAX_MESSAGES:,} messages")
    roots = [name for name, raw in raws.items() if not raw.get("parent_id")]
    if len(roots) != 1:
        raise NotARow(f"{len(roots)} of its messages have no parent: one begins a tree")
    children: dict[str, list[str]] = {}
    for name, raw in raws.items():
        children.setdefault(str(raw.get("parent_id")), []).append(name)
    root = _node(raws[roots[0]])
    if root is None:
        raise NotARow("its first message is deleted")
    reached, pending = {roots[0]}, [(roots[0], root)]
    while pending:
        name, node = pending.pop()
        for child in children.get(name, ()):
            reached.add(child)
            if found := _node(raws[child]):
                node.replies.append(found)
                pending.append((child, found))
            else:
                reached |= _below(child, children)
    return _sorted(root), [name for name in raws if name not in reached]


def conversations(root: Node, paths: str = "best") -> Iterator[tuple[Turn, ...]]:
    """The ways through a tree: the best reply each time, or all of them. What several ways share is
    learnt in the first alone. Raises NotARow where nobody answers."""
    learnt: set[int] = set()
    for path in _ways(root, paths == "best"):
        while path and path[-1].role != "assistant":
            path.pop()
        new = {id(node) for node in path if node.role == "assistant"} - learnt
        if new:
            learnt |= new
            yield tuple(Turn(node.role, node.text, id(node) in new) for node in path)
    if not learnt:
        raise NotARow("no message of the assistant: there is nothing to learn")


def _ways(root: Node, only_best: bool) -> Iterator[list[Node]]:
    """From the root to each leaf, the best first."""
    pending: list[tuple[Node, int]] = [(root, 0)]
    path: list[Node] = []
    while pending:
        node, depth = pending.pop()
        del path[depth:]
        path.append(node)
        replies = node.replies[:1] if only_best else node.replies
        if not replies:
            yield list(path)
        pending += [(reply, depth + 1) for reply in reversed(replies)]


def _node(raw: Mapping[str, Any]) -> Node | None:
    """The message; None for one that its people took out."""
    if raw.get("deleted") is True or raw.get("review_result") is False:
        return None
    said = raw.get("role")
    role = _ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise NotARow(f"a message has the role {said!r}: a role is prompter (user) or assistant")
    rank = raw.get("rank")
    is_rank = isinstance(rank, int | float) and math.isfinite(rank)
    place = int(max(-_LAST, min(_LAST, rank))) if is_rank and rank is not None else _LAST
    return Node(role, text_of(raw.get("text", raw.get("content")), "a message"), place)


def _sorted(root: Node) -> Node:
    pending = [root]
    while pending:
        node = pending.pop()
        node.replies.sort(key=lambda reply: reply.rank)  # stable: as they stood where ranks tie
        pending += node.replies
    return root


def _below(name: str, children: Mapping[str, list[str]]) -> set[str]:
    """All that hangs on a message."""
    found: set[str] = set()
    pending = [name]
    while pending:
        more = [child for child in children.get(pending.pop(), ()) if child not in found]
        found.update(more)
        pending += more
    return found
