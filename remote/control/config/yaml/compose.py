"""`extends:` one recipe builds on another. Mappings merge key by key; anything else replaces what
it extends."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from remote.contract.artifacts import chat_templates
from remote.control import project
from remote.control.config.yaml.source import Keys, Source, read, shown
from remote.control.errors import Finding

MOST_EXTENDED = 20
"""How many recipes one may build on, one upon the other."""


def compose(path: Path, shipped: str) -> Source:
    """The file with all it extends merged in; every value keeps the line of the file that holds it.
    `shipped` is the folder of the recipes that ship with Windlass."""
    return _compose(path, project.SHIPPED / shipped, ())


def _compose(path: Path, shipped: Path, before: tuple[Path, ...]) -> Source:
    source = read(path)
    _take_in_template(source)
    if not isinstance(source.value, dict) or "extends" not in source.value:
        return source
    where = source.where("extends")
    wanted = source.value.pop("extends")
    if not isinstance(wanted, str):
        example = "write, for example, `extends: base/mistral-7b.yaml`"
        source.findings.append(
            Finding(
                where, f"`extends` is {str(wanted)[:100]!r}", "the path of another recipe", example
            )
        )
        return source
    chain, target = (*before, path.resolve()), _extended(path, wanted, shipped)
    if target in chain:
        circle = " -> ".join(shown(file) for file in (*chain[chain.index(target) :], target))
        source.findings.append(
            Finding(
                where,
                f"`extends` runs in a circle: {circle}",
                "recipes that end",
                "remove one `extends:`",
            )
        )
        return source
    if len(chain) > MOST_EXTENDED:
        what = f"`extends` leads through more than {MOST_EXTENDED} recipes"
        source.findings.append(
            Finding(where, what, "a few recipes, one upon the other", "join some of them")
        )
        return source
    if not (project.is_there(target) and target.is_file()):
        what = f"`extends: {wanted}`: there is no file {shown(target)}"
        source.findings.append(
            Finding(where, what, "a recipe, relative to this file", "correct the path")
        )
        return source
    return _merge(_compose(target, shipped, chain), source)


def _extended(path: Path, wanted: str, folder: Path) -> Path:
    """The recipe beside the one in `path`, else the shipped one of that name."""
    beside, shipped = (path.parent / wanted).resolve(), folder / wanted
    return shipped if not project.is_file(beside) and project.is_file(shipped) else beside


def _take_in_template(source: Source) -> None:
    """Put a Jinja file's text in place of its name, `base.chat_template`: the recipe travels to the
    box, that file does not."""
    base = source.value.get("base") if isinstance(source.value, dict) else None
    wanted = base.get("chat_template") if isinstance(base, dict) else None
    if (
        not isinstance(base, dict)
        or not isinstance(wanted, str)
        or wanted in chat_templates.BUILT_IN
        or chat_templates.is_text(wanted)
    ):
        return
    file, where = (source.path.parent / wanted).resolve(), source.where("base", "chat_template")
    expected = f"{', '.join(chat_templates.BUILT_IN)}, or a Jinja file relative to this recipe"
    try:
        base["chat_template"] = chat_templates.text_of(
            file.read_bytes()[: 4 * chat_templates.MAX_CHARACTERS + 1].decode("utf-8-sig")
        )
    except (OSError, ValueError) as error:
        base["chat_template"] = None
        why = error.strerror if isinstance(error, OSError) else str(error)
        source.findings.append(
            Finding(
                where,
                f"`base.chat_template: {wanted}`: {shown(file)}: {why}",
                expected,
                "correct the name",
            )
        )


def _merge(base: Source, over: Source) -> Source:
    merged = Source(over.path, lines=dict(base.lines), findings=[*base.findings, *over.findings])
    merged.value = _merged(base.value, over.value, (), merged, over)
    return merged


def _merged(base: Any, over: Any, keys: Keys, result: Source, source: Source) -> Any:
    result.lines[keys] = source.where(*keys)
    if not (isinstance(base, dict) and isinstance(over, dict)):
        _take_lines(base, over, keys, result, source)
        return over
    values = dict(base)
    for key, value in over.items():
        values[key] = _merged(base.get(key), value, (*keys, key), result, source)
    return values


def _take_lines(base: Any, over: Any, keys: Keys, result: Source, source: Source) -> None:
    for stale in _ways(base, keys):
        result.lines.pop(stale, None)
    result.lines.update(
        {known: source.lines[known] for known in _ways(over, keys) if known in source.lines}
    )
    result.lines.setdefault(keys, source.where(*keys))


def _ways(value: Any, keys: Keys) -> Iterator[Keys]:
    """The way to a value and to each that it holds."""
    yield keys
    items: Iterable[tuple[str | int, Any]] = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield from _ways(item, (*keys, key))
