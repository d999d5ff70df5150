"""What one module defines, imports and uses of others."""

import ast
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remote.contract.files import digest, regular_files
from remote.payload.data.code.tree import MAX_BYTES, Module

TOP = "<module>"
"""Where what stands in no function happens."""


class NotPython(ValueError):
    """A file that Python does not read; says why, at `line` (from 1, or 0)."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True)
class Definition:
    """A function or class; `about` is the first line of its docstring."""

    name: str
    kind: str
    line: int
    about: str = ""


@dataclass(frozen=True)
class Import:
    """A name that is imported, in full, and whether `import` or `from` names it at that line."""

    name: str
    line: int


@dataclass(frozen=True)
class Use:
    """Where an imported name is used, in full: `how` is calls, extends, or refers to; `within` the
    function or class."""

    name: str
    how: str
    within: str
    line: int


@dataclass
class Facts:
    """What a module's text tells by itself. `bindings` are its own names for what it imports."""

    module: Module
    about: str = ""
    definitions: list[Definition] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    bindings: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, Definition]:
        """Definitions by their name."""
        return {each.name: each for each in self.definitions}

    @property
    def libraries(self) -> set[str]:
        """The first part of all that it imports."""
        return {each.name.partition(".")[0] for each in self.imports}


def facts_of(module: Module) -> Facts:
    """The facts. Raises NotPython."""
    return facts_in(module, parsed(module))


def facts_in(module: Module, tree: ast.Module) -> Facts:
    """The facts in a syntax tree."""
    facts = Facts(module, about(tree))
    nodes = list(walked(tree))
    for node, within in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            _import(facts, node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            name = node.name if within == TOP else f"{within}.{node.name}"
            facts.definitions.append(Definition(name, kind, node.lineno, about(node)))
    _use(facts, nodes)
    facts.uses.sort(key=lambda each: (each.line, each.name, each.how))
    return facts


def imports_in(task: Mapping[str, Any]) -> list[str]:
    """In a worker: the full names that a module imports. Raises NotPython."""
    module = Module(task["name"], task["file"], Path(task["path"]), task["is_package"])
    return sorted({each.name for each in facts_of(module).imports})


def parsed(module: Module) -> ast.Module:
    """The syntax tree. Raises NotPython, and ValueError for a file that is another by now."""
    with regular_files.opened(module.path) as file:
        content = file.read(MAX_BYTES + 1)
    if module.digest and digest.of_bytes(content) != module.digest:
        raise ValueError(f"{module.file} was changed after it was listed")
    if len(content) > MAX_BYTES:
        raise NotPython(f"more than {MAX_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about their escapes and the like
            return ast.parse(content)
    except SyntaxError as error:
        raise NotPython(f"not Python: {error.msg}", error.lineno or 0) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotPython(f"not Python: {error or type(error).__name__}") from None


def about(node: "ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef") -> str:
    """The first paragraph of a docstring, on one line."""
    paragraph = (ast.get_docstring(node) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def walked(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Each node with the function or class that it stands in, in order of the text."""
    pending: list[tuple[ast.AST, str]] = [(tree, TOP)]
    while pending:
        node, within = pending.pop()
        yield node, within
        inside = within
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = node.name if within == TOP else f"{within}.{node.name}"
        pending.extend((child, inside) for child in reversed(list(ast.iter_child_nodes(node))))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name with attributes; empty for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def in_full(facts: Facts, name: str) -> str:
    """A dotted name with what its first part was imported as; empty where it was not imported."""
    first, dot, rest = name.partition(".")
    return f"{facts.bindings[first]}{dot}{rest}" if first in facts.bindings else ""


def owner_of(name: str, known: Collection[str]) -> tuple[str, str]:
    """The module of ours that a full name stands in, and the rest of it; empty where none does."""
    module, rest = name, ""
    while module and module not in known:
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
    return module, rest


def _import(facts: Facts, node: "ast.Import | ast.ImportFrom") -> None:
    for alias in node.names:
        if isinstance(node, ast.Import):
            full, first = alias.name, alias.name.partition(".")[0]
            facts.bindings[alias.asname or first] = full if alias.asname else first
        else:
            full = ".".join(
                part for part in (_base(facts.module, node), alias.name.strip("*")) if part
            )
            if alias.name != "*":
                facts.bindings[alias.asname or alias.name] = full
        facts.imports.append(Import(full, node.lineno))


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The module behind `from`, relative ones in full."""
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    above = parts[: len(parts) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])


def _use(facts: Facts, nodes: "list[tuple[ast.AST, str]]") -> None:
    roles: dict[int, str] = {}
    inner: set[int] = set()
    for node, within in nodes:
        if isinstance(node, ast.Call):
            roles[id(node.func)] = "calls"
        elif isinstance(node, ast.ClassDef):
            roles.update((id(base), "extends") for base in node.bases)
        if not isinstance(node, ast.Name | ast.Attribute) or id(node) in inner:
            continue
        if name := in_full(facts, dotted(node)):
            inner.update(id(each) for each in ast.walk(node))
            how = roles.get(id(node), "refers to")
            facts.uses.append(Use(name, how, within, node.lineno))
