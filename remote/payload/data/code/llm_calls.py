"""Calls of language models in a module: where, which model, with which prompt and parameters, as
far as the text tells."""

import ast
import re
from dataclasses import dataclass

from remote.payload.data.code.facts import Facts, dotted, in_full, walked

_METHODS = (
    "chat.completions.create",
    "chat.completions.parse",
    "chat.completions.stream",
    "beta.chat.completions.parse",
    "completions.create",
    "responses.create",
    "responses.parse",
    "responses.stream",
    "messages.create",
    "messages.stream",
    "messages.parse",
    "chat.complete",
    "chat.stream",
    "ChatCompletion.create",
    "Completion.create",
    "generate_content",
    "generate_content_stream",
    "generate_content_async",
    "chat_completion",
    "text_generation",
    "create_chat_completion",
    "create_completion",
    "converse",
    "converse_stream",
    "invoke_model",
)
_LIBRARIES = {
    "openai",
    "anthropic",
    "mistralai",
    "google",
    "cohere",
    "groq",
    "together",
    "litellm",
    "ollama",
    "huggingface_hub",
    "llama_cpp",
    "boto3",
    "vllm",
    "instructor",
}
"""One of these must be imported where the words alone could mean something else."""
_AMBIGUOUS = {"messages.create", "converse", "chat.stream", "completions.create", "messages.stream"}
_FUNCTIONS = re.compile(
    r"(litellm\.a?(text_)?completion|ollama\.((Async)?Client\.)?(chat|generate)"
    r"|langchain\w*(\.\w+)*\.(Chat\w+|Ollama\w*|OpenAI)|transformers\.pipeline)"
)
_ADDRESS = re.compile(
    r"/v1/(chat/)?completions|/v1/messages|/api/(chat|generate)\b|:generateContent"
)
_POSTS = {"post", "request", "urlopen", "Request"}
_MODEL = ("model", "model_name", "model_id", "modelId", "engine", "deployment")
_PROMPT = (
    "messages",
    "prompt",
    "input",
    "contents",
    "system",
    "system_prompt",
    "instructions",
    "inputs",
)
_MODEL_FIRST = {"chat", "generate", "completion", "acompletion", "text_completion"}
"""Callees whose first argument is the model."""
_NO_PROMPT = {"pipeline", *_POSTS}
"""And those whose arguments are no prompt."""
_LONGEST = 1500


@dataclass(frozen=True)
class LlmCall:
    """`model`, `prompt` and `parameters` are the text of the source, constants put in for their
    names; empty where the call does not have them."""

    within: str
    line: int
    callee: str
    model: str = ""
    prompt: str = ""
    parameters: tuple[tuple[str, str], ...] = ()


def calls_in(facts: Facts, tree: ast.Module) -> list[LlmCall]:
    """The calls in a module's syntax tree, in order of the text."""
    constants = _constants(tree)
    clients = _clients(facts, tree)
    found = []
    for node, within in walked(tree):
        if isinstance(node, ast.Call) and _is_llm(facts, node, clients, constants):
            found.append(_call(node, within, constants))
    return sorted(found, key=lambda call: (call.line, call.callee))


def _is_llm(
    facts: Facts, node: ast.Call, clients: dict[str, str], constants: dict[str, ast.expr]
) -> bool:
    written = _written(node.func)
    method = next((each for each in _METHODS if f".{written}".endswith(f".{each}")), "")
    if method and "." in written:
        return method not in _AMBIGUOUS or bool(facts.libraries & _LIBRARIES)
    name = dotted(node.func)
    first, _, rest = name.partition(".")
    full = f"{clients[first]}.{rest}" if first in clients else in_full(facts, name)
    if _FUNCTIONS.fullmatch(full):
        return True
    last = written.rpartition(".")[2]
    return last in _POSTS and any(
        _ADDRESS.search(_text(each, constants)) for each in (*node.args, *_values(node))
    )


def _clients(facts: Facts, tree: ast.Module) -> dict[str, str]:
    """Names that hold a client of Ollama, which says `chat` and `generate` like anybody."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            made = in_full(facts, dotted(node.value.func))
            if made in {"ollama.Client", "ollama.AsyncClient"}:
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = made
    return found


def _call(node: ast.Call, within: str, constants: dict[str, ast.expr]) -> LlmCall:
    given = {each.arg: each.value for each in node.keywords if each.arg}
    for each in node.keywords:
        if each.arg is None and isinstance(each.value, ast.Dict):  # **{…}
            given |= _items(each.value)
    if isinstance(given.get("json"), ast.Dict):  # what is posted
        given |= _items(given.pop("json"))
    texts = {name: _text(value, constants) for name, value in given.items()}
    written, others = _written(node.func), [_text(each, constants) for each in node.args]
    last = written.rpartition(".")[2]
    model = next((texts[name] for name in _MODEL if name in texts), "")
    if not model and others and last in _MODEL_FIRST:
        model = others.pop(0)
    prompts = [f"{name}: {texts[name]}" for name in _PROMPT if name in texts]
    if not prompts and last in _NO_PROMPT:
        texts |= {f"argument {number}": text for number, text in enumerate(others, 1)}
    elif not prompts:
        prompts = others
    rest = {name: text for name, text in texts.items() if name not in (*_MODEL, *_PROMPT)}
    return LlmCall(
        within,
        node.lineno,
        written,
        model,
        "\n".join(prompts)[:_LONGEST],
        tuple((name, text[:200]) for name, text in sorted(rest.items())),
    )


def _items(node: ast.AST) -> dict[str, ast.expr]:
    if not isinstance(node, ast.Dict):
        return {}
    return {
        str(key.value): value
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant)
    }


def _values(node: ast.Call) -> list[ast.expr]:
    return [each.value for each in node.keywords]


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that are given one plain text, number or list, once."""
    found: dict[str, ast.expr] = {}
    twice: set[str] = set()
    for node in ast.walk(tree):
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.For | ast.NamedExpr)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name):
                if target.id in found:
                    twice.add(target.id)
                value = getattr(node, "value", None)
                if isinstance(value, ast.Constant | ast.JoinedStr | ast.List | ast.Dict):
                    found[target.id] = value
                else:
                    twice.add(target.id)
    return {name: value for name, value in found.items() if name not in twice}


def _written(node: ast.AST) -> str:
    """A callee as it is written, what is no name cut away: `a().chat.create` is `….chat.create`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    first = node.id if isinstance(node, ast.Name) else "…"
    return ".".join([first, *reversed(parts)])


def _text(node: ast.expr, constants: dict[str, ast.expr], depth: int = 0) -> str:
    """An expression as text: a plain text as it is, a name by what it was given."""
    if isinstance(node, ast.Name) and node.id in constants and depth < 3:
        return _text(constants[node.id], constants, depth + 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(each.value)
            if isinstance(each, ast.Constant)
            else "{"
            + ast.unparse(each.value if isinstance(each, ast.FormattedValue) else each)
            + "}"
            for each in node.values
        )
    if isinstance(node, ast.List):
        return "\n".join(_message(each, constants, depth) for each in node.elts)
    return ast.unparse(node)


def _message(node: ast.expr, constants: dict[str, ast.expr], depth: int) -> str:
    """A message as `role: content`."""
    items = _items(node)
    if {"role", "content"} <= set(items):
        role, content = (_text(items[name], constants, depth + 1) for name in ("role", "content"))
        return f"{role}: {content}"
    return _text(node, constants, depth + 1)
