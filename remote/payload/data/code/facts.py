"""What one module defines, imports and uses of others."""

import ast
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

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
    """A module that is imported, with a name of it where one is, at a line."""

    module: str
    name: str
    line: int
    is_ours: bool


@dataclass(frozen=True)
class Use:
    """Where a name of another module is used: `how` is calls, extends, or refers to; `within` the
    function or class."""

    module: str
    name: str
    how: str
    within: str
    line: int


@dataclass
class Facts:
    """All that is known of a module. `bindings` are its names for what it imports, in full."""

    module: Module
    tree: ast.Module
    about: str = ""
    definitions: list[Definition] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    bindings: dict[str, str] = field(default_factory=dict)
    external: set[str] = field(default_factory=set)

    @property
    def places(self) -> dict[str, Definition]:
        """Definitions by their name."""
        return {each.name: each for each in self.definitions}


def facts_of(module: Module, known: Collection[str]) -> Facts:
    """The facts; `known` are the names of all modules of the code base. Raises NotPython."""
    facts = Facts(module, parsed(module))
    facts.about = about(facts.tree)
    for node in ast.walk(facts.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            _imported(facts, node, known)
    for node, within in walked(facts.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            name = node.name if within == TOP else f"{within}.{node.name}"
            facts.definitions.append(Definition(name, kind, node.lineno, about(node)))
    _used(facts, known)
    facts.imports.sort(key=lambda each: (each.line, each.module, each.name))
    facts.uses.sort(key=lambda each: (each.line, each.module, each.name, each.how))
    return facts


def parsed(module: Module) -> ast.Module:
    """The syntax tree. Raises NotPython."""
    content = module.path.read_bytes()
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


def _imported(facts: Facts, node: "ast.Import | ast.ImportFrom", known: Collection[str]) -> None:
    for alias in node.names:
        if isinstance(node, ast.Import):
            full = alias.name
            facts.bindings[alias.asname or full.partition(".")[0]] = (
                full if alias.asname else full.partition(".")[0]
            )
        else:
            base = _base(facts.module, node)
            full = f"{base}.{alias.name}" if base and alias.name != "*" else base or alias.name
            if alias.name != "*":
                facts.bindings[alias.asname or alias.name] = full
        module, rest = owner_of(full, known)
        if module and module != facts.module.name:
            facts.imports.append(Import(module, rest, node.lineno, is_ours=True))
        elif not module and not getattr(node, "level", 0):
            facts.imports.append(Import(full.partition(".")[0], "", node.lineno, is_ours=False))
            facts.external.add(full.partition(".")[0])


def _base(module: Module, node: ast.ImportFrom) -> str:
    """The module behind `from`, relative ones in full."""
    if not node.level:
        return node.module or ""
    parts = module.package.split(".")
    above = parts[: len(parts) - (node.level - 1)]
    return ".".join([*above, *([node.module] if node.module else [])])


def _used(facts: Facts, known: Collection[str]) -> None:
    roles: dict[int, str] = {}
    inner: set[int] = set()
    for node, within in walked(facts.tree):
        if isinstance(node, ast.Call):
            roles[id(node.func)] = "calls"
        elif isinstance(node, ast.ClassDef):
            roles.update((id(base), "extends") for base in node.bases)
        if not isinstance(node, ast.Name | ast.Attribute) or id(node) in inner:
            continue
        name = dotted(node)
        if not name:
            continue
        inner.update(id(each) for each in ast.walk(node))
        module, rest = owner_of(in_full(facts, name), known)
        if module and rest and module != facts.module.name:
            how = roles.get(id(node), "refers to")
            facts.uses.append(Use(module, rest, how, within, node.lineno))
